// SPDX-License-Identifier: Apache-2.0
//
// Xen's own ring.h, as Linux's drivers use it: requests written in place, copied once by the other side. Bare,
// that is without a spin, its events go through an eventfd; otherwise it waits as ours do.

#define _GNU_SOURCE
#include "reqrsp.h"

/* As Linux on x86: only the full barrier is an instruction. */
#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define __XEN_TOOLS__ /* the newest interface; older ones ask for the mb() of a kernel */
#include <xen/io/ring.h>

DEFINE_RING_TYPES(contest, struct entry, struct entry);

static contest_front_ring_t front;
static contest_back_ring_t back;

static inline unsigned front_room(void) { return RING_FREE_REQUESTS(&front); }

static inline void front_push(uint64_t sequence, unsigned count)
{
	for (unsigned ahead = 0; ahead < count; ahead++)
		fill(RING_GET_REQUEST(&front, front.req_prod_pvt + ahead), sequence + ahead);
	front.req_prod_pvt += count;
	if (race.wait == POLL)
		RING_PUSH_REQUESTS(&front);
}

static inline unsigned front_pop(uint64_t sequence, uint64_t *difference)
{
	RING_IDX prod = *(volatile RING_IDX *)&front.sring->rsp_prod, count = prod - front.rsp_cons;
	struct entry mine;

	xen_rmb();
	/* a check that ours makes too */
	if (count > front.req_prod_pvt - front.rsp_cons)
		die("broken ring");
	for (; front.rsp_cons != prod; front.rsp_cons++) {
		RING_COPY_RESPONSE(&front, front.rsp_cons, &mine);
		*difference |= differs(&mine, sequence++ | RESPONSE);
	}
	return count;
}

static inline unsigned back_waiting(void)
{
	RING_IDX prod = *(volatile RING_IDX *)&back.sring->req_prod;

	xen_rmb();
	if (RING_REQUEST_PROD_OVERFLOW(&back, prod))
		die("broken ring");
	return prod - back.req_cons;
}

static inline void back_answer(uint64_t sequence, unsigned count, uint64_t *difference)
{
	struct entry mine;

	for (unsigned ahead = 0; ahead < count; ahead++) {
		RING_COPY_REQUEST(&back, back.req_cons, &mine);
		back.req_cons++;
		*difference |= differs(&mine, sequence + ahead);
	}
	for (unsigned ahead = 0; ahead < count; ahead++)
		fill(RING_GET_RESPONSE(&back, back.rsp_prod_pvt++), (sequence + ahead) | RESPONSE);
	if (race.wait == POLL)
		RING_PUSH_RESPONSES(&back);
}

static inline int front_must_notify(void)
{
	int must;

	RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, must);
	return must;
}

static inline int back_must_notify(void)
{
	int must;

	RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back, must);
	return must;
}

static inline int front_ready(void) { return RING_HAS_UNCONSUMED_RESPONSES(&front) != 0; }
static inline int back_ready(void) { return RING_HAS_UNCONSUMED_REQUESTS(&back) != 0; }

static int front_arm(void)
{
	int work;

	RING_FINAL_CHECK_FOR_RESPONSES(&front, work);
	return work;
}

static int back_arm(void)
{
	int work;

	RING_FINAL_CHECK_FOR_REQUESTS(&back, work);
	return work;
}

int main(int argc, char **argv)
{
	size_t bytes;

	parse(argc, argv);
	bytes = offsetof(contest_sring_t, ring) + race.slots * sizeof(union contest_sring_entry);
	if (!strcmp(race.mode, "oneway") || race.asymmetric || bytes > SHARED_BYTES) {
		fprintf(stderr, "ring.h has no such form\n");
		return 2;
	}
	control = share(sizeof(*control));
	shared = share(SHARED_BYTES);
	if (race.wait == SLEEP)
		make_eventfds();
	else
		make_pipes();
	xl_spin_init(&spinner);
	SHARED_RING_INIT((contest_sring_t *)shared);
	FRONT_RING_INIT(&front, (contest_sring_t *)shared, bytes);
	BACK_RING_INIT(&back, (contest_sring_t *)shared, bytes);
	return run(!strcmp(race.mode, "roundtrip") ? roundtrip : reqrsp);
}
