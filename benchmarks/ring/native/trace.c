// SPDX-License-Identifier: Apache-2.0
//
// What an event costs, in one process: pushes and pops of a one-way ring, and the recording of an event by itself.

#define _GNU_SOURCE
#include "race.h"
#include "xl_ring_inline.h"
#include "xl_api.h"

#ifndef TRACE
#define TRACE 0
#endif

static struct xl_ring producer, consumer;

/* Not inline: the branch is asked for each, as at the end of a push. */
static __attribute__((noinline)) void event(const struct xl_ring *ring, uint32_t n)
{
	if (xl_traced(ring->recorder, XL_TRACE_RING))
		xl_trace_ring(ring, XL_TRACE_PUSH, 1, n, 0, 0);
}

static double events(uint32_t count)
{
	uint64_t start = now_ns();

	for (uint32_t n = 0; n < count; n++)
		event(&producer, n);
	return (double)(now_ns() - start) / count;
}

static double pairs(uint32_t count)
{
	uint64_t start = now_ns();

	for (uint32_t n = 0; n < count; n++) {
		if (xl_ring_free(&producer, 1) < 1)
			die("full");
		fill(xl_ring_out(&producer, 0), n);
		xl_ring_publish(&producer, 1);
		if (xl_ring_look(&consumer, 1) != 1 || differs(xl_ring_in(&consumer, 0), n))
			die("empty");
		xl_ring_taken(&consumer, 1);
	}
	return (double)(now_ns() - start) / count;
}

int main(int argc, char **argv)
{
	struct xl_recorder *recorder = share(XL_RECORDER_BYTES);
	void *page = share(8192);

	if (argc != 3) {
		fprintf(stderr, "usage: %s CPU COUNT\n", argv[0]);
		return 2;
	}
	pin((unsigned)atoi(argv[1]));
	xl_recorder_init(recorder, XL_TRACE_USUAL | TRACE);
	if (xl_ring_create(&producer, page, 8192, XL_LAYOUT_CACHELINE, XL_SIDE_PRODUCER, ENTRY, ENTRY, ENTRY, 0) ||
	    xl_ring_attach(&consumer, page, 8192, XL_LAYOUT_CACHELINE, XL_SIDE_CONSUMER, ENTRY, ENTRY, ENTRY))
		die("xl_ring_create");
	producer.recorder = consumer.recorder = recorder;
	events((uint32_t)atoi(argv[2]) / 10);
	printf("{\"event_ns\": %.3f, \"pair_ns\": %.3f}\n", events((uint32_t)atoi(argv[2])), pairs((uint32_t)atoi(argv[2])));
	return 0;
}
