// SPDX-License-Identifier: Apache-2.0
//
// Spinning over all rings of a domain before it sleeps. A wake across CPUs costs 30 to 100 us, and going to
// sleep and back in a Python event loop as much again; a hit while spinning costs about one, a miss the whole
// spin. The first spins must reach over what a Python peer needs for an answer, 50 us and more: with 10 us a
// 4 KiB disk read took 160 to 360 us, with 60 us 105 to 140 (in turns, two CPUs with other work). So a spin is
// worth it while
//
//      hit_rate * WAKE_NS  >  (1 - hit_rate) * length
//
// where `length` follows the time that hits took: twice that, so that ordinary scatter is still a hit, and
// half as much again after every miss, since the work may have come just too late. When it stops paying, spins
// are left out, and one in 16, 32, ... 1024 tries again: a machine whose peers went idle or share its only CPU
// spends next to nothing, and one that gets busy notices soon.
//
// sched_yield is in the loop because the peer may need the very CPU that we spin on.

#include "xl_ring_inline.h"
#include "xl_spin_inline.h"

enum {
	RATE_ONE = 65536,
	RATE_START = RATE_ONE / 2,
	RATE_SHIFT = 3, /* the last eight or so count */
	WAKE_NS = 120000,
	FIRST_NS = 60000,
	LEAST_NS = 2000,
	MOST_NS = 1000000,
	FIRST_PAUSE = 16,
	MOST_PAUSE = 1024,
};

void xl_spin_init(struct xl_spinner *spinner)
{
	memset(spinner, 0, sizeof(*spinner));
	spinner->hit_rate = RATE_START;
	spinner->reach_ns = FIRST_NS / 2;
	spinner->pause = FIRST_PAUSE;
}

/* How long the next spin would be, in ns, if none were left out; 0 if it would not pay. */
uint32_t xl_spin_length(const struct xl_spinner *spinner, uint32_t limit_ns)
{
	uint64_t length = 2ull * spinner->reach_ns;

	if (length < LEAST_NS)
		length = LEAST_NS;
	if (length > MOST_NS)
		length = MOST_NS;
	if (length > limit_ns)
		length = limit_ns;
	if ((uint64_t)spinner->hit_rate * WAKE_NS <= (uint64_t)(RATE_ONE - spinner->hit_rate) * length)
		return 0;
	return (uint32_t)length;
}

/* Decides on the next spin. Pure but for its own record, so that tests need no clock. */
uint32_t xl_spin_plan(struct xl_spinner *spinner, uint32_t limit_ns)
{
	uint32_t length;

	if (!limit_ns)
		return 0;
	if (spinner->skip) {
		spinner->skip--;
		spinner->skipped++;
		return 0;
	}
	length = xl_spin_length(spinner, limit_ns);
	spinner->trial = !length;
	if (length)
		return length;
	/* the past is forgotten, but not that it was bad */
	spinner->reach_ns = FIRST_NS / 2;
	return FIRST_NS < limit_ns ? FIRST_NS : limit_ns;
}

/* Takes in how a spin went. */
void xl_spin_learn(struct xl_spinner *spinner, int hit, uint32_t spent_ns)
{
	spinner->spun_ns += spent_ns;
	if (hit) {
		spinner->hits++;
		/* a trial that succeeds is trusted again at once */
		if (spinner->hit_rate < RATE_START)
			spinner->hit_rate = RATE_START;
		spinner->hit_rate += (RATE_ONE - spinner->hit_rate) >> RATE_SHIFT;
		/* a late hit counts at once, an early one slowly: reach is a high mark that decays */
		if (spent_ns > spinner->reach_ns)
			spinner->reach_ns = spent_ns < MOST_NS ? spent_ns : MOST_NS;
		else
			spinner->reach_ns -= (spinner->reach_ns - spent_ns) >> RATE_SHIFT;
		spinner->pause = FIRST_PAUSE;
		return;
	}
	spinner->misses++;
	spinner->hit_rate -= spinner->hit_rate >> RATE_SHIFT;
	if (spinner->reach_ns < MOST_NS)
		spinner->reach_ns += spinner->reach_ns / 2 + 1;
	if (spinner->trial || !xl_spin_length(spinner, MOST_NS)) {
		spinner->skip = spinner->pause;
		spinner->pause = spinner->pause * 2 < MOST_PAUSE ? spinner->pause * 2 : MOST_PAUSE;
	}
}

static int any_ready(struct xl_ring *const *rings, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (xl_ring_look(rings[i], 1))
			return 1;
	return 0;
}

/* Spins until one of the rings has work or it no longer pays. 1: there is work. */
int xl_spin(struct xl_spinner *spinner, struct xl_ring *const *rings, uint32_t count, uint32_t limit_ns)
{
	int hit;

	XL_SPIN(spinner, limit_ns, any_ready(rings, count), hit);
	return hit;
}
