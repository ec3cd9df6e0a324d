// SPDX-License-Identifier: Apache-2.0
//
// Rings: push, pop, kick, arm, for all layouts and both ends. The peer is hostile: its indices are loaded
// once and checked before use, entries are copied once, and nothing that it can write is believed later.

#include "xl_ring.h"
#include "xl_api.h"

struct layout {
	uint32_t req_prod, req_event, rsp_prod, rsp_event, slots, slot_align, entry;
};

static const struct layout layouts[] = {
	[XL_LAYOUT_XEN] = {
		offsetof(struct xl_xen_header, req_prod), offsetof(struct xl_xen_header, req_event),
		offsetof(struct xl_xen_header, rsp_prod), offsetof(struct xl_xen_header, rsp_event),
		sizeof(struct xl_xen_header), 1, 0,
	},
	[XL_LAYOUT_CACHELINE] = {
		offsetof(struct xl_cacheline_header, req_prod), offsetof(struct xl_cacheline_header, req_event),
		offsetof(struct xl_cacheline_header, rsp_prod), offsetof(struct xl_cacheline_header, rsp_event),
		sizeof(struct xl_cacheline_header), 64, 0,
	},
	[XL_LAYOUT_TAG] = {
		offsetof(struct xl_cacheline_header, req_prod), offsetof(struct xl_cacheline_header, req_event),
		offsetof(struct xl_cacheline_header, rsp_prod), offsetof(struct xl_cacheline_header, rsp_event),
		sizeof(struct xl_cacheline_header), 64, offsetof(struct xl_tagged_slot, entry),
	},
};

enum { MAX_RING_BYTES = 4096 << 10, MAX_ENTRY = 4096 };

static int is_front(const struct xl_ring *ring)
{
	return ring->side == XL_SIDE_FRONT || ring->side == XL_SIDE_PRODUCER;
}

uint32_t xl_ring_stride(int layout, uint32_t entry_size)
{
	uint32_t align = layouts[layout].slot_align;

	return (layouts[layout].entry + entry_size + align - 1) / align * align;
}

/* How many slots a ring of `bytes` has: the largest power of two that fits, as __RING_SIZE. */
uint32_t xl_ring_slots(int layout, uint64_t bytes, uint32_t entry_size)
{
	uint64_t fit, slots = 1;

	if (!entry_size || bytes < layouts[layout].slots)
		return 0;
	fit = (bytes - layouts[layout].slots) / xl_ring_stride(layout, entry_size);
	if (!fit)
		return 0;
	while (slots * 2 <= fit)
		slots *= 2;
	return (uint32_t)slots;
}

static int place(struct xl_ring *ring, void *page, uint64_t bytes, int layout, int side, uint32_t out_size,
		 uint32_t in_size, uint32_t entry_size)
{
	uint8_t *base = page;
	const struct layout *at;
	uint32_t slots;

	if (layout < 0 || layout > XL_LAYOUT_TAG || side < 0 || side > XL_SIDE_CONSUMER ||
	    (layout == XL_LAYOUT_TAG && side > XL_SIDE_BACK) ||
	    ((uintptr_t)page & 3) || bytes > MAX_RING_BYTES || entry_size > MAX_ENTRY ||
	    out_size > entry_size || in_size > entry_size)
		return -EINVAL;
	slots = xl_ring_slots(layout, bytes, entry_size);
	if (!slots)
		return -EINVAL;
	at = &layouts[layout];
	memset(ring, 0, sizeof(*ring));
	ring->side = (uint32_t)side;
	ring->slots = base + at->slots;
	ring->nr_slots = slots;
	ring->stride = xl_ring_stride(layout, entry_size);
	ring->out_size = out_size;
	ring->in_size = in_size;
	ring->tagged = layout == XL_LAYOUT_TAG;
	ring->my_prod = (xl_shared_u32 *)(base + (is_front(ring) ? at->req_prod : at->rsp_prod));
	ring->my_event = (xl_shared_u32 *)(base + (is_front(ring) ? at->rsp_event : at->req_event));
	ring->peer_prod = (xl_shared_u32 *)(base + (is_front(ring) ? at->rsp_prod : at->req_prod));
	ring->peer_event = (xl_shared_u32 *)(base + (is_front(ring) ? at->req_event : at->rsp_event));
	return 0;
}

