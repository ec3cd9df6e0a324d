"""The shared page of a vchan: two byte rings of negotiated size (Xen's `io/libxenvchan.h`)."""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Array, gref_t, u8, u16, u32

VCHAN_NOTIFY_WRITE: Final = 1
VCHAN_NOTIFY_READ: Final = 2


class RingShared(Struct, c="ring_shared"):
    """Indices of one byte ring."""

    cons: u32 = field()
    prod: u32 = field()


class VchanInterface(Struct, c="vchan_interface"):
    """First page; the client writes `left` and reads `right`."""

    left: RingShared = field("client to server")
    right: RingShared = field("server to client")
    left_order: u16 = field("log2 of the ring's size; 10 and 11 lie in this page")
    right_order: u16 = field("as left_order")
    cli_live: u8 = field("0 has exited, 1 connected, 2 not yet")
    srv_live: u8 = field("as cli_live")
    cli_notify: u8 = field("VCHAN_NOTIFY_*: what the client wants to hear of")
    srv_notify: u8 = field("VCHAN_NOTIFY_*: what the server wants to hear of")
    grants: Annotated[tuple[int, ...], Array(gref_t, 0)] = ()
