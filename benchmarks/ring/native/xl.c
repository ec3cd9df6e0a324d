// SPDX-License-Identifier: Apache-2.0
//
// Our rings, entries written and read in place. LAYOUT is one of XL_LAYOUT_*.

#define _GNU_SOURCE
#include "reqrsp.h"
#include "oneway.h"
#include "xl_ring_inline.h"
#include "xl_api.h"

static struct xl_ring ring;

/* as xl_ring_stride, for entries of a multiple of 8 bytes */
#define LINES(bytes) (((bytes) + 63) / 64 * 64)
#define STRIDE                                                                                               \
	(LAYOUT == XL_LAYOUT_XEN || (LAYOUT == XL_LAYOUT_CACHELINE && ENTRY <= 16) ? ENTRY :                 \
	 LAYOUT == XL_LAYOUT_CACHELINE && ENTRY <= 32 ? 32 :                                                 \
	 LINES(ENTRY + (LAYOUT == XL_LAYOUT_TAG ? 8 : 0)))
#define IS(side) XL_RING_IS(&ring, side, LAYOUT, (uint32_t)STRIDE)

/* A broken ring has an error, and no entries for ever: the other end finds out too. */
static unsigned sound(int result)
{
	if (result < 0)
		die("broken ring");
	return (unsigned)result;
}

static inline void write_entries(uint64_t sequence, unsigned count)
{
	const struct xl_ring at = ring; /* in registers: a store into a slot could otherwise change it */

	for (unsigned ahead = 0; ahead < count; ahead++)
		fill((struct entry *)xl_ring_out(&at, ahead), sequence + ahead);
	xl_ring_publish(&ring, count);
}

static inline uint64_t read_entries(uint64_t sequence, unsigned count)
{
	const struct xl_ring at = ring;
	uint64_t difference = 0;

	for (unsigned ahead = 0; ahead < count; ahead++) {
		struct entry mine;

		memcpy(&mine, xl_ring_in(&at, ahead), sizeof(mine));
		difference |= differs(&mine, sequence + ahead);
	}
	xl_ring_taken(&ring, count);
	return difference;
}

static inline unsigned front_room(void)
{
	IS(XL_SIDE_FRONT);
	return sound(xl_ring_free(&ring, race.batch));
}

static inline void front_push(uint64_t sequence, unsigned count)
{
	IS(XL_SIDE_FRONT);
	write_entries(sequence, count);
}

static inline unsigned front_pop(uint64_t sequence, uint64_t *difference)
{
	unsigned count;

	IS(XL_SIDE_FRONT);
	count = sound(xl_ring_look(&ring, ring.nr_slots));
	*difference |= read_entries(sequence | RESPONSE, count);
	return count;
}

static inline unsigned back_waiting(void)
{
	IS(XL_SIDE_BACK);
	return sound(xl_ring_look(&ring, ring.nr_slots));
}

static inline void back_answer(uint64_t sequence, unsigned count, uint64_t *difference)
{
	IS(XL_SIDE_BACK);
	*difference |= read_entries(sequence, count);
	write_entries(sequence | RESPONSE, count);
}

static inline int front_must_notify(void) { IS(XL_SIDE_FRONT); return xl_ring_must_notify(&ring); }
static inline int back_must_notify(void) { IS(XL_SIDE_BACK); return xl_ring_must_notify(&ring); }
static inline int front_ready(void) { IS(XL_SIDE_FRONT); return xl_ring_look(&ring, 1) != 0; }
static inline int back_ready(void) { IS(XL_SIDE_BACK); return xl_ring_look(&ring, 1) != 0; }
static int front_arm(void) { return xl_ring_arm(&ring, 1); }
static int back_arm(void) { return xl_ring_arm(&ring, 1); }

static inline unsigned produce(uint64_t sequence, unsigned limit)
{
	unsigned room;

	IS(XL_SIDE_PRODUCER);
	room = sound(xl_ring_free(&ring, limit));
	if (room > limit)
		room = limit;
	if (room)
		write_entries(sequence, room);
	return room;
}

static inline unsigned consume(uint64_t sequence, uint64_t *difference)
{
	unsigned count;

	IS(XL_SIDE_CONSUMER);
	count = sound(xl_ring_waiting(&ring, 1));
	if (count > race.batch)
		count = race.batch;
	if (count)
		*difference |= read_entries(sequence, count);
	return count;
}

/* Each process has an end of its own; the back's is made in the child, by its first call. */
static uint64_t (*rest[2])(void);

static uint64_t ring_bytes(void)
{
	return (LAYOUT == XL_LAYOUT_XEN ? sizeof(struct xl_xen_header) : sizeof(struct xl_cacheline_header)) +
	       (uint64_t)race.slots * STRIDE;
}

/* TRACE: what is recorded besides the usual; each process has a recorder of its own, as a domain has. */
static void record(void)
{
#if defined(TRACE)
	struct xl_recorder *recorder = share(XL_RECORDER_BYTES);

	xl_recorder_init(recorder, XL_TRACE_USUAL | TRACE);
	ring.recorder = recorder;
#endif
}

static uint64_t start(int side)
{
	uint64_t bytes = ring_bytes();

	if (side == XL_SIDE_BACK || side == XL_SIDE_CONSUMER) {
		if (xl_ring_attach(&ring, shared, bytes, LAYOUT, side, ENTRY, ENTRY, ENTRY))
			die("xl_ring_attach");
		ring.asymmetric = race.asymmetric;
		record();
		return rest[BACK]();
	}
	record();
	return rest[FRONT]();
}

static uint64_t start_front(void) { return start(XL_SIDE_FRONT); }
static uint64_t start_back(void) { return start(XL_SIDE_BACK); }
static uint64_t start_producer(void) { return start(XL_SIDE_PRODUCER); }
static uint64_t start_consumer(void) { return start(XL_SIDE_CONSUMER); }

int main(int argc, char **argv)
{
	uint64_t (*ends[2])(void) = {start_front, start_back};
	uint64_t bytes;
	int one_way;

	parse(argc, argv);
	one_way = !strcmp(race.mode, "oneway");
	bytes = ring_bytes();
	control = share(sizeof(*control));
	shared = share(SHARED_BYTES);
	make_pipes();
	xl_spin_init(&spinner);
	if (race.asymmetric && xl_membarrier_register())
		die("membarrier");
	if (one_way) {
		ends[FRONT] = start_producer;
		ends[BACK] = start_consumer;
	}
	for (int end = 0; end < 2; end++)
		rest[end] = one_way ? oneway[end] : !strcmp(race.mode, "roundtrip") ? roundtrip[end] : reqrsp[end];
	if (bytes > SHARED_BYTES || xl_ring_create(&ring, shared, bytes, LAYOUT, one_way ? XL_SIDE_PRODUCER : XL_SIDE_FRONT,
						    ENTRY, ENTRY, ENTRY, 0))
		die("xl_ring_create");
	ring.asymmetric = race.asymmetric;
	return run(ends);
}
