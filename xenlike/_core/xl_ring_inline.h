/* SPDX-License-Identifier: Apache-2.0
 *
 * The hot paths of a ring, inline: entries are written and read in place, in C that knows its layout.
 *
 *	fits = xl_ring_free(ring, n);                  what a producer does
 *	write xl_ring_out(ring, 0 .. n - 1)
 *	xl_ring_publish(ring, n);
 *	if (xl_ring_must_notify(ring)) xl_notify(fd);
 *
 *	n = xl_ring_waiting(ring, limit);              what a consumer does
 *	copy xl_ring_in(ring, 0 .. n - 1), once, and check the copies
 *	xl_ring_taken(ring, n);
 *
 * `xl_ring_push` and `xl_ring_pop` (xl_ring.c) are the same with entries in private memory. A caller whose ring is
 * always of one kind says so with XL_RING_IS, and the compiler drops what the other kinds need.
 */
#ifndef XL_RING_INLINE_H
#define XL_RING_INLINE_H

#include "xl_ring.h"

/* The caller's word that the ring is of this kind; a wrong one is undefined behaviour. */
#define XL_RING_IS(ring, side_, layout_, stride_)                                                            \
	do {                                                                                                 \
		if ((ring)->side != (side_) || (ring)->tagged != ((layout_) == XL_LAYOUT_TAG) ||              \
		    (ring)->stride != (stride_))                                                             \
			__builtin_unreachable();                                                             \
	} while (0)

static inline int xl_ring_is_front(const struct xl_ring *ring)
{
	return ring->side == XL_SIDE_FRONT || ring->side == XL_SIDE_PRODUCER;
}

static inline int xl_ring_refuse(const struct xl_ring *ring)
{
	return ring->broken == XL_RING_CLOSED ? -EBADF : -EPROTO;
}

static inline int xl_ring_break_off(struct xl_ring *ring, uint32_t index)
{
	ring->broken = (int32_t)(index - ring->cons) < 0 ? XL_RING_REWIND : XL_RING_OVERRUN;
	ring->bad_index = index;
	if (xl_traced(ring->recorder, XL_TRACE_RING))
		xl_trace_ring(ring, XL_TRACE_BREAK, ring->broken, index, 0, 0);
	return -EPROTO;
}

static inline struct xl_tagged_slot *xl_tagged_slot_at(const struct xl_ring *ring, uint32_t index)
{
	return (void *)(ring->slots + (size_t)(index & (ring->nr_slots - 1)) * ring->stride);
}

/*
 * Nothing is there yet: has the slot of the next entry come along with the word that will announce it, so that the
 * two cache misses are one. `from`: the first byte that the word's own line does not bring. A long entry's first
 * lines will do: they hide the latency, and this runs at every look that finds nothing.
 */
static inline void xl_ring_expect(const struct xl_ring *ring, uint32_t from)
{
	const char *slot = (const char *)xl_tagged_slot_at(ring, ring->cons);

	for (; from < ring->stride && from < 256; from += 64)
		__builtin_prefetch(slot + from);
}

/* How many entries wait for us, by the tags of at most `most` slots, and no more than `wanted` if there are. */
static inline int xl_ring_look_at_tags(struct xl_ring *ring, uint32_t most, uint32_t wanted)
{
	uint32_t tag, full, empty;

	if (wanted < most)
		most = wanted;
	for (; ring->seen - ring->cons < most; ring->seen++) {
		/* the entry in the slot is complete */
		tag = atomic_load_explicit(&xl_tagged_slot_at(ring, ring->seen)->tag, memory_order_acquire);
		if (xl_ring_is_front(ring)) {
			full = 2 * ring->seen + 2;
			empty = 2 * ring->seen + 1;
		} else {
			full = 2 * ring->seen + 1;
			/* remembered, because the distance comes round again after 2^32 entries */
			ring->lapped |= ring->seen - ring->first >= ring->nr_slots;
			empty = ring->lapped ? 2 * (ring->seen - ring->nr_slots) + 2 : 0;
		}
		if (tag == full)
			continue;
		if (tag == empty) {
			if (ring->seen == ring->cons)
				xl_ring_expect(ring, 64);
			break;
		}
		ring->broken = XL_RING_BAD_TAG;
		ring->bad_index = tag;
		return -EPROTO;
	}
	return (int)(ring->seen - ring->cons);
}

/*
 * How many entries wait for us, by one look at the peer's index. What can be there is bounded:
 *
 *   front: at most what is in flight                     rsp_prod - rsp_cons     <= req_prod_pvt - rsp_cons
 *   back:  at most a ring full of unanswered requests    req_prod - rsp_prod_pvt <= slots
 *          and never fewer than were seen already        req_prod - rsp_prod_pvt >= req_cons - rsp_prod_pvt
 */