/* Makes a ring of a page that no peer uses yet. Zeroes it, so that nothing of its past is disclosed. */
int xl_ring_create(struct xl_ring *ring, void *page, uint64_t bytes, int layout, int side, uint32_t out_size,
		   uint32_t in_size, uint32_t entry_size, uint32_t first)
{
	int result = place(ring, page, bytes, layout, side, out_size, in_size, entry_size);

	if (result)
		return result;
	memset(page, 0, bytes);
	ring->prod = ring->kicked = ring->cons = ring->seen = ring->first = first;
	/* relaxed, all four but the last: the release below orders them */
	atomic_store_explicit(ring->peer_prod, first, memory_order_relaxed);
	atomic_store_explicit(ring->my_event, first + 1, memory_order_relaxed);
	atomic_store_explicit(ring->peer_event, first + 1, memory_order_relaxed);
	/* whoever attaches sees a complete header */
	atomic_store_explicit(ring->my_prod, first, memory_order_release);
	return 0;
}

/* Attaches the other end at the ring's own indices, as Linux's backends do. */
int xl_ring_attach(struct xl_ring *ring, void *page, uint64_t bytes, int layout, int side, uint32_t out_size,
		   uint32_t in_size, uint32_t entry_size)
{
	int result = place(ring, page, bytes, layout, side, out_size, in_size, entry_size);

	if (result)
		return result;
	/* acquire: the header is complete if the index is there; loaded once, a second look could differ */
	ring->prod = atomic_load_explicit(ring->my_prod, memory_order_acquire);
	ring->kicked = ring->cons = ring->seen = ring->first = ring->prod;
	return 0;
}

void xl_ring_close(struct xl_ring *ring)
{
	ring->broken = XL_RING_CLOSED;
}

static int refuse(const struct xl_ring *ring)
{
	return ring->broken == XL_RING_CLOSED ? -EBADF : -EPROTO;
}

static int break_off(struct xl_ring *ring, uint32_t index)
{
	ring->broken = (int32_t)(index - ring->cons) < 0 ? XL_RING_REWIND : XL_RING_OVERRUN;
	ring->bad_index = index;
	return -EPROTO;
}

static struct xl_tagged_slot *tagged_slot(const struct xl_ring *ring, uint32_t index)
{
	return (void *)(ring->slots + (size_t)(index & (ring->nr_slots - 1)) * ring->stride);
}

