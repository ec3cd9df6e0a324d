"""Law: a block request is either wholly inside what the protocol and the disk allow, or refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xenlike.backends.block.request import BadRequest, Transfer, check
from xenlike.io.blk import (
    BLKIF_OP_DISCARD,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_INDIRECT,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    BlkifRequest,
    BlkifSegment,
)

SECTORS = 1000
PAGE = BlkifSegment(9, 0, 7)
unpack = BlkifRequest.__layout__.codec.unpack


def ask(operation: int, sector: int = 0, *segments: BlkifSegment, readonly: bool = False) -> Transfer:
    request = BlkifRequest(operation, len(segments), 0, 1, sector, segments)
    return check(unpack(request.pack()), SECTORS, readonly=readonly)


def test_segments_become_byte_ranges_of_pages() -> None:
    transfer = ask(BLKIF_OP_READ, 3, BlkifSegment(9, 0, 7), BlkifSegment(10, 2, 2))
    assert transfer == Transfer(1536, (9, 10), [(0, 4096), (1024, 1536)], write=False)
    assert ask(BLKIF_OP_WRITE, 0, PAGE).write


def test_flushes_and_barriers_may_carry_data() -> None:
    assert ask(BLKIF_OP_FLUSH_DISKCACHE) == Transfer(0, (), [], write=False, flush_before=True)
    assert ask(BLKIF_OP_FLUSH_DISKCACHE, 0, PAGE) == Transfer(0, (9,), [(0, 4096)], write=True, flush_before=True)
    barrier = ask(BLKIF_OP_WRITE_BARRIER, 0, PAGE)
    assert (barrier.flush_before, barrier.write, barrier.flush_after) == (True, True, True)
    # An empty flush says nothing about sectors, so whatever its sector number holds is ignored.
    ask(BLKIF_OP_FLUSH_DISKCACHE, (1 << 64) - 1)


@pytest.mark.parametrize("sector", [SECTORS - 7, SECTORS, 1 << 32, (1 << 63) - 1, (1 << 64) - 8, (1 << 64) - 1])
@pytest.mark.parametrize("operation", [BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE])
def test_sectors_beyond_the_end_are_refused(operation: int, sector: int) -> None:
    with pytest.raises(BadRequest, match="of a disk of 1000"):
        ask(operation, sector, PAGE)


def test_the_last_sector_is_reachable() -> None:
    assert ask(BLKIF_OP_READ, SECTORS - 8, PAGE).offset == (SECTORS - 8) * 512


@pytest.mark.parametrize("segment", [(0, 8), (0, 255), (7, 6), (255, 0), (8, 8), (255, 255)])
def test_segments_outside_their_page_are_refused(segment: tuple[int, int]) -> None:
    with pytest.raises(BadRequest, match="of a page"):
        ask(BLKIF_OP_READ, 0, PAGE, BlkifSegment(9, *segment))


@pytest.mark.parametrize("operation", [BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE])
@pytest.mark.parametrize("count", [12, 13, 128, 255])
def test_more_segments_than_a_request_holds_are_refused(operation: int, count: int) -> None:
    raw = BlkifRequest(operation, count, 0, 1, 0, (PAGE,) * 11).pack()
    with pytest.raises(BadRequest, match=f"{count} segments") as refused:
        check(unpack(raw), SECTORS, readonly=False)
    assert refused.value.status == BLKIF_RSP_ERROR


@pytest.mark.parametrize("operation", [BLKIF_OP_READ, BLKIF_OP_WRITE])
def test_transfers_without_segments_are_refused(operation: int) -> None:
    with pytest.raises(BadRequest, match="0 segments"):
        ask(operation)


@pytest.mark.parametrize("operation", [BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE])
def test_a_read_only_disk_is_not_written(operation: int) -> None:
    with pytest.raises(BadRequest, match="read-only"):
        ask(operation, 0, PAGE, readonly=True)


def test_a_read_only_disk_is_read_and_flushed() -> None:
    ask(BLKIF_OP_READ, 0, PAGE, readonly=True)
    ask(BLKIF_OP_FLUSH_DISKCACHE, readonly=True)


@pytest.mark.parametrize("operation", [4, BLKIF_OP_DISCARD, BLKIF_OP_INDIRECT, 7, 255])
def test_operations_that_are_not_offered_are_named_so(operation: int) -> None:
    with pytest.raises(BadRequest, match="not offered") as refused:
        ask(operation, 0, PAGE)
    assert refused.value.status == BLKIF_RSP_EOPNOTSUPP


@given(st.binary(min_size=112, max_size=112), st.booleans())
@example(b"\xff" * 112, False)
@example(bytes(112), True)
def test_no_bytes_lead_outside(raw: bytes, readonly: bool) -> None:
    """Whatever a frontend writes into a slot, a transfer stays in the disk and in its pages."""
    # Most random operations are unknown; take the known ones as often.
    raw = bytes((raw[0] % 8, raw[1] % 16)) + raw[2:]
    try:
        transfer = check(unpack(raw), SECTORS, readonly=readonly)
    except BadRequest:
        return
    assert not (transfer.write and readonly)
    assert len(transfer.grefs) == len(transfer.spans) <= 11
    assert all(0 <= start < stop <= 4096 for start, stop in transfer.spans)
    length = sum(stop - start for start, stop in transfer.spans)
    assert not length or 0 <= transfer.offset <= transfer.offset + length <= SECTORS * 512
