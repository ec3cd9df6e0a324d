/* SPDX-License-Identifier: Apache-2.0
 *
 * One end of a ring, and the layouts of the shared memory.
 *
 * Indices are free-running uint32: they only ever grow, wrap at 2^32, and are masked only where a slot is
 * addressed. So `a - b` in uint32 is a distance whatever has wrapped, a full and an empty ring differ, and
 * an index can be compared with what it was long ago. The number of slots is a power of two, so slot
 * numbers go on across the wrap without a jump.
 *
 *      rsp_cons <= rsp_prod <= rsp_prod_pvt <= req_cons <= req_prod <= req_prod_pvt <= rsp_cons + slots
 *      (front)     (shared)    (back)          (back)      (shared)    (front)
 *
 * `push` publishes at once, so here each private producer index equals the shared one, and the shared one
 * is never read back: the peer could have changed it.
 */
#ifndef XL_RING_H
#define XL_RING_H

#include "xl_atomic.h"
#include "xl_recorder.h"

enum {
	XL_LAYOUT_XEN = 0,
	XL_LAYOUT_CACHELINE = 1,
	XL_LAYOUT_TAG = 2, /* cacheline's header, and a tag in each slot; no one-way rings */
};

enum {
	XL_SIDE_FRONT = 0,    /* writes requests, reads responses */
	XL_SIDE_BACK = 1,     /* reads requests, writes responses */
	XL_SIDE_PRODUCER = 2, /* a front of a one-way ring: what comes back is only the consumer's index */
	XL_SIDE_CONSUMER = 3, /* a back of a one-way ring: whatever it has copied out is free again */
};

enum {
	XL_RING_FINE = 0,
	XL_RING_OVERRUN = 1, /* the peer claims to have produced more than there can be */
	XL_RING_REWIND = 2,  /* the peer took back what it had produced */
	XL_RING_CLOSED = 3,  /* the end was closed here */
	XL_RING_BAD_TAG = 4, /* a slot's tag is neither that of an entry nor that of an empty slot */
};

/* Xen's io/ring.h: both ends in one line. */
struct xl_xen_header {
	uint32_t req_prod, req_event;
	uint32_t rsp_prod, rsp_event;
	uint8_t pad[48];
};

_Static_assert(offsetof(struct xl_xen_header, req_prod) == 0, "ring.h req_prod");
_Static_assert(offsetof(struct xl_xen_header, req_event) == 4, "ring.h req_event");
_Static_assert(offsetof(struct xl_xen_header, rsp_prod) == 8, "ring.h rsp_prod");
_Static_assert(offsetof(struct xl_xen_header, rsp_event) == 12, "ring.h rsp_event");
_Static_assert(sizeof(struct xl_xen_header) == 64, "ring.h ring");

/*
 * Each end writes lines of its own, and the adjacent-line prefetcher has nothing to pull in. An event changes only
 * when its end goes to sleep, and is read at every kick: beside the index, which changes with every publication,
 * each of those reads was a cache miss (a third of all that push 1 took, where it was measured).
 */
struct xl_cacheline_header {
	uint32_t req_prod; /* the front's */
	uint8_t req_prod_pad[124];
	uint32_t rsp_event;
	uint8_t rsp_event_pad[124];
	uint32_t rsp_prod; /* the back's */
	uint8_t rsp_prod_pad[124];
	uint32_t req_event;
	uint8_t req_event_pad[124];
};

_Static_assert(offsetof(struct xl_cacheline_header, req_prod) == 0, "cacheline req_prod");
_Static_assert(offsetof(struct xl_cacheline_header, rsp_event) == 128, "cacheline rsp_event");
_Static_assert(offsetof(struct xl_cacheline_header, rsp_prod) == 256, "cacheline rsp_prod");
_Static_assert(offsetof(struct xl_cacheline_header, req_event) == 384, "cacheline req_event");
_Static_assert(sizeof(struct xl_cacheline_header) == 512, "cacheline slots");

/*
 * In tag form a slot says itself what it holds, and the producer indices in the header stay as they were at
 * the beginning: an entry costs its own lines and no other. Request q has the tag 2q + 1, response p the tag
 * 2p + 2, mod 2^32. To the back slot q is empty while it holds response q - slots, or 0 on the first lap; to the
 * front slot p is empty while it holds request p. Anything else breaks the ring.
 */
struct xl_tagged_slot {
	xl_shared_u32 tag;
	uint32_t zero;
	uint8_t entry[];
};

_Static_assert(offsetof(struct xl_tagged_slot, entry) == 8, "tagged slot");

/* An end with the asymmetric fence looks once more when it has slept for so long; see xl_ring_arm. */
enum { XL_GRACE_NS = 20000000 };

/*
 * One end's private state. It may lie in its domain's recorder, where tools read it as it is, with the offsets that
 * xenlike/abi/recorder.py declares; nobody but this end ever writes it.
 */
struct xl_ring {
	uint32_t nr_slots, stride;
	uint32_t out_size, in_size; /* bytes of an entry that we write, that we read */
	uint32_t prod;              /* what we have published */
	uint32_t kicked;            /* `prod` at the last kick */
	uint32_t cons;              /* what we have copied out */
	uint32_t seen;              /* the peer's index when it was last loaded, or found by tags, and possible */
	uint32_t first;             /* where the indices began */
	uint32_t tagged;            /* XL_LAYOUT_TAG */
	uint32_t lapped;            /* with tags: every slot has been looked at once, and none is empty by 0 any more */
	uint32_t side;
	uint32_t asymmetric;        /* feature-asymmetric-fence: membarrier in arm, no fence in kick */
	uint32_t broken, bad_index; /* XL_RING_*, and the index or tag that did it */
	uint32_t armed;             /* what we asked to be notified of last: our event */

	uint64_t pushed, popped;       /* entries */
	uint64_t kicks, notifications; /* kicks with something new; those that had to notify */
	uint64_t arms, late;           /* arms; those that found work and forbade sleep */

	uint32_t queue, pad;                /* its number in the recorder, 0 if it has none */
	const struct xl_recorder *recorder; /* where it traces; never NULL */

	/* Shared. Ours to write: */
	xl_shared_u32 *my_prod;  /* what we have produced */
	xl_shared_u32 *my_event; /* "tell me when your producer index passes this" */
	/* The peer's to write, with any value: */
	xl_shared_u32 *peer_prod;
	xl_shared_u32 *peer_event;
	uint8_t *slots;
};

/* What the recorder has of one ring. The counters are Python's: it alone knows of waiting. */
struct xl_recorder_queue {
	char name[64]; /* the device's nodename; ends with 0 */
	uint32_t in_use, pad;
	uint64_t spins_hit, spins_missed, sleeps, spurious, full;
	uint64_t reserved[2];
	struct xl_ring ring;
	uint8_t rest[];
};

_Static_assert(offsetof(struct xl_recorder_queue, spins_hit) == 72, "recorder queue counters");
_Static_assert(offsetof(struct xl_recorder_queue, ring) == 128, "recorder queue ring");
_Static_assert(sizeof(struct xl_recorder_queue) <= XL_RECORDER_QUEUE_BYTES, "recorder queue");

/* xl_recorder.c */
void xl_trace_ring(const struct xl_ring *ring, int event, uint32_t a, uint32_t b, uint32_t c, uint32_t d);
void xl_trace_entries(const struct xl_ring *ring, int event, uint32_t first, const void *entries, uint32_t size,
		      uint32_t count);

#endif
