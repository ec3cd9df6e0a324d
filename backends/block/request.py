"""A block request, checked: pure functions on the backend's private copy of it.

What a frontend may ask, as Linux's `xen-blkback` and QEMU read `io/blkif.h`:

* READ and WRITE have 1 to 11 segments; WRITE_BARRIER and FLUSH_DISKCACHE have 0 to 11, and with
  segments they write;
* a segment names sectors `first_sect..last_sect` of one page, so neither is above 7;
* the sectors lie on the disk, and a read-only disk is not written.

Everything else is answered with an error status, and the device lives on.
"""

from __future__ import annotations

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
)

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
        segments: of granted pages: (gref, first byte, byte after the last).
        write: from the pages to the disk, not the other way.
        flush_before: flush before anything else.
        flush_after: flush when written.
        buffers: the segments' memory, once it is mapped; None when a grant failed.
    """

    offset: int
    segments: list[tuple[int, int, int]]
    write: bool
    flush_before: bool = False
    flush_after: bool = False
    buffers: list[memoryview] | None = field(default=None, repr=False)


def check(request: BlkifRequest, sectors: int, *, readonly: bool) -> Transfer:
    """Returns what a request asks for.

    Args:
        request: a private copy, which the frontend cannot change any more.
        sectors: size of the disk, in sectors of 512 bytes.
        readonly: whether the disk may not be written.

    Raises:
        BadRequest: it asks for something else than the protocol allows, or outside the disk.
    """
    steps = _STEPS.get(request.operation)
    if steps is None:
        raise BadRequest(f"operation {request.operation} is not offered", BLKIF_RSP_EOPNOTSUPP)
    flush_before, write, flush_after = steps
    count = request.nr_segments
    if count > BLKIF_MAX_SEGMENTS_PER_REQUEST or (count == 0 and not flush_before):
        raise BadRequest(f"operation {request.operation} with {count} segments")
    write = write and count > 0
    if write and readonly:
        raise BadRequest("a write to a read-only disk")
    segments = []
    total = 0
    for segment in request.seg:
        first, last = segment.first_sect, segment.last_sect
        if first > last or last > LAST_SECTOR_OF_PAGE:
            raise BadRequest(f"a segment of sectors {first} to {last} of a page")
        segments.append((segment.gref, first * SECTOR_SIZE, (last + 1) * SECTOR_SIZE))
        total += last + 1 - first
    # Python's integers do not wrap, so a sector number near 2^64 is just a large one.
    if count and request.sector_number + total > sectors:
        raise BadRequest(f"sectors {request.sector_number} + {total} of a disk of {sectors}")
    return Transfer(request.sector_number * SECTOR_SIZE, segments, write, flush_before, flush_after)
