/* SPDX-License-Identifier: Apache-2.0
 *
 * Request ring, both layouts (`xen`, and `cacheline` in its index form, differ only in where the words lie): a
 * front and a back that push, pop, kick and arm in every way they are allowed to.
 *
 * Checked in every interleaving: both ends come to their end (none sleeps with work pending), each request and
 * response is read after it was written and as it was written, each once, and a slot goes
 *
 *     FREE -> written by the front, REQUEST -> copied by the back, TAKEN
 *          -> written by the back, RESPONSE -> copied by the front, FREE
 *
 * where "written" is the moment at which memory changes, however late that is.
 *
 * -DTAG is the tag form of `cacheline`: no index is published, each slot has a tag that says what it holds.
 *
 * Further ways to break it:
 *   -DNO_RELEASE -DRELAXED   indices or tags overtake the entries before them
 *   -DNO_ACQUIRE             entries are loaded before the index or tag that says they are there
 *   -DNO_ROOM_CHECK          the front trusts that a ring's length of requests has surely been answered
 */

#define FRONT 0
#define BACK 1

#define SLOTS 2
#ifndef REQUESTS
#define REQUESTS 3
#endif
#define FIRST 6

/* The words of the page. */
#define REQ_PROD 0
#define RSP_EVENT 1
#define RSP_PROD 2
#define REQ_EVENT 3
#define SLOT(index) (4 + ((index) & (SLOTS - 1)))
#ifdef TAG
#define TAG_OF(index) (4 + SLOTS + ((index) & (SLOTS - 1)))
#define WORDS (4 + 2 * SLOTS)
#else
#define WORDS (4 + SLOTS)
#endif

#ifndef DEPTH
#define DEPTH 4
#endif

mtype = { FREE, REQUEST, TAKEN, RESPONSE };
mtype slot[SLOTS];

#define COMMITTED(cpu, which) \
	if \
	:: which >= 4 && which < 4 + SLOTS && cpu == FRONT -> assert(slot[which - 4] == FREE); slot[which - 4] = REQUEST \
	:: which >= 4 && which < 4 + SLOTS && cpu == BACK -> assert(slot[which - 4] == TAKEN); slot[which - 4] = RESPONSE \
	:: else \
	fi

#include "machine.pml"

#ifdef TAG
/* Tags are cut to four bits, one more than indices. */
#define MY_TAG(cpu, index) ((2 * (index) + 1 + (cpu)) & 15)
#define FULL(cpu, index) MY_TAG(1 - cpu, index)
#define ON_FIRST_LAP(index) (DIFF(index, FIRST) < SLOTS)
#define EMPTY(cpu, tag, index) ((cpu == FRONT && tag == MY_TAG(FRONT, index)) || \
	(cpu == BACK && ON_FIRST_LAP(index) && tag == 0) || \
	(cpu == BACK && !ON_FIRST_LAP(index) && tag == MY_TAG(BACK, ADD(index, 8 - SLOTS))))
#define MOST(cpu) (cpu == FRONT && DIFF(word, cons) < DIFF(prod, cons) || \
	cpu == BACK && DIFF(word, cons) < SLOTS - DIFF(cons, prod))

inline by_tags(cpu)
{
	word = cons;
	do
	:: MOST(cpu) ->
		load(cpu, TAG_OF(word), tag);
		if
		:: tag == FULL(cpu, word) -> word = ADD(word, 1)
		:: else -> assert(EMPTY(cpu, tag, word)); break
		fi
	:: else -> break
	od;
	tag = 0
}

#define PRODUCED(cpu, peer_prod) by_tags(cpu)
#endif

#include "kick_arm.pml"

/* An entry, and what says that it is there. */
inline put_entry(cpu, index, what)
{
	store(cpu, SLOT(index), what);
#ifdef TAG
	store_release(cpu, TAG_OF(index), MY_TAG(cpu, index))
#endif
}

inline publish(cpu, my_prod, index)
{
#ifdef TAG
	skip
#else
	store_release(cpu, my_prod, index)
#endif
}

#define ANSWER(id) (16 + (id))

inline copy_out(cpu, index, from, to)
{
	atomic {
		assert(slot[(index) & (SLOTS - 1)] == from);
		load(cpu, SLOT(index), word);
		slot[(index) & (SLOTS - 1)] = to
	}
}

/* How many entries are there, and not more than there can be. */
inline look(cpu, peer_prod, cons, most)
{
	PRODUCED(cpu, peer_prod);
	d_step {
		available = DIFF(word, cons);
		assert(available <= most);
		word = 0
	}
}

