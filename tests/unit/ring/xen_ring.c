// SPDX-License-Identifier: Apache-2.0
//
// Xen's own ring.h behind plain functions, for test_xen_header.py. Nothing here is ours but the loops.

#include <stdint.h>
#include <string.h>

#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)

#define __XEN_INTERFACE_VERSION__ 0x00040e00 /* or ring.h takes our barriers for old kernels' names */
#include <xen/io/ring.h>

#define RING(name, req_t, rsp_t)                                                                              \
	DEFINE_RING_TYPES(name, req_t, rsp_t);                                                                \
	struct name##_ends {                                                                                  \
		name##_front_ring_t front;                                                                    \
		name##_back_ring_t back;                                                                      \
	};                                                                                                    \
	unsigned name##_bytes(void) { return sizeof(struct name##_ends); }                                    \
	unsigned name##_stride(void) { return sizeof(union name##_sring_entry); }                             \
	unsigned name##_init(struct name##_ends *e, name##_sring_t *s, unsigned size, uint32_t first)         \
	{                                                                                                     \
		SHARED_RING_INIT(s);                                                                          \
		s->req_prod = s->rsp_prod = first;                                                            \
		s->req_event = s->rsp_event = first + 1;                                                      \
		FRONT_RING_ATTACH(&e->front, s, first, size);                                                 \
		return RING_SIZE(&e->front);                                                                  \
	}                                                                                                     \
	/* as Linux's xen_blkif_map() */                                                                      \
	void name##_attach_back(struct name##_ends *e, name##_sring_t *s, unsigned size)                      \
	{                                                                                                     \
		BACK_RING_ATTACH(&e->back, s, s->rsp_prod, size);                                             \
	}                                                                                                     \
	int name##_front_push(struct name##_ends *e, const req_t *from, int count, int *notify)               \
	{                                                                                                     \
		int done = 0;                                                                                 \
		for (; done < count && !RING_FULL(&e->front); done++)                                         \
			memcpy(RING_GET_REQUEST(&e->front, e->front.req_prod_pvt++), from + done,             \
			       sizeof(req_t));                                                                \
		RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&e->front, *notify);                                      \
		return done;                                                                                  \
	}                                                                                                     \
	int name##_back_pop(struct name##_ends *e, req_t *to, int limit)                                      \
	{                                                                                                     \
		RING_IDX prod = e->back.sring->req_prod;                                                      \
		int done = 0;                                                                                 \
		xen_rmb();                                                                                    \
		for (; done < limit && e->back.req_cons != prod &&                                            \
		       !RING_REQUEST_CONS_OVERFLOW(&e->back, e->back.req_cons);                               \
		     done++)                                                                                  \
			memcpy(to + done, RING_GET_REQUEST(&e->back, e->back.req_cons++), sizeof(req_t));     \
		return done;                                                                                  \
	}                                                                                                     \
	int name##_back_push(struct name##_ends *e, const rsp_t *from, int count, int *notify)                \
	{                                                                                                     \
		int done = 0;                                                                                 \
		for (; done < count && e->back.rsp_prod_pvt != e->back.req_cons; done++)                      \
			memcpy(RING_GET_RESPONSE(&e->back, e->back.rsp_prod_pvt++), from + done,              \
			       sizeof(rsp_t));                                                                \
		RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&e->back, *notify);                                      \
		return done;                                                                                  \
	}                                                                                                     \
	int name##_front_pop(struct name##_ends *e, rsp_t *to, int limit)                                     \
	{                                                                                                     \
		RING_IDX prod = e->front.sring->rsp_prod;                                                     \
		int done = 0;                                                                                 \
		xen_rmb();                                                                                    \
		for (; done < limit && e->front.rsp_cons != prod; done++)                                     \
			memcpy(to + done, RING_GET_RESPONSE(&e->front, e->front.rsp_cons++), sizeof(rsp_t));  \
		return done;                                                                                  \
	}                                                                                                     \
	int name##_front_arm(struct name##_ends *e)                                                           \
	{                                                                                                     \
		int work;                                                                                     \
		RING_FINAL_CHECK_FOR_RESPONSES(&e->front, work);                                              \
		return !!work;                                                                                \
	}                                                                                                     \
	int name##_back_arm(struct name##_ends *e)                                                            \
	{                                                                                                     \
		int work;                                                                                     \
		RING_FINAL_CHECK_FOR_REQUESTS(&e->back, work);                                                \
		return !!work;                                                                                \
	}

/* blkif */
typedef struct { uint64_t word[14]; } req112;
typedef struct { uint64_t word[2]; } rsp16;
RING(blk, req112, rsp16)

/* netif transmit */
typedef struct { uint32_t word[3]; } req12;
typedef struct { uint32_t word[1]; } rsp4;
RING(net, req12, rsp4)

/* equal sizes, a whole line */
typedef struct { uint64_t word[8]; } entry64;
RING(line, entry64, entry64)

/* responses larger than requests, nothing aligned */
typedef struct { uint8_t byte[5]; } req5;
typedef struct { uint8_t byte[9]; } rsp9;
RING(odd, req5, rsp9)

/* the union is larger than either: 12 and 8 make 16 */
typedef struct { uint64_t word[1]; } rsp8;
RING(padded, req12, rsp8)
