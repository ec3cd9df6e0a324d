/* SPDX-License-Identifier: Apache-2.0
 *
 * A backend's loop in C, for drivers whose `serve` hands their queue to `xenlike.xenbus.run_engine`.
 *
 *	static int handle(void *context, const void *request, void *response) { ... }
 *	int my_engine(struct xl_ring *ring, int rx, int tx, int stop, void *context)
 *	{
 *		return xl_engine_run(ring, rx, tx, stop, handle, context);
 *	}
 *
 * 1. Requests are copied out, each byte once; `handle` sees the copy, and checks it before it uses it.
 * 2. Responses of a batch are published together, and the frontend is notified if it asked for that.
 * 3. With nothing to do the engine spins a little, arms the ring, and sleeps on the event channel and on `stop`.
 * 4. It returns 0 when `stop` is readable, -EPROTO when the frontend broke the ring, -EPIPE when it is gone, and
 *    what `handle` returns below 0.
 *
 * It runs in a thread of its own, without Python's lock; nobody else touches the ring meanwhile.
 */
#ifndef XL_ENGINE_H
#define XL_ENGINE_H

#include <poll.h>

#include "xl_ring_inline.h"
#include "xl_spin_inline.h"

enum { XL_ENGINE_BATCH = 32, XL_ENGINE_SPIN_NS = 100000, XL_ENGINE_MOST_ENTRY = 4096 };

/* Fills the response to a request that it has yet to check; below 0 ends the connection. The id is copied by it. */
typedef int xl_engine_handle(void *context, const void *request, void *response);

/* 1: pending or not, look again; 0: asked to stop; -EPIPE: the frontend hung up. */
static inline int xl_engine_sleep(int rx, int stop)
{
	struct pollfd wait[2] = { { rx, POLLIN, 0 }, { stop, POLLIN, 0 } };
	int seen;

	if (poll(wait, 2, -1) < 0)
		return errno == EINTR ? 1 : -errno;
	if (wait[1].revents)
		return 0;
	seen = xl_drain(rx);
	if (seen < 0)
		return seen;
	return seen & 2 ? -EPIPE : 1;
}

static inline int xl_engine_stopped(int stop)
{
	struct pollfd look = { stop, POLLIN, 0 };

	return poll(&look, 1, 0) > 0;
}

static inline int xl_engine_run(struct xl_ring *ring, int rx, int tx, int stop, xl_engine_handle *handle, void *context)
{
	/* private copies: what the frontend writes later changes nothing */
	_Alignas(64) uint8_t request[XL_ENGINE_MOST_ENTRY], response[XL_ENGINE_MOST_ENTRY];
	struct xl_spinner spinner;
	int waiting, hit, gone = 0, result, turns = 0;

	xl_spin_init(&spinner);
	for (;;) {
		XL_SPIN(&spinner, gone ? 0 : XL_ENGINE_SPIN_NS, xl_ring_look(ring, 1) != 0, hit);
		waiting = xl_ring_waiting(ring, XL_ENGINE_BATCH);
		if (waiting < 0)
			return waiting;
		if (!waiting) {
			if (gone)
				return -EPIPE; /* and what it had asked for is done */
			if (xl_ring_arm(ring, 1))
				continue;
			result = xl_engine_sleep(rx, stop);
			if (!result)
				return 0;
			if (result == -EPIPE)
				gone = 1;
			else if (result < 0)
				return result;
			continue;
		}
		if (waiting > XL_ENGINE_BATCH)
			waiting = XL_ENGINE_BATCH;
		for (int n = 0; n < waiting; n++) {
			memcpy(request, xl_ring_in(ring, 0), ring->in_size);
			xl_ring_taken(ring, 1);
			memset(response, 0, ring->out_size);
			result = handle(context, request, response);
			if (result < 0)
				return result;
			memcpy(xl_ring_out(ring, (uint32_t)n), response, ring->out_size);
		}
		xl_ring_publish(ring, (uint32_t)waiting);
		if (xl_ring_must_notify(ring) && xl_notify(tx) <= 0)
			gone = 1;
		/* a frontend that never lets it sleep must not keep it from ending */
		if (++turns % 64 == 0 && xl_engine_stopped(stop))
			return 0;
	}
}

#endif
