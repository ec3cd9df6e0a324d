/* SPDX-License-Identifier: Apache-2.0
 *
 * A domain's recorder: a segment of its own in which it counts and traces, and which tools read while it runs. The
 * domain and domain 0 map it, its peers do not. Whoever reads believes nothing: a domain may write anything there.
 *
 *	head	  4096 B	what is recorded, and how far the trace has come
 *	queues	  128 x 512 B	one for each ring that is in use: its end's private state, as it is
 *	records	  8192 x 32 B	the trace, the newest 8192 records of it
 *
 * A record is complete when its `seq` is the low half of its index plus one; before the rest of it is written, `seq`
 * is made 0. A reader copies a record between two looks at `seq`, so that one being overwritten is not taken.
 * Several threads of the domain may write at once: each reserves its records with one addition.
 */
#ifndef XL_RECORDER_H
#define XL_RECORDER_H

#include <time.h>

#include "xl_atomic.h"

enum {
	XL_RECORDER_MAGIC = 0x43524c58, /* "XLRC" */
	XL_RECORDER_VERSION = 1,
	XL_RECORDER_QUEUES = 128,
	XL_RECORDER_RECORDS = 8192,
};

/* Classes of events, bits of the mask. Of these only XL_TRACE_RING and XL_TRACE_ENTRY lie on a hot path. */
enum {
	XL_TRACE_RING = 1,    /* push, pop, kick, arm */
	XL_TRACE_ENTRY = 2,   /* entries themselves, as they are pushed and popped */
	XL_TRACE_EVENT = 4,   /* event channels */
	XL_TRACE_GRANT = 8,
	XL_TRACE_STORE = 16,
	XL_TRACE_XENBUS = 32,
	XL_TRACE_USER = 64,   /* what a driver or a guest's program writes itself */
	XL_TRACE_USUAL = XL_TRACE_EVENT | XL_TRACE_GRANT | XL_TRACE_STORE | XL_TRACE_XENBUS | XL_TRACE_USER,
};

/* Events of XL_TRACE_RING and XL_TRACE_ENTRY; the others are in xenlike/abi/recorder.py, since C writes none. */
enum {
	XL_TRACE_PUSH = 1,     /* a entries published, the index is b now */
	XL_TRACE_POP = 2,      /* a entries taken, the index is b now */
	XL_TRACE_KICK = 3,     /* a: the peer was to be notified; b: its event; c, d: index before and now */
	XL_TRACE_ARM = 4,      /* a: something was there, no sleep; b: our event */
	XL_TRACE_BREAK = 5,    /* a: why, XL_RING_*; b: the impossible index */
	XL_TRACE_PUSHED = 6,   /* an entry: index a, b bytes, of which the payload has the first */
	XL_TRACE_POPPED = 7,
	XL_TRACE_WAKE = 8,     /* who slept on the ring's event channel was woken; a: by a hang-up */
};

enum { XL_CLOCK_NS = 0, XL_CLOCK_TSC = 1 }; /* what `time` counts: CLOCK_MONOTONIC's ns, or the CPU's own ticks */

struct xl_recorder {
	uint32_t magic, version;
	uint32_t nr_queues, nr_records;
	uint32_t clock, pad;
	uint64_t ticks, ns; /* one moment by `clock`, and by CLOCK_MONOTONIC */
	uint8_t mask_pad[88];
	xl_shared_u32 mask; /* domain 0 says what is to be recorded */
	uint8_t prod_pad[124];
	_Atomic uint64_t prod; /* records so far */
};

struct xl_record {
	xl_shared_u32 seq;
	uint8_t class, event, queue, more; /* `more` records with payload follow */
	uint64_t time;
	uint32_t a, b, c, d;
};

struct xl_payload_record {
	xl_shared_u32 seq;
	uint8_t bytes[28];
};

enum {
	XL_RECORDER_QUEUE_BYTES = 512,
	XL_RECORDER_QUEUES_AT = 4096,
	XL_RECORDER_RECORDS_AT = XL_RECORDER_QUEUES_AT + XL_RECORDER_QUEUES * XL_RECORDER_QUEUE_BYTES,
	XL_RECORDER_BYTES = XL_RECORDER_RECORDS_AT + XL_RECORDER_RECORDS * 32,
	XL_TRACE_MOST_PAYLOAD = 8 * 28, /* of one event; the rest is left out */
};

_Static_assert(offsetof(struct xl_recorder, mask) == 128, "recorder mask");
_Static_assert(offsetof(struct xl_recorder, prod) == 256, "recorder prod");
_Static_assert(sizeof(struct xl_record) == 32, "trace record");
_Static_assert(sizeof(struct xl_payload_record) == 32, "payload record");

/* What rings without a recorder point to, so that a hot path need not ask whether there is one. */
extern const struct xl_recorder xl_trace_off;

/* Whether events of a class are recorded. Relaxed: one more or less when it changes does not matter. */
static inline int xl_traced(const struct xl_recorder *recorder, uint32_t class)
{
#if defined(XL_NO_TRACE)
	/* for the benchmark, which asks what the branch costs */
	(void)recorder, (void)class;
	return 0;
#endif
	return __builtin_expect(atomic_load_explicit(&recorder->mask, memory_order_relaxed) & class, 0);
}

/* Now, by the recorder's clock. The CPU's own takes some 10 ns less than the kernel's. */
static inline uint64_t xl_trace_now(uint32_t clock)
{
	struct timespec now;

#if defined(__x86_64__)
	if (clock == XL_CLOCK_TSC)
		return __builtin_ia32_rdtsc();
#endif
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
