"""Where things lie in a shared ring: Xen's layout, and the one with each index in lines of its own.

All indices are free-running little-endian u32; slots are addressed by `index & (slots - 1)`.

    offset   xen (Xen's ring.h)     cacheline
    0        req_prod               req_prod    (front writes)
    4        req_event
    8        rsp_prod
    12       rsp_event
    128                             rsp_event   (front writes)
    256                             rsp_prod    (back writes)
    384                             req_event   (back writes)
    slots    from 64                from 512, each a multiple of 64 bytes, or a power of two below
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RingLayout:
    """Offsets in bytes from the start of the ring; `stride` is the distance of two slots."""

    name: str
    req_prod: int
    req_event: int
    rsp_prod: int
    rsp_event: int
    slots: int
    stride: int


def XEN(entry_size: int) -> RingLayout:
    """Returns Xen's own layout for slots of `entry_size` bytes.

    `entry_size` is C's `sizeof(union ..._sring_entry)`, so it has its alignment already.
    """
    return RingLayout("xen", 0, 4, 8, 12, 64, entry_size)


def CACHELINE(entry_size: int) -> RingLayout:
    """Returns the layout in which each end writes cache lines of its own, and no short entry lies in two."""
    stride = 1 << (entry_size - 1).bit_length() if entry_size < 64 else (entry_size + 63) & -64
    return RingLayout("cacheline", 0, 384, 256, 128, 512, stride)


def ring_size(layout: RingLayout, nbytes: int) -> int:
    """Returns how many slots a ring of `nbytes` has: the largest power of two that fits.

    As `__CONST_RING_SIZE` of Xen's `io/ring.h`.

    Raises:
        ValueError: not even one slot fits.
    """
    fit = (nbytes - layout.slots) // layout.stride
    if fit < 1:
        raise ValueError(f"a ring of {nbytes} bytes has no room for a slot of {layout.stride} bytes")
    return 1 << fit.bit_length() - 1
