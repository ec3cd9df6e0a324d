"""The key-value protocol: a small store in the driver domain's memory.

A value of at most a page lies in the page that the request names. A larger one lies in several pages, and the
request names a page that holds the list of them: `size` bytes take `(size + 4095) / 4096` grant references, each
a little-endian u32, from the page's start.

Every change of a key gives it a version that no key had before; 0 is the version of a key that does not exist.
A watch names the version that the guest knows. It is answered when the key has another, at once or later, and after
`watch-ms` in any case, so that none is outstanding for ever. Who wants to know more watches again, with the version
of the answer: so no change is overlooked, though two that are close together may be told as one.

Nodes written by the toolstack in the backend's directory:
    store               str, default "": devices with the same word here share a store; one without has its own

Nodes written by the backend:
    max-value           u32, default 4096: the longest value, in bytes
    max-watches         u32, default 0: watches that a device may have outstanding
    watch-ms            u32, default 1000: a watch is answered after this time at the latest
    epoch               u64, default 0: another number means that the store has begun anew, and is empty

Nodes written by the frontend: none of its own.

    frontend                              backend
    state = Initialising                  state = Initialising
                                          reads store; writes max-value and its like
                                          state = InitWait
    grants the ring and its pages,
    writes ring-ref, event-channel
    state = Initialised
                                          maps the ring, binds the port
                                          state = Connected
    reads max-value and its like
    state = Connected

A response may come in any order; `id` says whose it is.
"""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.driver import Driver
from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import PAGE_SIZE, Bytes, gref_t, s16, u8, u32, u64

KVIF_OP_GET: Final = 0
KVIF_OP_PUT: Final = 1
KVIF_OP_DELETE: Final = 2
KVIF_OP_WATCH: Final = 3

KVIF_RSP_OKAY: Final = 0
KVIF_RSP_ERROR: Final = -1
"""The request makes no sense."""
KVIF_RSP_NOT_FOUND: Final = -2
"""There is no such key."""
KVIF_RSP_TOO_BIG: Final = -3
"""The value does not fit: into the pages of a GET, where `size` says what it needs, or into what a PUT may have."""
KVIF_RSP_NO_SPACE: Final = -4
"""The store has no room for so many bytes."""
KVIF_RSP_QUOTA: Final = -5
"""The store has as many keys, or the device as many watches, as it may have."""

KVIF_KEY_SIZE: Final = 32
"""Longest key."""


class KvRequest(Struct, c="kvif_request"):
    """One operation on one key."""

    id: u64 = field("private to the frontend, echoed in the response")
    version: u64 = field("WATCH: the version that is known")
    gref: gref_t = field("GET, PUT: page of the value, or of the list of its pages where size > 4096")
    size: u32 = field("GET: room for the value; PUT: its length", unit="B", limit="max-value")
    operation: u8 = field("KVIF_OP_*", limit=KVIF_OP_WATCH)
    key: Annotated[bytes, Bytes(KVIF_KEY_SIZE)] = field("1 to 32 bytes, none of them NUL; NULs behind it")


class KvResponse(Struct, c="kvif_response"):
    """What became of it."""

    id: u64 = field("of the request")
    version: u64 = field("of the key, as it is now")
    size: u32 = field("GET: length of the value", unit="B")
    status: s16 = field("KVIF_RSP_*")


KV: Final = Protocol(
    "kvif",
    KvRequest,
    KvResponse,
    nodes=[
        Node("store", str, side="backend", default="", doc="devices with the same word share a store"),
        Node("max-value", u32, side="backend", default=PAGE_SIZE, doc="longest value", unit="B"),
        Node("max-watches", u32, side="backend", default=0, doc="watches outstanding, at most"),
        Node("watch-ms", u32, side="backend", default=1000, doc="a watch is answered by then", unit="ms"),
        Node("epoch", u64, side="backend", default=0, doc="changes when the store begins anew"),
    ],
    doc="Keeps values by their keys.",
)

DRIVER: Final = Driver(
    "kv",
    KV,
    frontend="xenlike.frontends.kv:KvFront",
    backend="xenlike.backends.kv:KvBack",
    doc="A key-value store.",
    exercise="xenlike.frontends.kv:exercise",
)
