/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop of a spin, around whatever the caller looks at. xl_spin.c has the policy.
 */
#ifndef XL_SPIN_INLINE_H
#define XL_SPIN_INLINE_H

#include <sched.h>
#include <time.h>

#include "xl_spin.h"
#include "xl_api.h"

/*
 * Looks before the clock is read at all. Between two ends that are both awake work comes within a microsecond,
 * and two readings of the clock with a sched_yield would cost as much again.
 */
enum { XL_GLANCES = 32 };

static inline uint64_t xl_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Evaluates READY again and again, until it is true or no longer pays. `hit`: which of the two. */
#define XL_SPIN(spinner, limit_ns, READY, hit)                                                               \
	do {                                                                                                 \
		uint32_t length_, turn_;                                                                     \
		uint64_t start_, now_;                                                                       \
                                                                                                             \
		for (turn_ = (limit_ns) ? XL_GLANCES : 1; !((hit) = (READY)) && --turn_;)                    \
			xl_cpu_relax();                                                                      \
		if (hit) {                                                                                   \
			(spinner)->ready++;                                                                  \
			break;                                                                               \
		}                                                                                            \
		length_ = xl_spin_plan(spinner, limit_ns);                                                   \
		if (!length_)                                                                                \
			break;                                                                               \
		start_ = now_ = xl_now_ns();                                                                 \
		do {                                                                                         \
			for (turn_ = 0; !(hit) && turn_ < 8; turn_++) {                                      \
				xl_cpu_relax();                                                              \
				(hit) = (READY);                                                             \
			}                                                                                    \
			if (!(hit))                                                                          \
				sched_yield();                                                               \
			now_ = xl_now_ns();                                                                  \
		} while (!(hit) && now_ - start_ < length_);                                                 \
		now_ -= start_;                                                                              \
		xl_spin_learn(spinner, hit, (uint32_t)(now_ < UINT32_MAX ? now_ : UINT32_MAX));              \
	} while (0)

#endif
