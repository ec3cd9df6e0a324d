"""The random-number protocol: a hardware source of entropy, as guests without one of their own know it.

A request names a granted page and a length; the backend fills that many bytes with entropy and answers.

Nodes written by the toolstack in the backend's directory:
    rate                u32, default 1048576: bytes a second that this guest may take, 0 for any number

Nodes written by the backend:
    max-bytes           u32, default 4096: the most that one request may ask for

Nodes written by the frontend: none of its own.

    frontend                              backend
    state = Initialising                  state = Initialising
                                          reads rate, writes max-bytes
                                          state = InitWait
    grants the ring and its pages,
    writes ring-ref, event-channel
    state = Initialised
                                          maps the ring, binds the port
                                          state = Connected
    reads max-bytes
    state = Connected

An answer may be late, since the budget has to grow first, and it may be short, as that of a hardware source.
It has at least one byte.
"""

from __future__ import annotations

from typing import Final

from xenlike.abi.driver import Driver
from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import PAGE_SIZE, gref_t, s16, u16, u32, u64

RNGIF_RSP_OKAY: Final = 0
RNGIF_RSP_ERROR: Final = -1


class RngRequest(Struct, c="rngif_request"):
    """Fill the first `size` bytes of a granted page."""

    id: u64 = field("private to the frontend, echoed in the response")
    gref: gref_t = field("page to be filled")
    size: u16 = field("how much, 1 to max-bytes", unit="B", limit="max-bytes")


class RngResponse(Struct, c="rngif_response"):
    """The page holds entropy, or not."""

    id: u64 = field("of the request")
    size: u16 = field("bytes filled, from the page's start; at most those asked for", unit="B")
    status: s16 = field("RNGIF_RSP_*")


RNG: Final = Protocol(
    "rngif",
    RngRequest,
    RngResponse,
    nodes=[
        Node("rate", u32, side="backend", default=1 << 20, doc="bytes a second, 0 for any number", unit="B/s"),
        Node("max-bytes", u32, side="backend", default=PAGE_SIZE, doc="most that a request may ask for", unit="B"),
    ],
    doc="Fills granted pages with entropy.",
)

DRIVER: Final = Driver(
    "rng",
    RNG,
    frontend="xenlike.frontends.rng:RngFront",
    backend="xenlike.backends.rng:RngBack",
    doc="A hardware source of random numbers.",
    exercise="xenlike.frontends.rng:exercise",
)
