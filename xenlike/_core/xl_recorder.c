// SPDX-License-Identifier: Apache-2.0
//
// Writing a recorder, which its domain does, and reading one, which believes nothing.

#include "xl_ring.h"
#include "xl_api.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

const struct xl_recorder xl_trace_off = { 0 };

/* Whether the CPU's ticks have one speed on all CPUs, asleep or not. */
static int ticks_are_steady(void)
{
#if defined(__x86_64__)
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1 << 8);
#else
	return 0;
#endif
}

static uint64_t monotonic_ns(void)
{
	return xl_trace_now(XL_CLOCK_NS);
}

/* Makes a recorder of zeroed memory. */
void xl_recorder_init(void *memory, uint32_t mask)
{
	struct xl_recorder *recorder = memory;

	recorder->version = XL_RECORDER_VERSION;
	recorder->nr_queues = XL_RECORDER_QUEUES;
	recorder->nr_records = XL_RECORDER_RECORDS;
	recorder->clock = ticks_are_steady() ? XL_CLOCK_TSC : XL_CLOCK_NS;
	recorder->ns = monotonic_ns();
	recorder->ticks = xl_trace_now(recorder->clock);
	/* added to what domain 0 may have asked for before the domain ran */
	atomic_fetch_or_explicit(&recorder->mask, mask, memory_order_relaxed);
	/* the rest is there when the magic is */
	atomic_thread_fence(memory_order_release);
	recorder->magic = XL_RECORDER_MAGIC;
}

/*
 * Has classes recorded and others not; what the mask is then. Whoever asks for some classes and the domain, which
 * has its own, do not undo each other's.
 */
uint32_t xl_trace_ask(void *memory, uint32_t add, uint32_t drop)
{
	struct xl_recorder *recorder = memory;

	/* relaxed: one event more or less does not matter */
	atomic_fetch_or_explicit(&recorder->mask, add, memory_order_relaxed);
	return atomic_fetch_and_explicit(&recorder->mask, ~drop, memory_order_relaxed) & ~drop;
}

/* One moment by a clock of a recorder and by CLOCK_MONOTONIC, for whoever converts. */
void xl_trace_clock(uint32_t clock, uint64_t *ticks, uint64_t *ns)
{
	*ns = monotonic_ns();
	*ticks = xl_trace_now(clock);
}

static struct xl_record *record_at(const struct xl_recorder *recorder, uint64_t index)
{
	uint8_t *base = (uint8_t *)recorder + XL_RECORDER_RECORDS_AT;

	return (struct xl_record *)base + (index & (XL_RECORDER_RECORDS - 1));
}

static void begin(struct xl_record *record)
{
	atomic_store_explicit(&record->seq, 0, memory_order_relaxed);
	/* a reader that sees any of what follows sees that the record is not complete */
	atomic_thread_fence(memory_order_release);
}

static void finish(struct xl_record *record, uint64_t index)
{
	/* the record is complete when its number is there */
	atomic_store_explicit(&record->seq, (uint32_t)index + 1, memory_order_release);
}

/* How many records a payload takes beside the event's own. */
static uint32_t parts_of(uint32_t bytes)
{
	uint32_t most = sizeof(((struct xl_payload_record *)0)->bytes);

	return (bytes + most - 1) / most;
}

/* Reserves records. Relaxed: each record says itself when it is complete. */
static uint64_t reserve(struct xl_recorder *recorder, uint32_t count)
{
	return atomic_fetch_add_explicit(&recorder->prod, count, memory_order_relaxed);
}

/* Writes an event into reserved records, with `bytes` of payload in the `more` that follow. */
static inline void write_event(struct xl_recorder *recorder, uint64_t index, uint64_t time, int class, int event,
			       int queue, uint32_t a, uint32_t b, uint32_t c, uint32_t d, const uint8_t *payload,
			       uint32_t bytes, uint32_t more)
{
	struct xl_record *record = record_at(recorder, index);

	begin(record);
	record->class = (uint8_t)class;
	record->event = (uint8_t)event;
	record->queue = (uint8_t)queue;
	record->more = (uint8_t)more;
	record->time = time;
	record->a = a;
	record->b = b;
	record->c = c;
	record->d = d;
	for (uint32_t n = 0; n < more; n++) {
		struct xl_record *at = record_at(recorder, index + 1 + n);
		struct xl_payload_record *part = (struct xl_payload_record *)at;
		uint32_t most = sizeof(part->bytes), length = bytes - n * most < most ? bytes - n * most : most;

		begin(at);
		memcpy(part->bytes, payload + n * most, length);
		memset(part->bytes + length, 0, most - length);
		finish(at, index + 1 + n);
	}
	finish(record, index);
}

