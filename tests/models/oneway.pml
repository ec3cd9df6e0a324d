/* SPDX-License-Identifier: Apache-2.0
 *
 * One-way ring: a producer, and a consumer whose index frees the slots. Producer and consumer push, pop, kick, arm
 * and wait for space in every way they are allowed to.
 *
 * Checked in every interleaving: both come to their end, each entry is read after it was written and as it was
 * written, once and in order, and no slot is written before its entry was copied. Written means: visible.
 *
 * Further ways to break it:
 *   -DNO_RELEASE -DRELAXED   the producer's index overtakes the entries before it
 *   -DNO_ACQUIRE             entries are loaded before the index that says they are there
 *   -DEARLY_INDEX            the consumer's index is published before its loads, as without release
 *   -DNO_KICK_FOR_SPACE      the consumer does not kick before it sleeps
 */

#define PRODUCER 0
#define CONSUMER 1

#define SLOTS 2
#ifndef ENTRIES
#define ENTRIES 4
#endif
#define FIRST 6

#define REQ_PROD 0
#define RSP_EVENT 1
#define RSP_PROD 2
#define REQ_EVENT 3
#define SLOT(index) (4 + ((index) & (SLOTS - 1)))
#define WORDS (4 + SLOTS)

#ifndef DEPTH
#define DEPTH 4
#endif

bool filled[SLOTS];

#define COMMITTED(cpu, which) \
	if \
	:: which >= 4 -> assert(!filled[which - 4]); filled[which - 4] = true \
	:: else \
	fi

#include "machine.pml"
#include "kick_arm.pml"

/* How far the consumer is; what it has passed is free. */
inline absorb()
{
	load(PRODUCER, RSP_PROD, word);
	d_step {
		assert(DIFF(word, cons) <= DIFF(prod, cons));
		cons = word;
		word = 0
	}
}

#define FREE_SLOTS (SLOTS - DIFF(prod, cons))

proctype Producer()
{
	byte prod = FIRST, cons = FIRST, kicked = FIRST;
	byte sent, wanted;
	byte word;
	bool late;

	do
	:: sent < ENTRIES ->
		if
		:: wanted = 1
		:: sent + 1 < ENTRIES -> wanted = 2
		fi;
		/* push: looks at the consumer's index only if there is less room than wanted */
		if
		:: FREE_SLOTS < wanted -> absorb()
		:: else
		fi;
		if
		:: FREE_SLOTS ->
			do
			:: wanted && FREE_SLOTS ->
				store(PRODUCER, SLOT(prod), sent + 1);
				d_step { sent++; prod = ADD(prod, 1); wanted-- }
			:: else -> break
			od;
			store_release(PRODUCER, REQ_PROD, prod)
		:: else
		fi;
		if
		:: wanted -> /* not all went in: kick, arm_space, sleep */
			kick(PRODUCER, prod, kicked, REQ_EVENT);
			if
			:: true
			:: wanted < 2 && sent + 1 < ENTRIES -> wanted = 2 /* it may wait for more than it lacks */
			fi;
			absorb();
			if
			:: FREE_SLOTS >= wanted
			:: else ->
				arm(PRODUCER, cons, wanted - FREE_SLOTS, RSP_EVENT, RSP_PROD);
				if
				:: late -> late = false
				:: else -> sleep(PRODUCER, cons, wanted - FREE_SLOTS, RSP_PROD)
				fi
			fi;
			wanted = 0
		:: else ->
			if
			:: kick(PRODUCER, prod, kicked, REQ_EVENT)
			:: true /* later, with more */
			fi
		fi
	:: else -> break
	od;
	kick(PRODUCER, prod, kicked, REQ_EVENT)
}

proctype Consumer()
{
	byte prod = FIRST, cons = FIRST, kicked = FIRST; /* prod: the index that it has published */
	byte taken;
	byte word, available, early;
	bool late;

	do
	:: taken < ENTRIES ->
#ifdef NO_ACQUIRE
		load(CONSUMER, SLOT(cons), early);
		load(CONSUMER, REQ_PROD, word);
		d_step {
			assert(word == cons || early == taken + 1);
			early = 0;
			word = 0
		}
#endif
		load(CONSUMER, REQ_PROD, word);
		d_step {
			available = DIFF(word, cons);
			assert(available <= SLOTS);
			word = 0
		}
#ifdef EARLY_INDEX
		store_release(CONSUMER, RSP_PROD, ADD(cons, available));
#endif
		do
		:: available ->
			atomic {
				load(CONSUMER, SLOT(cons), word);
				assert(filled[cons & (SLOTS - 1)]);
				filled[cons & (SLOTS - 1)] = false;
				taken++;
				assert(word == taken);
				cons = ADD(cons, 1);
				available--;
				word = 0;
				late = true
			}
#ifndef EARLY_INDEX
			if
			:: true
			:: available = 0
			fi
#endif
		:: else -> break
		od;
		if
		:: late ->
			late = false;
			prod = cons;
			store_release(CONSUMER, RSP_PROD, prod);
			if
			:: kick(CONSUMER, prod, kicked, RSP_EVENT)
			:: true
			fi
		:: else ->
#ifndef NO_KICK_FOR_SPACE
			kick(CONSUMER, prod, kicked, RSP_EVENT);
#endif
			arm(CONSUMER, cons, 1, REQ_EVENT, REQ_PROD);
			if
			:: late -> late = false
			:: else -> sleep(CONSUMER, cons, 1, REQ_PROD)
			fi
		fi
	:: else -> break
	od
}

init {
	atomic {
		memory[REQ_PROD] = FIRST; memory[RSP_PROD] = FIRST;
		memory[REQ_EVENT] = ADD(FIRST, 1); memory[RSP_EVENT] = ADD(FIRST, 1);
		run Drain(PRODUCER); run Drain(CONSUMER); run Producer(); run Consumer()
	}
}
