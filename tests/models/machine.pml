/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine that the rings run on: memory, and two CPUs with a store buffer each.
 *
 * A store goes into its CPU's buffer. That CPU sees it from then on, the other one when it is committed, at any
 * later moment: the Drain processes commit. Loads are served at once. That is x86's TSO, and Promela's own
 * variables without the buffers would be sequentially consistent, where no fence is ever missed.
 *
 * With -DRELAXED stores to different words are committed in any order, as on ARM; only a release store waits for
 * all before it. Loads that run ahead are not in the machine: a model that leaves out an acquire does its loads
 * in the other order instead.
 *
 * Before this file a model defines WORDS, DEPTH (entries of a store buffer; a full one makes its CPU wait), and
 * COMMITTED(cpu, word), what it has to say when a store becomes visible.
 */

/* Indices are cut to three bits: 2 slots and 4 entries from FIRST on go across the wrap. */
#define DIFF(a, b) (((a) - (b)) & 7)
#define ADD(a, b) (((a) + (b)) & 7)

byte memory[WORDS];

typedef Buffer {
	byte word[DEPTH];
	byte value[DEPTH];
#ifdef RELAXED
	bool release[DEPTH];
#endif
	byte used
};

Buffer buffer[2];

/* Event channels: a pipe with something in it. Writing to it does not drain the store buffer here, though in
 * truth the kernel's lock does. */
bool pending[2];

byte at, next; /* 0 between uses */

inline put(cpu, to, what, is_release)
{
	atomic {
		buffer[cpu].used < DEPTH ->
		buffer[cpu].word[buffer[cpu].used] = to;
		buffer[cpu].value[buffer[cpu].used] = what;
#ifdef RELAXED
		buffer[cpu].release[buffer[cpu].used] = is_release;
#endif
		buffer[cpu].used++
	}
}

inline store(cpu, to, what) { put(cpu, to, what, false) }

#ifdef NO_RELEASE
inline store_release(cpu, to, what) { put(cpu, to, what, false) }
#else
inline store_release(cpu, to, what) { put(cpu, to, what, true) }
#endif

/* The youngest store of our own to that word, or else memory. */
inline load(cpu, from, into)
{
	d_step {
		into = memory[from];
		at = 0;
		do
		:: at < buffer[cpu].used ->
			if
			:: buffer[cpu].word[at] == from -> into = buffer[cpu].value[at]
			:: else
			fi;
			at++
		:: else -> break
		od;
		at = 0
	}
}

/* A full barrier: goes on when all our stores are visible. */
inline fence(cpu) { buffer[cpu].used == 0 }

/* A full barrier on this CPU and, at one moment meanwhile, on the other, wherever its program is. */
inline membarrier() { (buffer[0].used == 0 && buffer[1].used == 0) }

inline commit(cpu, which)
{
	memory[buffer[cpu].word[which]] = buffer[cpu].value[which];
	COMMITTED(cpu, buffer[cpu].word[which]);
	next = which + 1;
	do
	:: next < buffer[cpu].used ->
		buffer[cpu].word[next - 1] = buffer[cpu].word[next];
		buffer[cpu].value[next - 1] = buffer[cpu].value[next];
#ifdef RELAXED
		buffer[cpu].release[next - 1] = buffer[cpu].release[next];
#endif
		next++
	:: else -> break
	od;
	buffer[cpu].used--;
	/* what is no longer used must not make two states of one */
	buffer[cpu].word[buffer[cpu].used] = 0;
	buffer[cpu].value[buffer[cpu].used] = 0;
#ifdef RELAXED
	buffer[cpu].release[buffer[cpu].used] = false;
#endif
	next = 0
}

#ifdef RELAXED
/* May store number i overtake all before it? Not one to the same word, and a release overtakes nothing. */
#define AHEAD(cpu, i, j) (i <= j || buffer[cpu].word[j] != buffer[cpu].word[i])
#define MAY(cpu, i) (buffer[cpu].used > i && (i == 0 || !buffer[cpu].release[i]) && \
	AHEAD(cpu, i, 0) && AHEAD(cpu, i, 1) && AHEAD(cpu, i, 2))
#if DEPTH > 4
#error "DEPTH is more than MAY looks at"
#endif
#endif

proctype Drain(byte cpu)
{
end:	do
	:: d_step { buffer[cpu].used > 0 -> commit(cpu, 0) }
#ifdef RELAXED
	:: d_step { MAY(cpu, 1) -> commit(cpu, 1) }
	:: d_step { MAY(cpu, 2) -> commit(cpu, 2) }
	:: d_step { MAY(cpu, 3) -> commit(cpu, 3) }
#endif
	od
}
