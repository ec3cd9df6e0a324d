/* SPDX-License-Identifier: Apache-2.0
 *
 * What an end does when there is nothing to do: look again, spin as long as it pays, or sleep until it is told.
 * The spin is the core's own (xl_spin_inline.h), for every contestant.
 */
#ifndef WAITING_H
#define WAITING_H

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "race.h"
#include "xl_ring.h"
#include "xl_spin_inline.h"

enum { SPIN_NS = 100000 };

static int wake_fd[2], told_fd[2]; /* an end writes wake_fd[other] and reads told_fd[me] */
static struct xl_spinner spinner;
static struct side tally; /* this process's own; copied out at the end */

static void make_pipes(void)
{
	for (int end = 0; end < 2; end++) {
		int fds[2];

		if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
			die("pipe2");
		told_fd[end] = fds[0];
		wake_fd[end] = fds[1];
	}
}

static inline void make_eventfds(void)
{
	for (int end = 0; end < 2; end++)
		if ((wake_fd[end] = told_fd[end] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
			die("eventfd");
}

/* Eight bytes, as an eventfd asks for; a pipe takes them too. */
static void notify(int other)
{
	static const uint64_t one = 1;

	tally.notifications++;
	if (write(wake_fd[other], &one, sizeof(one)) < 0 && errno != EAGAIN)
		die("write");
}

static void drain(int me)
{
	uint64_t bytes[64];

	while (read(told_fd[me], bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
		;
}

/* Whether it was told; `patience_ms` below zero is for ever. */
static int sleep_until_told(int me, int patience_ms)
{
	struct pollfd fd = {.fd = told_fd[me], .events = POLLIN};

	tally.sleeps++;
	if (poll(&fd, 1, patience_ms) == 0)
		return 0;
	drain(me);
	return 1;
}

/*
 * One wait. READY(ring) is true if there is work, ARM(ring) if there is after the peer was asked to tell of more.
 * With the asymmetric fence the first sleep ends after the grace period, for another look.
 */
#define WAIT(me, ring, READY, ARM)                                                                           \
	do {                                                                                                 \
		if (race.wait == POLL) {                                                                     \
			relax();                                                                             \
			break;                                                                               \
		}                                                                                            \
		if (race.wait == ADAPTIVE) {                                                                 \
			int hit;                                                                             \
                                                                                                             \
			XL_SPIN(&spinner, SPIN_NS, READY(ring), hit);                                        \
			if (hit)                                                                             \
				break;                                                                       \
		}                                                                                            \
		if (ARM(ring))                                                                               \
			break;                                                                               \
		if (!race.asymmetric || (!sleep_until_told(me, XL_GRACE_NS / 1000000) && !READY(ring)))      \
			sleep_until_told(me, -1);                                                            \
		tally.wakes_for_nothing += !READY(ring);                                                     \
	} while (0)

static void hand_in(int me)
{
	tally.ready = control->side[me].ready;
	tally.errors |= control->side[me].errors;
	tally.spins_hit = spinner.hits;
	tally.spins_missed = spinner.misses;
	control->side[me] = tally;
}

#endif
