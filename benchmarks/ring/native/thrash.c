// SPDX-License-Identifier: Apache-2.0
//
// What cache lines cost: the same queue of one producer and one consumer, with one thing changed at a time. Not the
// rings that are shipped (xl.c runs those) but their bare bones, to see each idea by itself.
//
//	same      both indices in one line, the other end's index read for every batch
//	guarded   each index in a line of its own
//	shadow    guarded, and the other end's index is read only when its last known value says full or empty
//	tag       no indices: each slot says which entry it holds
//
// With FENCE every publication is followed by a full barrier, as a ring needs it that asks whether to notify.

#define _GNU_SOURCE
#include "oneway.h"

enum { SAME, GUARDED, SHADOW, TAG };

struct slot {
#if FORM == 3
	uint64_t tag;
#endif
	struct entry entry;
};

struct queue {
	uint32_t written;
	uint8_t apart[FORM == 0 ? 4 : 124];
	uint32_t read;
	uint8_t from_slots[FORM == 0 ? 116 : 124];
	struct slot slots[];
};

static struct queue *queue;
static uint32_t mine;  /* how far this process is */
static uint32_t other; /* how far the other was when last looked at */

static inline struct slot *slot(uint32_t number)
{
	return &queue->slots[number & (race.slots - 1)];
}

static inline void published(void)
{
#if FENCE
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#if FORM == 3

/* Entry n is there once the tag is n + 1; the slot is free again once it is 0. */
static inline unsigned produce(uint64_t sequence, unsigned limit)
{
	unsigned count;

	for (count = 0; count < limit; count++, mine++) {
		if (__atomic_load_n(&slot(mine)->tag, __ATOMIC_ACQUIRE))
			break;
		fill(&slot(mine)->entry, sequence + count);
		__atomic_store_n(&slot(mine)->tag, sequence + count + 1, __ATOMIC_RELEASE);
	}
	if (count)
		published();
	return count;
}

static inline unsigned consume(uint64_t sequence, uint64_t *difference)
{
	unsigned count;

	for (count = 0; count < race.batch; count++, mine++) {
		if (__atomic_load_n(&slot(mine)->tag, __ATOMIC_ACQUIRE) != sequence + count + 1)
			break;
		*difference |= differs(&slot(mine)->entry, sequence + count);
		__atomic_store_n(&slot(mine)->tag, 0, __ATOMIC_RELEASE);
	}
	return count;
}

#else

static inline unsigned produce(uint64_t sequence, unsigned limit)
{
	unsigned room = race.slots - (mine - other);

	if (FORM != SHADOW || room < limit) {
		other = __atomic_load_n(&queue->read, __ATOMIC_ACQUIRE);
		room = race.slots - (mine - other);
	}
	if (room > limit)
		room = limit;
	for (unsigned ahead = 0; ahead < room; ahead++)
		fill(&slot(mine + ahead)->entry, sequence + ahead);
	if (room) {
		mine += room;
		__atomic_store_n(&queue->written, mine, __ATOMIC_RELEASE);
		published();
	}
	return room;
}

static inline unsigned consume(uint64_t sequence, uint64_t *difference)
{
	unsigned waiting = other - mine;

	if (FORM != SHADOW || !waiting) {
		other = __atomic_load_n(&queue->written, __ATOMIC_ACQUIRE);
		waiting = other - mine;
	}
	if (waiting > race.batch)
		waiting = race.batch;
	for (unsigned ahead = 0; ahead < waiting; ahead++)
		*difference |= differs(&slot(mine + ahead)->entry, sequence + ahead);
	if (waiting) {
		mine += waiting;
		__atomic_store_n(&queue->read, mine, __ATOMIC_RELEASE);
	}
	return waiting;
}

#endif

int main(int argc, char **argv)
{
	parse(argc, argv);
	control = share(sizeof(*control));
	shared = share(SHARED_BYTES);
	queue = (struct queue *)shared;
	if (sizeof(*queue) + race.slots * sizeof(struct slot) > SHARED_BYTES || race.slots & (race.slots - 1)) {
		fprintf(stderr, "no such queue\n");
		return 2;
	}
	return run(oneway);
}
