/* SPDX-License-Identifier: Apache-2.0
 *
 * One direction of a byte stream (xenlike/_core/xl_stream.c): a writer with messages of any length, also longer
 * than the ring, and a reader that reads any number at a time. `kick` at any time between a change and a wait.
 *
 * Checked in every interleaving: both come to their end, each byte is read after it was written and as it was
 * written, once and in order, and no byte is written over one that was not copied. Written means: visible.
 *
 * Ways to break it:
 *   -DNO_WRITE_FENCE, -DNO_READ_FENCE
 *   -DWRITE_ONCE             the writer sleeps after a part, without having seen the ring full
 *   -DREAD_ONCE              the reader sleeps after a read that brought something
 *   -DNO_RELEASE -DRELAXED   the writer's index overtakes its bytes
 *   -DNO_ACQUIRE             bytes are loaded before the index that says they are there
 *   -DEARLY_INDEX            the reader's index is published before its loads, as without release
 */

#define WRITER 0
#define READER 1

#define SIZE 2
#ifndef BYTES
#define BYTES 4
#endif
#define FIRST 6

#define CONS 0
#define PROD 1
#define DATA(index) (2 + ((index) & (SIZE - 1)))
#define WORDS (2 + SIZE)

#ifndef DEPTH
#define DEPTH 4
#endif

bool filled[SIZE];

#define COMMITTED(cpu, which) \
	if \
	:: which >= 2 -> assert(!filled[which - 2]); filled[which - 2] = true \
	:: else \
	fi

#include "machine.pml"

/* With sign, where the C has one. */
#define NOT_BEFORE(a, b) (DIFF(a, b) < 4)

inline kick(cpu)
{
	d_step {
		if
		:: notify -> pending[1 - cpu] = true; notify = false
		:: else
		fi
	}
}

inline sleep(cpu) { d_step { pending[cpu] -> pending[cpu] = false } }

proctype Writer()
{
	byte sent, length; /* bytes so far, bytes left of the message */
	byte prod, cons, count;
	bool notify;

	do
	:: sent < BYTES ->
		if
		:: length = 1
		:: sent + 2 <= BYTES -> length = 2
		:: sent + 3 <= BYTES -> length = 3
		fi;
again:		/* xl_stream_write */
		do
		:: length ->
			load(WRITER, CONS, cons);
			load(WRITER, PROD, prod);
			d_step {
				assert(DIFF(prod, cons) <= SIZE);
				count = SIZE - DIFF(prod, cons);
				cons = 0;
				if
				:: count > length -> count = length
				:: else
				fi
			}
			if
			:: !count -> break
			:: else
			fi;
			length = length - count;
			do
			:: count ->
				store(WRITER, DATA(prod), sent + 1);
				d_step { sent++; prod = ADD(prod, 1); count--; cons++ }
			:: else -> break
			od;
			store_release(WRITER, PROD, prod);
			prod = DIFF(prod, cons); /* the index before */
			cons = 0;
#ifndef NO_WRITE_FENCE
			fence(WRITER);
#endif
			load(WRITER, CONS, cons);
			d_step {
				if
				:: NOT_BEFORE(cons, prod) -> notify = true
				:: else
				fi;
				cons = 0
			}
#ifdef WRITE_ONCE
			break
#endif
		:: else -> break
		od;
		atomic { prod = 0; cons = 0 };
		if
		:: length -> kick(WRITER); sleep(WRITER); goto again
		:: else ->
			if
			:: kick(WRITER)
			:: true
			fi
		fi
	:: else -> break
	od;
	kick(WRITER)
}

proctype Reader()
{
	byte taken, limit;
	byte prod, cons, count, byte_, early;
	bool notify;

	do
	:: taken < BYTES ->
		if
		:: limit = 1
		:: limit = 2
		fi;
#ifdef NO_ACQUIRE
		load(READER, CONS, cons);
		load(READER, DATA(cons), early);
#endif
		/* xl_stream_read */
		load(READER, CONS, cons);
		load(READER, PROD, prod);
		d_step {
			count = DIFF(prod, cons);
			assert(count <= SIZE);
#ifdef NO_ACQUIRE
			assert(!count || early == taken + 1);
			early = 0;
#endif
			prod = 0;
			if
			:: count > limit -> count = limit
			:: else
			fi;
			limit = 0
		}
		if
		:: count ->
			limit = count;
#ifdef EARLY_INDEX
			store_release(READER, CONS, ADD(cons, count));
#endif
			do
			:: count ->
				atomic {
					load(READER, DATA(cons), byte_);
					assert(filled[cons & (SIZE - 1)]);
					filled[cons & (SIZE - 1)] = false;
					taken++;
					assert(byte_ == taken);
					byte_ = 0;
					cons = ADD(cons, 1);
					count--
				}
			:: else -> break
			od;
#ifndef EARLY_INDEX
			store_release(READER, CONS, cons);
#endif
			cons = DIFF(cons, limit); /* the index before */
			limit = 0;
#ifndef NO_READ_FENCE
			fence(READER);
#endif
			load(READER, PROD, prod);
			d_step {
				if
				:: DIFF(prod, cons) >= SIZE -> notify = true
				:: else
				fi;
				prod = 0;
				cons = 0
			}
#ifdef READ_ONCE
			kick(READER);
			if
			:: taken < BYTES -> sleep(READER)
			:: else
			fi
#else
			if
			:: kick(READER)
			:: true
			fi
#endif
		:: else ->
			cons = 0;
			kick(READER);
			sleep(READER)
		fi
	:: else -> break
	od;
	kick(READER)
}

init {
	atomic {
		memory[CONS] = FIRST; memory[PROD] = FIRST;
		run Drain(WRITER); run Drain(READER); run Writer(); run Reader()
	}
}
