"""The xenstore wire protocol and its ring page (Xen's `io/xs_wire.h`).

A message is a header and `len` bytes of payload, mostly NUL-terminated strings; an answer echoes
`type`, `req_id` and `tx_id`, or has the type `XS_ERROR` and an errno name as its payload.
"""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Bytes, u32

XS_CONTROL: Final = 0
XS_DIRECTORY: Final = 1
XS_READ: Final = 2
XS_GET_PERMS: Final = 3
XS_WATCH: Final = 4
XS_UNWATCH: Final = 5
XS_TRANSACTION_START: Final = 6
XS_TRANSACTION_END: Final = 7
XS_INTRODUCE: Final = 8
XS_RELEASE: Final = 9
XS_GET_DOMAIN_PATH: Final = 10
XS_WRITE: Final = 11
XS_MKDIR: Final = 12
XS_RM: Final = 13
XS_SET_PERMS: Final = 14
XS_WATCH_EVENT: Final = 15
XS_ERROR: Final = 16
XS_IS_DOMAIN_INTRODUCED: Final = 17
XS_RESUME: Final = 18
XS_SET_TARGET: Final = 19
XS_RESET_WATCHES: Final = 21
XS_DIRECTORY_PART: Final = 22
XS_TYPE_COUNT: Final = 23
XS_INVALID: Final = 0xFFFF

XS_NAMES: Final = {
    XS_CONTROL: "CONTROL",
    XS_DIRECTORY: "DIRECTORY",
    XS_READ: "READ",
    XS_GET_PERMS: "GET_PERMS",
    XS_WATCH: "WATCH",
    XS_UNWATCH: "UNWATCH",
    XS_TRANSACTION_START: "TRANSACTION_START",
    XS_TRANSACTION_END: "TRANSACTION_END",
    XS_INTRODUCE: "INTRODUCE",
    XS_RELEASE: "RELEASE",
    XS_GET_DOMAIN_PATH: "GET_DOMAIN_PATH",
    XS_WRITE: "WRITE",
    XS_MKDIR: "MKDIR",
    XS_RM: "RM",
    XS_SET_PERMS: "SET_PERMS",
    XS_WATCH_EVENT: "WATCH_EVENT",
    XS_ERROR: "ERROR",
    XS_IS_DOMAIN_INTRODUCED: "IS_DOMAIN_INTRODUCED",
    XS_RESUME: "RESUME",
    XS_SET_TARGET: "SET_TARGET",
    XS_RESET_WATCHES: "RESET_WATCHES",
    XS_DIRECTORY_PART: "DIRECTORY_PART",
}
"""Message types by number, for logs."""

XS_WATCH_PATH: Final = 0
XS_WATCH_TOKEN: Final = 1

XSD_ERRORS: Final = (
    "EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC", "EIO", "ENOTEMPTY",
    "ENOSYS", "EROFS", "EBUSY", "EAGAIN", "EISCONN", "E2BIG", "EPERM",
)  # fmt: skip
"""The errno names that an `XS_ERROR` may carry, in the header's order."""

XENSTORE_RING_SIZE: Final = 1024
XENSTORE_PAYLOAD_MAX: Final = 4096
XENSTORE_ABS_PATH_MAX: Final = 3072
XENSTORE_REL_PATH_MAX: Final = 2048

XENSTORE_SERVER_FEATURE_RECONNECTION: Final = 1
XENSTORE_SERVER_FEATURE_ERROR: Final = 2

XENSTORE_CONNECTED: Final = 0
XENSTORE_RECONNECT: Final = 1

XENSTORE_ERROR_NONE: Final = 0
XENSTORE_ERROR_COMM: Final = 1
XENSTORE_ERROR_RINGIDX: Final = 2
XENSTORE_ERROR_PROTO: Final = 3


class XsdSockmsg(Struct, c="xsd_sockmsg"):
    """Header of every message."""

    type: u32 = field("XS_*")
    req_id: u32 = field("echoed in the answer")
    tx_id: u32 = field("transaction, 0 where there is none")
    len: u32 = field("bytes that follow")


class XenstoreDomainInterface(Struct, c="xenstore_domain_interface"):
    """The page shared by a domain and the store: two byte rings with free-running indices."""

    req: Annotated[bytes, Bytes(XENSTORE_RING_SIZE)] = field("requests to the store")
    rsp: Annotated[bytes, Bytes(XENSTORE_RING_SIZE)] = field("answers and watch events")
    req_cons: u32 = field("store writes")
    req_prod: u32 = field("domain writes")
    rsp_cons: u32 = field("domain writes")
    rsp_prod: u32 = field("store writes")
    server_features: u32 = field("XENSTORE_SERVER_FEATURE_*")
    connection: u32 = field("XENSTORE_CONNECTED or XENSTORE_RECONNECT")
    error: u32 = field("XENSTORE_ERROR_*")


REQ_OFFSET: Final = XenstoreDomainInterface.__layout__.fields["req"].offset
RSP_OFFSET: Final = XenstoreDomainInterface.__layout__.fields["rsp"].offset