/* Records an event, with at most XL_TRACE_MOST_PAYLOAD bytes of payload; what class it is of has been looked at. */
void xl_trace(void *memory, int class, int event, int queue, uint32_t a, uint32_t b, uint32_t c, uint32_t d,
	      const void *payload, uint32_t bytes)
{
	struct xl_recorder *recorder = memory;
	uint32_t more;
	uint64_t index;

	if (bytes > XL_TRACE_MOST_PAYLOAD)
		bytes = XL_TRACE_MOST_PAYLOAD;
	more = parts_of(bytes);
	index = reserve(recorder, 1 + more);
	write_event(recorder, index, xl_trace_now(recorder->clock), class, event, queue, a, b, c, d, payload, bytes,
		    more);
}

/* As xl_trace, if the class is recorded at all. */
void xl_trace_if(void *memory, int class, int event, int queue, uint32_t a, uint32_t b, uint32_t c, uint32_t d,
		 const void *payload, uint32_t bytes)
{
	if (xl_traced(memory, (uint32_t)class))
		xl_trace(memory, class, event, queue, a, b, c, d, payload, bytes);
}

void xl_trace_ring(const struct xl_ring *ring, int event, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	struct xl_recorder *recorder = (void *)ring->recorder;

	/* without a payload's code: it is what costs most here, after the clock and the reservation */
	write_event(recorder, reserve(recorder, 1), xl_trace_now(recorder->clock), XL_TRACE_RING, event,
		    (int)ring->queue, a, b, c, d, NULL, 0, 0);
}

/* Python sleeps on event channels, so it says when it was woken. */
void xl_ring_woke(const struct xl_ring *ring, int hung_up)
{
	if (xl_traced(ring->recorder, XL_TRACE_RING))
		xl_trace_ring(ring, XL_TRACE_WAKE, (uint32_t)hung_up, 0, 0, 0);
}

/* Entries that go together have one time, and their records are reserved together: that halves what they cost. */
void xl_trace_entries(const struct xl_ring *ring, int event, uint32_t first, const void *entries, uint32_t size,
		      uint32_t count)
{
	struct xl_recorder *recorder = (void *)ring->recorder;
	uint32_t bytes = size < XL_TRACE_MOST_PAYLOAD ? size : XL_TRACE_MOST_PAYLOAD, more = parts_of(bytes);
	uint64_t time = xl_trace_now(recorder->clock), index;

	for (uint32_t done = 0, some; done < count; done += some) {
		/* not all at once: a reader waits only for the last 64 that are not complete */
		some = count - done < 32 / (1 + more) ? count - done : 32 / (1 + more);
		index = reserve(recorder, some * (1 + more));
		for (uint32_t n = 0; n < some; n++, index += 1 + more)
			write_event(recorder, index, time, XL_TRACE_ENTRY, event, (int)ring->queue, first + done + n,
				    size, 0, 0, (const uint8_t *)entries + (size_t)(done + n) * size, bytes, more);
	}
}

/*
 * Copies records from index *next on, at most `limit`, and moves *next behind the last one looked at. Those that
 * are incomplete come out as zeros; one of the last few ends the copying, since it may be complete soon, unless
 * `all`. How many; *lost grows by those that were overwritten before they were read.
 */
uint32_t xl_trace_read(const void *memory, uint64_t *next, void *out, uint32_t limit, int all, uint64_t *lost)
{
	const struct xl_recorder *recorder = memory;
	/* acquire: records up to here have been begun */
	uint64_t prod = atomic_load_explicit(&recorder->prod, memory_order_acquire);
	uint32_t count = 0, seq;

	if (prod - *next > XL_RECORDER_RECORDS) {
		/* it went on by more than there is, or its writer took it back: go on with what there is */
		uint64_t first = prod > XL_RECORDER_RECORDS ? prod - XL_RECORDER_RECORDS : 0;

		*lost += first > *next ? first - *next : 0;
		*next = first;
	}
	for (; *next != prod && count < limit; ++*next) {
		struct xl_record *record = record_at(recorder, *next), *copy = (struct xl_record *)out + count;

		/* acquire: what was written before the number */
		seq = atomic_load_explicit(&record->seq, memory_order_acquire);
		memcpy((void *)copy, (const void *)record, sizeof(*copy));
		/* the copy is made before the second look */
		atomic_thread_fence(memory_order_acquire);
		if (seq != (uint32_t)*next + 1 ||
		    atomic_load_explicit(&record->seq, memory_order_relaxed) != seq) {
			if (!all && prod - *next < 64)
				break;
			memset((void *)copy, 0, sizeof(*copy));
		}
		count++;
	}
	return count;
}
