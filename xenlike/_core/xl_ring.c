// SPDX-License-Identifier: Apache-2.0
//
// Rings: push, pop, kick, arm, for all layouts and both ends. The peer is hostile: its indices are loaded
// once and checked before use, entries are copied once, and nothing that it can write is believed later.

#include "xl_ring_inline.h"
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

/*
 * An entry shorter than a line shares it with others and lies in no two: entries of 8 and 16 bytes that had a line
 * each moved at 0.5 to 0.8 times the speed of Xen's ring in batches, and in shared lines at 1.0 to 1.5 times.
 */
uint32_t xl_ring_stride(int layout, uint32_t entry_size)
{
	uint32_t align = layouts[layout].slot_align, stride = 1;

	if (layout == XL_LAYOUT_CACHELINE && entry_size < align) {
		while (stride < entry_size)
			stride *= 2;
		return stride;
	}
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
	ring->recorder = &xl_trace_off;
	ring->side = (uint32_t)side;
	ring->slots = base + at->slots;
	ring->nr_slots = slots;
	ring->stride = xl_ring_stride(layout, entry_size);
	ring->out_size = out_size;
	ring->in_size = in_size;
	ring->tagged = layout == XL_LAYOUT_TAG;
	ring->my_prod = (xl_shared_u32 *)(base + (xl_ring_is_front(ring) ? at->req_prod : at->rsp_prod));
	ring->my_event = (xl_shared_u32 *)(base + (xl_ring_is_front(ring) ? at->rsp_event : at->req_event));
	ring->peer_prod = (xl_shared_u32 *)(base + (xl_ring_is_front(ring) ? at->rsp_prod : at->req_prod));
	ring->peer_event = (xl_shared_u32 *)(base + (xl_ring_is_front(ring) ? at->req_event : at->rsp_event));
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

int xl_ring_available(struct xl_ring *ring)
{
	return xl_ring_look(ring, ring->nr_slots);
}

/* Whether somebody should come and look: entries, or a break that pop will report. */
int xl_ring_ready(struct xl_ring *ring)
{
	return xl_ring_look(ring, 1) != 0;
}

/* How many entries could be pushed now: a front's free slots, a back's unanswered requests. */
int xl_ring_room(struct xl_ring *ring)
{
	return xl_ring_free(ring, ring->nr_slots);
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

static void pop_tagged(const struct xl_ring *ring, uint8_t *to, uint32_t count)
{
	for (uint32_t ahead = 0; ahead < count; ahead++, to += ring->in_size)
		memcpy(to, xl_ring_in(ring, ahead), ring->in_size);
}

/* Each tag follows its entry at once, while the slot is at hand. */
static void push_tagged(struct xl_ring *ring, const uint8_t *from, uint32_t count)
{
	for (; count; count--, from += ring->out_size) {
		memcpy(xl_ring_out(ring, 0), from, ring->out_size);
		xl_ring_publish(ring, 1);
	}
}

/* Copies up to `count` entries in and publishes them. How many went in; -EINVAL if `bytes` holds fewer. */
int xl_ring_push(struct xl_ring *ring, const void *entries, uint64_t bytes, uint32_t count)
{
	int fits;

	if ((uint64_t)count * ring->out_size > bytes)
		return -EINVAL;
	fits = xl_ring_free(ring, count);
	if (fits < 0)
		return fits;
	if (count > (uint32_t)fits)
		count = (uint32_t)fits;
	if (!count)
		return 0;
	if (xl_traced(ring->recorder, XL_TRACE_ENTRY))
		xl_trace_entries(ring, XL_TRACE_PUSHED, ring->prod, entries, ring->out_size, count);
	if (ring->tagged) {
		push_tagged(ring, entries, count);
		return (int)count;
	}
	copy_in(ring, ring->prod, count, entries);
	xl_ring_publish(ring, count);
	return (int)count;
}

/* Copies up to `limit` entries out. How many; -EINVAL if `bytes` holds not even one. */
int xl_ring_pop(struct xl_ring *ring, void *out, uint64_t bytes, uint32_t limit)
{
	int available = xl_ring_waiting(ring, limit);
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
	if (xl_traced(ring->recorder, XL_TRACE_ENTRY))
		xl_trace_entries(ring, XL_TRACE_POPPED, ring->cons, out, ring->in_size, count);
	xl_ring_taken(ring, count);
	return (int)count;
}

/* Whether the peer must be notified of what was pushed since the last kick. */
int xl_ring_kick(struct xl_ring *ring)
{
	return xl_ring_must_notify(ring);
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
static int arm(struct xl_ring *ring, uint32_t ahead)
{
	int available;

	ring->arms++;
	if (!xl_ring_is_front(ring) || !ahead)
		ahead = 1;
	else if (ahead > ring->prod - ring->cons)
		ahead = ring->prod == ring->cons ? 1 : ring->prod - ring->cons;
	available = xl_ring_look(ring, ahead);
	if (available < 0 || (uint32_t)available >= ahead)
		goto late;
	/* relaxed: the fence orders it */
	ring->armed = ring->cons + ahead;
	atomic_store_explicit(ring->my_event, ring->armed, memory_order_relaxed);
	/* our event is visible before we look again; pairs with the fence in kick */
	atomic_thread_fence(memory_order_seq_cst);
	if (ring->asymmetric && xl_membarrier() < 0)
		goto late; /* without the barrier nobody may sleep: stay awake, correct and slow */
	available = xl_ring_look(ring, ahead);
	if (available >= 0 && (uint32_t)available < ahead)
		return 0;
late:
	ring->late++;
	return 1;
}

int xl_ring_arm(struct xl_ring *ring, uint32_t ahead)
{
	int late = arm(ring, ahead);

	if (xl_traced(ring->recorder, XL_TRACE_RING))
		xl_trace_ring(ring, XL_TRACE_ARM, (uint32_t)late, ring->armed, 0, 0);
	return late;
}
