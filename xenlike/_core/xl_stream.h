/* SPDX-License-Identifier: Apache-2.0
 *
 * One direction of a byte stream: a power of two of bytes and two free-running indices, as in Xen's
 * io/xs_wire.h and io/console.h. Either end of it: the writer writes `prod`, the reader `cons`.
 */
#ifndef XL_STREAM_H
#define XL_STREAM_H

#include "xl_atomic.h"

/* io/xs_wire.h */
struct xl_xenstore_page {
	uint8_t req[1024], rsp[1024];
	uint32_t req_cons, req_prod, rsp_cons, rsp_prod;
	uint32_t server_features, connection, error;
};

_Static_assert(offsetof(struct xl_xenstore_page, req) == 0, "xs_wire req");
_Static_assert(offsetof(struct xl_xenstore_page, rsp) == 1024, "xs_wire rsp");
_Static_assert(offsetof(struct xl_xenstore_page, req_cons) == 2048, "xs_wire req_cons");
_Static_assert(offsetof(struct xl_xenstore_page, req_prod) == 2052, "xs_wire req_prod");
_Static_assert(offsetof(struct xl_xenstore_page, rsp_cons) == 2056, "xs_wire rsp_cons");
_Static_assert(offsetof(struct xl_xenstore_page, rsp_prod) == 2060, "xs_wire rsp_prod");
_Static_assert(offsetof(struct xl_xenstore_page, server_features) == 2064, "xs_wire server_features");
_Static_assert(offsetof(struct xl_xenstore_page, connection) == 2068, "xs_wire connection");
_Static_assert(offsetof(struct xl_xenstore_page, error) == 2072, "xs_wire error");

/* io/console.h */
struct xl_console_page {
	uint8_t in[1024], out[2048];
	uint32_t in_cons, in_prod, out_cons, out_prod;
};

_Static_assert(offsetof(struct xl_console_page, in) == 0, "console in");
_Static_assert(offsetof(struct xl_console_page, out) == 1024, "console out");
_Static_assert(offsetof(struct xl_console_page, in_cons) == 3072, "console in_cons");
_Static_assert(offsetof(struct xl_console_page, in_prod) == 3076, "console in_prod");
_Static_assert(offsetof(struct xl_console_page, out_cons) == 3080, "console out_cons");
_Static_assert(offsetof(struct xl_console_page, out_prod) == 3084, "console out_prod");

enum {
	XL_STREAM_FINE = 0,
	XL_STREAM_BROKEN = 1, /* the indices in the page were impossible */
	XL_STREAM_CLOSED = 2, /* the end was closed here */
};

struct xl_stream {
	uint8_t *data;
	xl_shared_u32 *cons, *prod; /* shared; the peer may write either, with any value */
	uint32_t size;
	uint32_t broken, bad_prod, bad_cons; /* XL_STREAM_*, and what broke it */
	uint32_t notify; /* since the last kick, the peer may have gone to sleep on what we changed */
	uint64_t written, taken; /* bytes */
};

#endif
