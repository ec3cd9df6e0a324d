"""The framebuffer's messages and page: Xen's `io/fbif.h`, device type `vfb`."""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, Union, field
from xenlike.abi.types import Array, Bytes, s32, u8, u32, u64

XENFB_TYPE_UPDATE: Final = 2
XENFB_TYPE_RESIZE: Final = 3
XENFB_TYPE_REFRESH_PERIOD: Final = 1
XENFB_NO_REFRESH: Final = 0

XENFB_OUT_EVENT_SIZE: Final = 40
XENFB_IN_EVENT_SIZE: Final = 40
XENFB_IN_RING_SIZE: Final = 1024
XENFB_IN_RING_OFFS: Final = 1024
XENFB_IN_RING_LEN: Final = XENFB_IN_RING_SIZE // XENFB_IN_EVENT_SIZE
XENFB_OUT_RING_SIZE: Final = 2048
XENFB_OUT_RING_OFFS: Final = XENFB_IN_RING_OFFS + XENFB_IN_RING_SIZE
XENFB_OUT_RING_LEN: Final = XENFB_OUT_RING_SIZE // XENFB_OUT_EVENT_SIZE


class XenfbUpdate(Struct, c="xenfb_update"):
    """A rectangle has changed."""

    type: u8 = field("XENFB_TYPE_UPDATE")
    x: s32 = field()
    y: s32 = field()
    width: s32 = field()
    height: s32 = field()


class XenfbResize(Struct, c="xenfb_resize"):
    """The picture has another size."""

    type: u8 = field("XENFB_TYPE_RESIZE")
    width: s32 = field(unit="pixels")
    height: s32 = field(unit="pixels")
    stride: s32 = field(unit="B")
    depth: s32 = field(unit="bits")
    offset: s32 = field("of the picture in the framebuffer", unit="B")


class XenfbOutEvent(Union, c="xenfb_out_event"):
    """From the frontend."""

    type: u8 = field("XENFB_TYPE_*")
    update: XenfbUpdate = field()
    resize: XenfbResize = field()
    pad: Annotated[bytes, Bytes(XENFB_OUT_EVENT_SIZE)] = b""


class XenfbRefreshPeriod(Struct, c="xenfb_refresh_period"):
    """How often the backend looks."""

    type: u8 = field("XENFB_TYPE_REFRESH_PERIOD")
    period: u32 = field("XENFB_NO_REFRESH: not at all", unit="ms")


class XenfbInEvent(Union, c="xenfb_in_event"):
    """From the backend."""

    type: u8 = field("XENFB_TYPE_*")
    refresh_period: XenfbRefreshPeriod = field()
    pad: Annotated[bytes, Bytes(XENFB_IN_EVENT_SIZE)] = b""


class XenfbPage(Struct, c="xenfb_page"):
    """The shared page; events lie from XENFB_IN_RING_OFFS and XENFB_OUT_RING_OFFS."""

    in_cons: u32 = field()
    in_prod: u32 = field()
    out_cons: u32 = field()
    out_prod: u32 = field()
    width: s32 = field(unit="pixels")
    height: s32 = field(unit="pixels")
    line_length: u32 = field(unit="B")
    mem_length: u32 = field(unit="B")
    depth: u8 = field(unit="bits")
    pd: Annotated[tuple[int, ...], Array(u64, 256)] = field("pages of page numbers")
