"""The echo protocol: the smallest complete one, and the one to copy.

A request names a granted page and a length; the backend upper-cases that many bytes in place and
answers.

Nodes written by the backend:
    max-size            u16, default 4096: the longest text it takes

Nodes written by the frontend: none of its own (`ring-ref`, `event-channel` and their like belong to
every device).

    frontend                              backend
    state = Initialising                  state = Initialising
                                          writes max-size
                                          state = InitWait
    grants the ring, makes a port,
    writes ring-ref, event-channel
    state = Initialised
                                          maps the ring, binds the port
                                          state = Connected
    reads max-size
    state = Connected
"""

from __future__ import annotations

from typing import Final

from xenlike.abi.driver import Driver
from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import PAGE_SIZE, gref_t, s16, u16, u64

ECHOIF_RSP_OKAY: Final = 0
ECHOIF_RSP_ERROR: Final = -1


class EchoRequest(Struct, c="echoif_request"):
    """Upper-case the first `size` bytes of a granted page, in place."""

    id: u64 = field("private to the frontend, echoed in the response")
    gref: gref_t = field("page holding the text")
    size: u16 = field("length of the text", unit="B", limit="max-size")


class EchoResponse(Struct, c="echoif_response"):
    """The page has been changed, or not."""

    id: u64 = field("of the request")
    size: u16 = field("bytes changed, at most those asked for", unit="B")
    status: s16 = field("ECHOIF_RSP_*")


ECHO: Final = Protocol(
    "echoif",
    EchoRequest,
    EchoResponse,
    nodes=[Node("max-size", u16, side="backend", default=PAGE_SIZE, doc="longest text", unit="B")],
    doc="Upper-cases text in granted pages.",
)

DRIVER: Final = Driver(
    "echo",
    ECHO,
    frontend="xenlike.frontends.echo:EchoFront",
    backend="xenlike.backends.echo:EchoBack",
    doc="The smallest driver, to be copied.",
    exercise="xenlike.frontends.echo:exercise",
)
