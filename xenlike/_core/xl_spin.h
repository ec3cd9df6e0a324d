/* SPDX-License-Identifier: Apache-2.0
 *
 * How long to spin before a sleep. See xl_spin.c for the policy.
 */
#ifndef XL_SPIN_H
#define XL_SPIN_H

#include "xl_atomic.h"

struct xl_spinner {
	uint32_t hit_rate;  /* of the last spins or so, in 1/65536 */
	uint32_t reach_ns;  /* how long a successful spin takes, rather more than less */
	uint32_t skip;      /* spins still to be left out */
	uint32_t pause;     /* how many to leave out next time */
	uint32_t trial;     /* the spin that was planned last is one that tries again */

	uint64_t ready;     /* work was there at the first look */
	uint64_t hits;      /* work came while spinning */
	uint64_t misses;    /* none came */
	uint64_t skipped;   /* not spun, since it has not paid */
	uint64_t spun_ns;   /* in hits and misses */
};

#endif
