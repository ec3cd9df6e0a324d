"""Entries of a grant table, version 1: set and end by the granter, pin and unpin by the hypervisor.

`table` is any C-contiguous buffer over the shared table, 8-byte aligned; one entry is 8 bytes:
u16 flags, u16 domid, u32 frame. Every function changes an entry by compare-and-swap in C, because both sides
may act at once and one of them may be hostile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xenlike._core import ffi, lib

if TYPE_CHECKING:
    from typing_extensions import Buffer

GTF_PERMIT_ACCESS = 1
GTF_READONLY = 1 << 2
GTF_READING = 1 << 3
GTF_WRITING = 1 << 4

_U16 = 0xFFFF
_U32 = 0xFFFF_FFFF


class GrantEntry(NamedTuple):
    """One entry as it was when it was read."""

    flags: int
    domid: int
    frame: int


def _check(result: int, gref: int) -> None:
    if result < 0:
        raise ValueError(f"gref {gref} lies outside the grant table, or the table is not 8-byte aligned")


def _check_gref(gref: int) -> None:
    if not 0 <= gref <= _U32:
        raise ValueError(f"gref {gref} is not an unsigned 32-bit number")


def gnttab_set(table: Buffer, gref: int, domid: int, frame: int, flags: int = GTF_PERMIT_ACCESS) -> None:
    """Granter: writes a free entry; the flags, which make it valid, become visible last.

    Args:
        table: the caller's own grant table, writable.
        gref: a reference that is not in use.
        domid: who may map it.
        frame: the pfn, below 2^32.
        flags: `GTF_PERMIT_ACCESS`, perhaps with `GTF_READONLY`.

    Raises:
        ValueError: an argument is out of range.
    """
    _check_gref(gref)
    if not (0 <= domid <= _U16 and 0 <= flags <= _U16 and 0 <= frame <= _U32):
        raise ValueError(f"domid {domid}, flags {flags:#x} or frame {frame:#x} is out of range")
    memory = ffi.from_buffer("char[]", table, True)
    _check(lib.xl_gnttab_set(memory, len(memory), gref, domid, frame, flags), gref)


def gnttab_end(table: Buffer, gref: int) -> bool:
    """Granter: invalidates an entry unless the peer still uses it (gnttab_end_foreign_access).

    Returns:
        False if the entry is busy; then it stays as it is, and so must its page.
    """
    _check_gref(gref)
    memory = ffi.from_buffer("char[]", table, True)
    result: int = lib.xl_gnttab_end(memory, len(memory), gref)
    _check(result, gref)
    return result == 1


def gnttab_get(table: Buffer, gref: int) -> GrantEntry:
    """Reads one entry, for inspection; decisions belong to `gnttab_pin`."""
    _check_gref(gref)
    memory = ffi.from_buffer("char[]", table)
    flags, domid, frame = ffi.new("uint16_t *"), ffi.new("uint16_t *"), ffi.new("uint32_t *")
    _check(lib.xl_gnttab_get(memory, len(memory), gref, flags, domid, frame), gref)
    return GrantEntry(flags[0], domid[0], frame[0])


def gnttab_pin(table: Buffer, gref: int, domid: int, readonly: bool) -> tuple[int, int]:
    """Hypervisor: marks an entry as in use by `domid`, then reads its frame (Xen's _set_status_v1).

    Args:
        table: the granter's table.
        gref: what the mapper named; any number.
        domid: the mapper.
        readonly: False also marks it as written, which a `GTF_READONLY` entry refuses.

    Returns:
        (status, frame): Xen's `GNTST_*` (0 okay, -1 not granted so, -3 no such reference) and the frame,
        which means something only when the status is 0, and is the granter's claim: check it.
    """
    if not 0 <= gref <= _U32:
        return -3, 0
    memory = ffi.from_buffer("char[]", table, True)
    frame = ffi.new("uint32_t *")
    status: int = lib.xl_gnttab_pin(memory, len(memory), gref, domid & _U16, int(readonly), frame)
    return status, int(frame[0])


def gnttab_unpin(table: Buffer, gref: int, flags: int) -> None:
    """Hypervisor: takes back marks, when the last mapping of their kind is gone.

    Args:
        table: the granter's table.
        gref: the reference.
        flags: `GTF_READING`, `GTF_WRITING` or both.
    """
    _check_gref(gref)
    memory = ffi.from_buffer("char[]", table, True)
    _check(lib.xl_gnttab_unpin(memory, len(memory), gref, flags & _U16), gref)