proctype Front()
{
	byte prod = FIRST, cons = FIRST, kicked = FIRST;
	byte sent, in_flight; /* a count, and a set of ids */
	byte word, tag, available, ahead;
	bool late;

	do
	/* push one or more, with one index for all */
	:: sent < REQUESTS && (DIFF(prod, cons) < SLOTS) ->
		do
		:: sent < REQUESTS && (DIFF(prod, cons) < SLOTS) ->
			put_entry(FRONT, prod, sent + 1);
			d_step { sent++; prod = ADD(prod, 1); in_flight = in_flight | (1 << sent) }
			if
			:: true
			:: break
			fi
		:: else -> break
		od;
		publish(FRONT, REQ_PROD, prod);
		if
		:: kick(FRONT, prod, kicked, REQ_EVENT)
		:: true /* later, with more */
		fi
#ifdef NO_ROOM_CHECK
	:: sent < REQUESTS && DIFF(prod, cons) == SLOTS ->
		put_entry(FRONT, prod, sent + 1);
		d_step { sent++; prod = ADD(prod, 1); in_flight = in_flight | (1 << sent) }
		publish(FRONT, REQ_PROD, prod);
#endif
	:: prod != cons ->
		look(FRONT, RSP_PROD, cons, DIFF(prod, cons));
		do
		:: available ->
			copy_out(FRONT, cons, RESPONSE, FREE);
			d_step {
				assert(word & ANSWER(0));
				assert(in_flight & (1 << (word & 15)));
				in_flight = in_flight & ~(1 << (word & 15));
				cons = ADD(cons, 1);
				available--;
				word = 0;
				late = true /* something was done: no sleep now */
			}
			if
			:: true
			:: available = 0 /* the rest another time */
			fi
		:: else -> break
		od;
		if
		:: late -> late = false
		:: else ->
			kick(FRONT, prod, kicked, REQ_EVENT);
			if
			:: ahead = 1
			:: DIFF(prod, cons) > 1 -> ahead = 2
			fi;
			arm(FRONT, cons, ahead, RSP_EVENT, RSP_PROD);
			if
			:: late -> late = false
			:: else -> sleep(FRONT, cons, ahead, RSP_PROD)
			fi;
			ahead = 0
		fi
	:: prod == cons && sent == REQUESTS -> break
	od;
	assert(!in_flight)
}

proctype Back()
{
	byte prod = FIRST, cons = FIRST, kicked = FIRST;
	byte held, id; /* a set of ids */
	byte taken;
	byte word, tag, available, early;
	bool late;

	do
	:: taken < REQUESTS ->
#ifdef NO_ACQUIRE
		load(BACK, SLOT(cons), early);
		PRODUCED(BACK, REQ_PROD);
		d_step {
			assert(word == cons || early == taken + 1);
			early = 0;
			word = 0
		}
#endif
		look(BACK, REQ_PROD, cons, SLOTS - DIFF(cons, prod));
		do
		:: available ->
			copy_out(BACK, cons, REQUEST, TAKEN);
			d_step {
				taken++;
				assert(word == taken);
				held = held | (1 << word);
				cons = ADD(cons, 1);
				available--;
				word = 0;
				late = true
			}
			if
			:: true
			:: available = 0
			fi
		:: else -> break
		od;
		if
		:: late -> late = false
		:: !late && !held ->
			kick(BACK, prod, kicked, RSP_EVENT);
			arm(BACK, cons, 1, REQ_EVENT, REQ_PROD);
			if
			:: late -> late = false
			:: else -> sleep(BACK, cons, 1, REQ_PROD)
			fi
		:: else
		fi
	/* answer one or more, in any order */
	:: held ->
		do
		:: held ->
			if /* whichever the model likes */
			:: held & 2 -> id = 1
			:: held & 4 -> id = 2
			:: held & 8 -> id = 3
			:: held & 16 -> id = 4
			fi;
			put_entry(BACK, prod, ANSWER(id));
			d_step { held = held & ~(1 << id); id = 0; prod = ADD(prod, 1) }
			if
			:: true
			:: break
			fi
		:: else -> break
		od;
		publish(BACK, RSP_PROD, prod);
		if
		:: kick(BACK, prod, kicked, RSP_EVENT)
		:: true
		fi
	:: taken == REQUESTS && !held ->
		kick(BACK, prod, kicked, RSP_EVENT);
		break
	od
}

init {
	atomic {
		memory[REQ_PROD] = FIRST; memory[RSP_PROD] = FIRST;
		memory[REQ_EVENT] = ADD(FIRST, 1); memory[RSP_EVENT] = ADD(FIRST, 1);
		slot[0] = FREE; slot[1] = FREE;
		run Drain(FRONT); run Drain(BACK); run Front(); run Back()
	}
}
