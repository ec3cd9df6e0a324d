// SPDX-License-Identifier: Apache-2.0
//
// DPDK's rte_ring with one producer, one consumer and elements of the entry's size, of the exact capacity.

#define _GNU_SOURCE
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "oneway.h"

enum { MOST = 1024 };

static struct rte_ring *ring;
static struct entry mine[MOST];

static inline unsigned produce(uint64_t sequence, unsigned limit)
{
	if (limit > MOST)
		limit = MOST;
	for (unsigned ahead = 0; ahead < limit; ahead++)
		fill(&mine[ahead], sequence + ahead);
	return rte_ring_sp_enqueue_burst_elem(ring, mine, ENTRY, limit, NULL);
}

static inline unsigned consume(uint64_t sequence, uint64_t *difference)
{
	unsigned count = rte_ring_sc_dequeue_burst_elem(ring, mine, ENTRY, race.batch < MOST ? race.batch : MOST, NULL);

	for (unsigned ahead = 0; ahead < count; ahead++)
		*difference |= differs(&mine[ahead], sequence + ahead);
	return count;
}

int main(int argc, char **argv)
{
	/* Room for one more: that many slots could never all be full otherwise. */
	unsigned slots;

	parse(argc, argv);
	slots = race.slots * 2;
	control = share(sizeof(*control));
	shared = share(SHARED_BYTES);
	ring = (struct rte_ring *)shared;
	if (strcmp(race.mode, "oneway") || race.wait != POLL || rte_ring_get_memsize_elem(ENTRY, slots) > SHARED_BYTES ||
	    rte_ring_init(ring, "contest", race.slots, RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ)) {
		fprintf(stderr, "no such form of rte_ring here\n");
		return 2;
	}
	return run(oneway);
}
