/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries in one direction, polled.
 */
#ifndef ONEWAY_H
#define ONEWAY_H

#include "race.h"

/* What a contestant defines. */
static inline unsigned produce(uint64_t sequence, unsigned limit);            /* how many of `limit` went in */
static inline unsigned consume(uint64_t sequence, uint64_t *difference);      /* how many came out, compared */

static uint64_t produce_all(void)
{
	uint64_t sequence = 0, start = now_ns(), until = start + (uint64_t)(race.seconds * 1e9);

	do {
		for (unsigned turn = 0; turn < 64; turn++) {
			unsigned left = race.batch;

			while (left) {
				unsigned went = produce(sequence, left);

				sequence += went;
				left -= went;
				if (!went)
					relax();
			}
		}
	} while (now_ns() < until);
	control->total = sequence;
	__atomic_store_n(&control->stop, 1, __ATOMIC_RELEASE);
	/* until the last one is out and compared */
	while (__atomic_load_n(&control->stop, __ATOMIC_ACQUIRE) == 1)
		relax();
	control->end_ns = now_ns() - start;
	return sequence;
}

static uint64_t consume_all(void)
{
	uint64_t sequence = 0, difference = 0;

	for (;;) {
		unsigned came = consume(sequence, &difference);

		sequence += came;
		if (came)
			continue;
		if (__atomic_load_n(&control->stop, __ATOMIC_ACQUIRE) && sequence == control->total)
			break;
		relax();
	}
	control->side[BACK].errors = difference != 0;
	__atomic_store_n(&control->stop, 2, __ATOMIC_RELEASE);
	return sequence;
}

static uint64_t (*const oneway[2])(void) = {produce_all, consume_all};

#endif
