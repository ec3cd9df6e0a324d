// SPDX-License-Identifier: Apache-2.0
//
// boost::lockfree::spsc_queue, with room for as many entries as the others have slots, in shared memory.

#include <boost/lockfree/spsc_queue.hpp>
#include <new>

#include "oneway.h"

namespace {

const unsigned MOST = 1024; /* entries a call */

struct queue {
	virtual unsigned push(const entry *entries, unsigned count) = 0;
	virtual unsigned pop(entry *entries, unsigned limit) = 0;
};

template <unsigned SLOTS> struct sized : queue {
	boost::lockfree::spsc_queue<entry, boost::lockfree::capacity<SLOTS>> inner;

	unsigned push(const entry *entries, unsigned count) override { return (unsigned)inner.push(entries, count); }
	unsigned pop(entry *entries, unsigned limit) override { return (unsigned)inner.pop(entries, limit); }
};

queue *contest; /* made before the fork, so that both processes have its functions at one address */
entry mine[MOST];

} // namespace

static inline unsigned produce(uint64_t sequence, unsigned limit)
{
	if (limit > MOST)
		limit = MOST;
	for (unsigned ahead = 0; ahead < limit; ahead++)
		fill(&mine[ahead], sequence + ahead);
	return contest->push(mine, limit);
}

static inline unsigned consume(uint64_t sequence, uint64_t *difference)
{
	unsigned count = contest->pop(mine, race.batch < MOST ? race.batch : MOST);

	for (unsigned ahead = 0; ahead < count; ahead++)
		*difference |= differs(&mine[ahead], sequence + ahead);
	return count;
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	control = (struct control *)share(sizeof(*control));
	shared = (uint8_t *)share(SHARED_BYTES);
	switch (race.slots) {
	case 32: contest = new (shared) sized<32>; break;
	case 64: contest = new (shared) sized<64>; break;
	case 128: contest = new (shared) sized<128>; break;
	case 256: contest = new (shared) sized<256>; break;
	case 1024: contest = new (shared) sized<1024>; break;
	}
	if (!contest || strcmp(race.mode, "oneway") || race.wait != POLL) {
		fprintf(stderr, "no such form of spsc_queue here\n");
		return 2;
	}
	return run(oneway);
}
