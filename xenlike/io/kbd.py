"""Keyboard and pointer messages and page: Xen's `io/kbdif.h`, device type `vkbd`."""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, Union, field
from xenlike.abi.types import Array, Bytes, s16, s32, u8, u32

XENKBD_TYPE_MOTION: Final = 1
XENKBD_TYPE_RESERVED: Final = 2
XENKBD_TYPE_KEY: Final = 3
XENKBD_TYPE_POS: Final = 4
XENKBD_TYPE_MTOUCH: Final = 5

XENKBD_MT_EV_DOWN: Final = 0
XENKBD_MT_EV_UP: Final = 1
XENKBD_MT_EV_MOTION: Final = 2
XENKBD_MT_EV_SYN: Final = 3
XENKBD_MT_EV_SHAPE: Final = 4
XENKBD_MT_EV_ORIENT: Final = 5

XENKBD_IN_EVENT_SIZE: Final = 40
XENKBD_OUT_EVENT_SIZE: Final = 40
XENKBD_IN_RING_SIZE: Final = 2048
XENKBD_IN_RING_OFFS: Final = 1024
XENKBD_IN_RING_LEN: Final = XENKBD_IN_RING_SIZE // XENKBD_IN_EVENT_SIZE
XENKBD_OUT_RING_SIZE: Final = 1024
XENKBD_OUT_RING_OFFS: Final = XENKBD_IN_RING_OFFS + XENKBD_IN_RING_SIZE
XENKBD_OUT_RING_LEN: Final = XENKBD_OUT_RING_SIZE // XENKBD_OUT_EVENT_SIZE


class XenkbdMotion(Struct, c="xenkbd_motion"):
    """The pointer moved."""

    type: u8 = field("XENKBD_TYPE_MOTION")
    rel_x: s32 = field()
    rel_y: s32 = field()
    rel_z: s32 = field("wheel")


class XenkbdKey(Struct, c="xenkbd_key"):
    """A key or a button."""

    type: u8 = field("XENKBD_TYPE_KEY")
    pressed: u8 = field("1, or 0 when released")
    keycode: u32 = field("KEY_* of Linux's input.h")


class XenkbdPosition(Struct, c="xenkbd_position"):
    """Where the pointer is."""

    type: u8 = field("XENKBD_TYPE_POS")
    abs_x: s32 = field(unit="pixels")
    abs_y: s32 = field(unit="pixels")
    rel_z: s32 = field("wheel")


class XenkbdMtouchPos(Struct, c="xenkbd_mtouch_pos", anonymous=True):
    """Where a finger is."""

    abs_x: s32 = field(unit="pixels")
    abs_y: s32 = field(unit="pixels")


class XenkbdMtouchShape(Struct, c="xenkbd_mtouch_shape", anonymous=True):
    """The shape of a touch."""

    major: u32 = field("long axis", unit="pixels")
    minor: u32 = field("short axis", unit="pixels")


class XenkbdMtouchDetail(Union, c="xenkbd_mtouch_detail", anonymous=True):
    """By event type."""

    pos: XenkbdMtouchPos = field()
    shape: XenkbdMtouchShape = field()
    orientation: s16 = field("angle of the long axis", unit="degrees")


class XenkbdMtouch(Struct, c="xenkbd_mtouch"):
    """A touch."""

    type: u8 = field("XENKBD_TYPE_MTOUCH")
    event_type: u8 = field("XENKBD_MT_EV_*")
    contact_id: u8 = field("which finger")
    reserved: Annotated[tuple[int, ...], Array(u8, 5)] = ()
    u: XenkbdMtouchDetail = field()


class XenkbdInEvent(Union, c="xenkbd_in_event"):
    """From the backend."""

    type: u8 = field("XENKBD_TYPE_*")
    motion: XenkbdMotion = field()
    key: XenkbdKey = field()
    pos: XenkbdPosition = field()
    mtouch: XenkbdMtouch = field()
    pad: Annotated[bytes, Bytes(XENKBD_IN_EVENT_SIZE)] = b""


class XenkbdOutEvent(Union, c="xenkbd_out_event"):
    """From the frontend: none is defined."""

    type: u8 = field()
    pad: Annotated[bytes, Bytes(XENKBD_OUT_EVENT_SIZE)] = b""


class XenkbdPage(Struct, c="xenkbd_page"):
    """The shared page; events lie from XENKBD_IN_RING_OFFS and XENKBD_OUT_RING_OFFS."""

    in_cons: u32 = field()
    in_prod: u32 = field()
    out_cons: u32 = field()
    out_prod: u32 = field()
