/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests and responses over one ring of shared slots. Both publish `batch` at a time and take all there is. With
 * events on every publication is followed by the question whether the peer must be told.
 */
#ifndef REQRSP_H
#define REQRSP_H

#include "waiting.h"

/* What a contestant defines. */
static inline unsigned front_room(void);                                      /* free slots */
static inline void front_push(uint64_t sequence, unsigned count);             /* writes and publishes requests */
static inline unsigned front_pop(uint64_t sequence, uint64_t *difference);    /* all responses there are, compared */
static inline unsigned back_waiting(void);                                    /* requests there are */
static inline void back_answer(uint64_t sequence, unsigned count, uint64_t *difference);
static inline int front_must_notify(void), back_must_notify(void);
static inline int front_ready(void), back_ready(void);                        /* is there anything to pop */
static int front_arm(void), back_arm(void);                                   /* the same; from now on the peer tells */

#define FRONT_READY(unused) front_ready()
#define FRONT_ARM(unused) front_arm()
#define BACK_READY(unused) back_ready()
#define BACK_ARM(unused) back_arm()

static inline void tell(int other, int must)
{
	if (must)
		notify(other);
}

static void stop_back(void)
{
	__atomic_store_n(&control->stop, 1, __ATOMIC_SEQ_CST);
	if (race.wait != POLL)
		notify(BACK);
}

/* As many requests in flight as there are slots. */
static uint64_t request_all(void)
{
	uint64_t sent = 0, had = 0, difference = 0, start = now_ns(), until = start + (uint64_t)(race.seconds * 1e9);
	unsigned turn = 0, got;
	int late = 0;

	do {
		while (!late && front_room() >= race.batch) {
			front_push(sent, race.batch);
			sent += race.batch;
			if (race.wait != POLL)
				tell(BACK, front_must_notify());
		}
		got = front_pop(had, &difference);
		had += got;
		if (!got)
			WAIT(FRONT, unused, FRONT_READY, FRONT_ARM);
		if (!(++turn & 63))
			late = now_ns() >= until;
	} while (!late || had != sent);
	control->end_ns = now_ns() - start;
	control->side[FRONT].errors = difference != 0;
	stop_back();
	hand_in(FRONT);
	return had;
}

/* One request at a time. Half the time as a whole, half one by one for the percentiles. */
static uint64_t request_one(void)
{
	uint64_t had = 0, difference = 0, start = now_ns(), half = (uint64_t)(race.seconds * 5e8), whole = 0, last = 0;
	int phase = 0;

	for (;;) {
		front_push(had, 1);
		if (race.wait != POLL)
			tell(BACK, front_must_notify());
		while (!front_pop(had, &difference))
			WAIT(FRONT, unused, FRONT_READY, FRONT_ARM);
		had++;
		if (phase) {
			uint64_t now = now_ns();

			note(now - last);
			last = now;
			if (now - start >= 2 * half)
				break;
		} else if (!(had & 63) || race.wait == SLEEP) {
			last = now_ns();
			phase = last - start >= half;
			if (phase) {
				control->end_ns = last - start;
				whole = had;
			}
		}
	}
	control->side[FRONT].errors = difference != 0;
	stop_back();
	hand_in(FRONT);
	return whole;
}

static uint64_t answer_all(void)
{
	uint64_t done = 0, difference = 0;

	for (;;) {
		unsigned waiting = back_waiting();

		while (waiting) {
			unsigned some = waiting < race.batch ? waiting : race.batch;

			back_answer(done, some, &difference);
			done += some;
			waiting -= some;
			if (race.wait != POLL)
				tell(FRONT, back_must_notify());
			if (!waiting)
				waiting = back_waiting();
		}
		if (__atomic_load_n(&control->stop, __ATOMIC_ACQUIRE))
			break;
		WAIT(BACK, unused, BACK_READY, BACK_ARM);
	}
	control->side[BACK].errors = difference != 0;
	hand_in(BACK);
	return done;
}

static uint64_t (*const reqrsp[2])(void) = {request_all, answer_all};
static uint64_t (*const roundtrip[2])(void) = {request_one, answer_all};

#endif