static inline int xl_ring_look(struct xl_ring *ring, uint32_t wanted)
{
	uint32_t index, most;

	if (ring->broken)
		return xl_ring_refuse(ring);
	if (xl_ring_is_front(ring))
		most = ring->prod - ring->cons;
	else
		most = ring->nr_slots - (ring->cons - ring->prod);
	if (ring->tagged)
		return xl_ring_look_at_tags(ring, most, wanted);
	/* the entries before this index are complete */
	index = atomic_load_explicit(ring->peer_prod, memory_order_acquire);
	if (index - ring->cons > most)
		return xl_ring_break_off(ring, index);
	ring->seen = index;
	if (index == ring->cons)
		xl_ring_expect(ring, 0);
	return (int)(index - ring->cons);
}

/*
 * Entries that wait for us, without a look at the peer's line if `wanted` are known to be there already: each
 * look at a line that the peer is writing costs both a cache miss.
 */
static inline int xl_ring_waiting(struct xl_ring *ring, uint32_t wanted)
{
	if (!ring->broken && wanted && ring->seen - ring->cons >= wanted)
		return (int)(ring->seen - ring->cons);
	return xl_ring_look(ring, wanted);
}

static inline uint32_t xl_ring_known_free(const struct xl_ring *ring)
{
	if (xl_ring_is_front(ring))
		return ring->nr_slots - (ring->prod - ring->cons);
	return ring->cons - ring->prod;
}

/* How many entries could be pushed, with a look at the consumer's index only if fewer than `wanted`. */
static inline int xl_ring_free(struct xl_ring *ring, uint32_t wanted)
{
	int passed;

	if (ring->broken)
		return xl_ring_refuse(ring);
	if (ring->side == XL_SIDE_PRODUCER && xl_ring_known_free(ring) < wanted) {
		/* nothing to copy: slots that the consumer has passed are free */
		passed = xl_ring_look(ring, ring->nr_slots);
		if (passed < 0)
			return passed;
		ring->cons += (uint32_t)passed;
	}
	return (int)xl_ring_known_free(ring);
}

/* Where the entry `ahead` places after the last published one is written; below what xl_ring_free said. */
static inline void *xl_ring_out(const struct xl_ring *ring, uint32_t ahead)
{
	uint8_t *slot = (uint8_t *)xl_tagged_slot_at(ring, ring->prod + ahead);

	return ring->tagged ? slot + offsetof(struct xl_tagged_slot, entry) : slot;
}

/* Publishes `count` entries that were written. */
static inline void xl_ring_publish(struct xl_ring *ring, uint32_t count)
{
	uint32_t tag = 2 * ring->prod + (xl_ring_is_front(ring) ? 1 : 2), left;

	ring->pushed += count;
	if (xl_traced(ring->recorder, XL_TRACE_RING))
		xl_trace_ring(ring, XL_TRACE_PUSH, count, ring->prod + count, 0, 0);
	if (ring->tagged) {
		/* release: the peer sees an entry before its tag */
		for (left = count; left; left--, tag += 2)
			atomic_store_explicit(&xl_tagged_slot_at(ring, ring->prod++)->tag, tag, memory_order_release);
		return;
	}
	ring->prod += count;
	/* the peer sees the entries before the new index */
	atomic_store_explicit(ring->my_prod, ring->prod, memory_order_release);
}

/* Where the entry `ahead` places after the last one taken is read; below what xl_ring_waiting said. */
static inline const void *xl_ring_in(const struct xl_ring *ring, uint32_t ahead)
{
	const uint8_t *slot = (const uint8_t *)xl_tagged_slot_at(ring, ring->cons + ahead);

	return ring->tagged ? slot + offsetof(struct xl_tagged_slot, entry) : slot;
}

/* `count` entries have been copied out. */
static inline void xl_ring_taken(struct xl_ring *ring, uint32_t count)
{
	ring->cons += count;
	ring->popped += count;
	if (xl_traced(ring->recorder, XL_TRACE_RING))
		xl_trace_ring(ring, XL_TRACE_POP, count, ring->cons, 0, 0);
	if (ring->side == XL_SIDE_CONSUMER) {
		ring->prod = ring->cons;
		/* our reads of the slots are done before the producer may write them again */
		atomic_store_explicit(ring->my_prod, ring->prod, memory_order_release);
	}
}

/* Whether the peer must be notified of what was pushed since the last kick. */
static inline int xl_ring_must_notify(struct xl_ring *ring)
{
	uint32_t fresh = ring->prod, old = ring->kicked, event;

	if (ring->broken || fresh == old)
		return 0;
	ring->kicked = fresh;
	ring->kicks++;
	if (ring->asymmetric)
		/* compiler only: the peer's membarrier in arm orders our store and load on this CPU */
		atomic_signal_fence(memory_order_seq_cst);
	else
		/* our index is visible before we read the event; pairs with the fence in arm */
		atomic_thread_fence(memory_order_seq_cst);
	/* relaxed: ordered by the fence, and a bogus value costs its author a wake or us one write */
	event = atomic_load_explicit(ring->peer_event, memory_order_relaxed);
	if (xl_traced(ring->recorder, XL_TRACE_RING))
		xl_trace_ring(ring, XL_TRACE_KICK, fresh - event < fresh - old, event, old, fresh);
	if (fresh - event >= fresh - old)
		return 0;
	ring->notifications++;
	return 1;
}

#endif
