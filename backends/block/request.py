"""A block request, checked: pure functions on the backend's private copy of it.

What a frontend may ask, as Linux's `xen-blkback` and QEMU read `io/blkif.h`:

* READ and WRITE have 1 to 11 segments; WRITE_BARRIER and FLUSH_DISKCACHE have 0 to 11, and with
  segments they write;
* a segment names sectors `first_sect..last_sect` of one page, so neither is above 7;
* the sectors lie on the disk, and a read-only disk is not written.

Everything else is answered with an error status, and the device lives on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xenlike.abi.types import PAGE_SIZE
from xenlike.io.blk import (
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    SECTOR_SIZE,
    BlkifRequest,
    BlkifSegment,
)

# A request's integers: those before its segments, and those of each segment (gref, first, last).
_HEAD = list(BlkifRequest.__layout__.fields).index("seg")
_SEGMENT = len(BlkifSegment.__layout__.fields)

LAST_SECTOR_OF_PAGE = PAGE_SIZE // SECTOR_SIZE - 1

# What an operation does, in this order: (flush before, write, flush after).
_STEPS = {
    BLKIF_OP_READ: (False, False, False),
    BLKIF_OP_WRITE: (False, True, False),
    BLKIF_OP_WRITE_BARRIER: (True, True, True),
    BLKIF_OP_FLUSH_DISKCACHE: (True, True, False),
}


class BadRequest(Exception):
    """The frontend asked what it may not; `status` is the answer it gets."""

    def __init__(self, reason: str, status: int = BLKIF_RSP_ERROR) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class Transfer:
    """What a valid request comes to.

    Attributes:
        offset: where on the disk, in bytes.
        grefs: of the pages.
        spans: for each page, its first byte and the one after its last.
        write: from the pages to the disk, not the other way.
        flush_before: flush before anything else.
        flush_after: flush when written.
        buffers: the memory that `spans` name, once it is mapped; None when a grant failed.
    """

    offset: int
    grefs: tuple[int, ...]
    spans: list[tuple[int, int]]
    write: bool
    flush_before: bool = False
    flush_after: bool = False
    buffers: list[memoryview] | None = field(default=None, repr=False)


def check(values: Sequence[int], sectors: int, *, readonly: bool) -> Transfer:
    """Returns what a request asks for.

    Args:
        values: the integers of a `BlkifRequest` in its order, as its codec unpacks them from a private
            copy, which the frontend cannot change any more.
        sectors: size of the disk, in sectors of 512 bytes.
        readonly: whether the disk may not be written.

    Raises:
        BadRequest: it asks for something else than the protocol allows, or outside the disk.
    """
    operation, count, _, _, sector = values[:_HEAD]
    steps = _STEPS.get(operation)
    if steps is None:
        raise BadRequest(f"operation {operation} is not offered", BLKIF_RSP_EOPNOTSUPP)
    flush_before, write, flush_after = steps
    if count > BLKIF_MAX_SEGMENTS_PER_REQUEST or (count == 0 and not flush_before):
        raise BadRequest(f"operation {operation} with {count} segments")
    write = write and count > 0
    if write and readonly:
        raise BadRequest("a write to a read-only disk")
    end = _HEAD + _SEGMENT * count
    spans = []
    total = 0
    for first, last in zip(values[_HEAD + 1 : end : _SEGMENT], values[_HEAD + 2 : end : _SEGMENT], strict=True):
        if first > last or last > LAST_SECTOR_OF_PAGE:
            raise BadRequest(f"a segment of sectors {first} to {last} of a page")
        spans.append((first * SECTOR_SIZE, (last + 1) * SECTOR_SIZE))
        total += last + 1 - first
    # Python's integers do not wrap, so a sector number near 2^64 is just a large one.
    if count and sector + total > sectors:
        raise BadRequest(f"sectors {sector} + {total} of a disk of {sectors}")
    grefs = tuple(values[_HEAD:end:_SEGMENT])
    return Transfer(sector * SECTOR_SIZE, grefs, spans, write, flush_before, flush_after)