/* How many entries wait for us, by the tags of at most `most` slots, and no more than `wanted` if there are. */
static int look_at_tags(struct xl_ring *ring, uint32_t most, uint32_t wanted)
{
	uint32_t tag, full, empty;

	if (wanted < most)
		most = wanted;
	for (; ring->seen - ring->cons < most; ring->seen++) {
		/* the entry in the slot is complete */
		tag = atomic_load_explicit(&tagged_slot(ring, ring->seen)->tag, memory_order_acquire);
		if (is_front(ring)) {
			full = 2 * ring->seen + 2;
			empty = 2 * ring->seen + 1;
		} else {
			full = 2 * ring->seen + 1;
			empty = ring->seen - ring->first < ring->nr_slots ? 0 : 2 * (ring->seen - ring->nr_slots) + 2;
		}
		if (tag == full)
			continue;
		if (tag == empty)
			break;
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
static int look(struct xl_ring *ring, uint32_t wanted)
{
	uint32_t index, most;

	if (ring->broken)
		return refuse(ring);
	if (is_front(ring))
		most = ring->prod - ring->cons;
	else
		most = ring->nr_slots - (ring->cons - ring->prod);
	if (ring->tagged)
		return look_at_tags(ring, most, wanted);
	/* the entries before this index are complete */
	index = atomic_load_explicit(ring->peer_prod, memory_order_acquire);
	if (index - ring->cons > most)
		return break_off(ring, index);
	ring->seen = index;
	return (int)(index - ring->cons);
}

int xl_ring_available(struct xl_ring *ring)
{
	return look(ring, ring->nr_slots);
}

/* Whether somebody should come and look: entries, or a break that pop will report. */
int xl_ring_ready(struct xl_ring *ring)
{
	return look(ring, 1) != 0;
}

/*
 * Entries that wait for us, without a look at the peer's line if `wanted` are known to be there already: each
 * look at a line that the peer is writing costs both a cache miss.
 */
static int known_or_available(struct xl_ring *ring, uint32_t wanted)
{
	if (!ring->broken && wanted && ring->seen - ring->cons >= wanted)
		return (int)(ring->seen - ring->cons);
	return look(ring, wanted);
}

static uint32_t room(const struct xl_ring *ring)
{
	if (is_front(ring))
		return ring->nr_slots - (ring->prod - ring->cons);
	return ring->cons - ring->prod;
}

/* How many entries could be pushed, with a look at the consumer's index only if fewer than `wanted`. */
static int room_for(struct xl_ring *ring, uint32_t wanted)
{
	int passed;

	if (ring->broken)
		return refuse(ring);
	if (ring->side == XL_SIDE_PRODUCER && room(ring) < wanted) {
		/* nothing to copy: slots that the consumer has passed are free */
		passed = xl_ring_available(ring);
		if (passed < 0)
			return passed;
		ring->cons += (uint32_t)passed;
	}
	return (int)room(ring);
}

/* How many entries could be pushed now: a front's free slots, a back's unanswered requests. */
int xl_ring_room(struct xl_ring *ring)
{
	return room_for(ring, ring->nr_slots);
}

/* A slot run that does not cross the end of the ring is one copy where entries fill their slots. */
static void copy_in(const struct xl_ring *ring, uint32_t first, uint32_t count, const uint8_t *from)
{
	uint32_t slot = first & (ring->nr_slots - 1), run;

	if (ring->out_size != ring->stride) {
		for (; count; count--, from += ring->out_size, slot = (slot + 1) & (ring->nr_slots - 1))
			memcpy(ring->slots + (size_t)slot * ring->stride, from, ring->out_size);
		return;
	}
	run = ring->nr_slots - slot < count ? ring->nr_slots - slot : count;
	memcpy(ring->slots + (size_t)slot * ring->stride, from, (size_t)run * ring->stride);
	memcpy(ring->slots, from + (size_t)run * ring->stride, (size_t)(count - run) * ring->stride);
}

static void copy_out(const struct xl_ring *ring, uint32_t first, uint32_t count, uint8_t *to)
{
	uint32_t slot = first & (ring->nr_slots - 1), run;

	if (ring->in_size != ring->stride) {
		for (; count; count--, to += ring->in_size, slot = (slot + 1) & (ring->nr_slots - 1))
			memcpy(to, ring->slots + (size_t)slot * ring->stride, ring->in_size);
		return;
	}
	run = ring->nr_slots - slot < count ? ring->nr_slots - slot : count;
	memcpy(to, ring->slots + (size_t)slot * ring->stride, (size_t)run * ring->stride);
	memcpy(to + (size_t)run * ring->stride, ring->slots, (size_t)(count - run) * ring->stride);
}

static void push_tagged(struct xl_ring *ring, const uint8_t *from, uint32_t count)
{
	uint32_t tag = 2 * ring->prod + (is_front(ring) ? 1 : 2);
	struct xl_tagged_slot *slot;

	for (; count; count--, from += ring->out_size, tag += 2) {
		slot = tagged_slot(ring, ring->prod++);
		memcpy(slot->entry, from, ring->out_size);
		/* the peer sees the entry before its tag */
		atomic_store_explicit(&slot->tag, tag, memory_order_release);
	}
}

static void pop_tagged(const struct xl_ring *ring, uint8_t *to, uint32_t count)
{
	for (uint32_t index = ring->cons; count; count--, index++, to += ring->in_size)
		memcpy(to, tagged_slot(ring, index)->entry, ring->in_size);
}

/* Copies up to `count` entries in and publishes them. How many went in; -EINVAL if `bytes` holds fewer. */
int xl_ring_push(struct xl_ring *ring, const void *entries, uint64_t bytes, uint32_t count)
{
	int fits;

	if ((uint64_t)count * ring->out_size > bytes)
		return -EINVAL;
	fits = room_for(ring, count);
	if (fits < 0)
		return fits;
	if (count > (uint32_t)fits)
		count = (uint32_t)fits;
	if (!count)
		return 0;
	ring->pushed += count;
	if (ring->tagged) {
		push_tagged(ring, entries, count);
		return (int)count;
	}
	copy_in(ring, ring->prod, count, entries);
	ring->prod += count;
	/* the peer sees the entries before the new index */
	atomic_store_explicit(ring->my_prod, ring->prod, memory_order_release);
	return (int)count;
}

/* Copies up to `limit` entries out. How many; -EINVAL if `bytes` holds not even one. */
int xl_ring_pop(struct xl_ring *ring, void *out, uint64_t bytes, uint32_t limit)
{
	int available = known_or_available(ring, limit);
	uint32_t count;

	if (available < 0)
		return available;
	if (bytes < ring->in_size)
		return -EINVAL;
	count = (uint32_t)available < limit ? (uint32_t)available : limit;
	if (count > bytes / ring->in_size)
		count = (uint32_t)(bytes / ring->in_size);
	if (!count)
		return 0;
	if (ring->tagged)
		pop_tagged(ring, out, count);
	else
		copy_out(ring, ring->cons, count, out);
	ring->cons += count;
	ring->popped += count;
	if (ring->side == XL_SIDE_CONSUMER) {
		ring->prod = ring->cons;
		/* our reads of the slots are done before the producer may write them again */
		atomic_store_explicit(ring->my_prod, ring->prod, memory_order_release);
	}
	return (int)count;
}

int xl_batch_push(struct xl_batch *batch)
{
	return xl_ring_push(batch->ring, batch->memory, batch->bytes, batch->count);
}

int xl_batch_pop(struct xl_batch *batch)
{
	return xl_ring_pop(batch->ring, batch->memory, batch->bytes, batch->count);
}

/* Whether the peer must be notified of what was pushed since the last kick. */
int xl_ring_kick(struct xl_ring *ring)
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
	if (fresh - event >= fresh - old)
		return 0;
	ring->notifications++;
	return 1;
}

/* Kick, and the notification itself. 1 notified, 0 no need, -EPIPE the peer is gone. */
int xl_ring_kick_fd(struct xl_ring *ring, int fd)
{
	int result;

	if (!xl_ring_kick(ring))
		return 0;
	result = xl_notify(fd);
	return result ? result : -EPIPE;
}

/*
 * Asks the peer to notify when `ahead` more entries are there. 1: they are there already (or the ring is
 * broken), do not sleep. `ahead` beyond 1 is for fronts, and is cut to what is in flight, since more than
 * that never comes.
 *
 * With the asymmetric fence 0 is not the last word: the peer's push may still be in its store buffer, because
 * Linux's membarrier (6.18 and before) sometimes passes over a CPU that runs a registered process. It goes by
 * rq->membarrier_state, which exit_mm clears when a thread ends there, and which is left as it was when the next
 * thread on that CPU has the same mm; one that registers late is missed in the same way. So who sleeps looks
 * once more after XL_GRACE_NS. By then the peer's CPU has had a timer tick or another process, each a full
 * barrier, and a push later than that has seen our event.
 */
int xl_ring_arm(struct xl_ring *ring, uint32_t ahead)
{
	int available;

	ring->arms++;
	if (!is_front(ring) || !ahead)
		ahead = 1;
	else if (ahead > ring->prod - ring->cons)
		ahead = ring->prod == ring->cons ? 1 : ring->prod - ring->cons;
	available = look(ring, ahead);
	if (available < 0 || (uint32_t)available >= ahead)
		goto late;
	/* relaxed: the fence orders it */
	atomic_store_explicit(ring->my_event, ring->cons + ahead, memory_order_relaxed);
	/* our event is visible before we look again; pairs with the fence in kick */
	atomic_thread_fence(memory_order_seq_cst);
	if (ring->asymmetric && xl_membarrier() < 0)
		goto late; /* without the barrier nobody may sleep: stay awake, correct and slow */
	available = look(ring, ahead);
	if (available >= 0 && (uint32_t)available < ahead)
		return 0;
late:
	ring->late++;
	return 1;
}
