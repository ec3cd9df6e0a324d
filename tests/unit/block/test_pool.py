"""Laws of the frontend's granted memory: runs never overlap, requests name exactly their bytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from xenlike.errors import GrantBusy
from xenlike.frontends.block.pool import MAX_TRANSFER, Area, requests_for
from xenlike.io.blk import BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_READ, BlkifRequest

PAGES = 64
PFN = 0x800000


class FakeWindow:
    pfn = PFN

    def __init__(self, nr_pages: int) -> None:
        self.buffer = memoryview(bytearray(nr_pages * 4096))
        self.peers: list[int] = []
        self.closed = False

    def replace(self, peer: int) -> None:
        self.peers.append(peer)

    def close(self) -> None:
        self.closed = True


class FakeGrants:
    def __init__(self) -> None:
        self.live: dict[int, tuple[int, int]] = {}
        self.next = 8
        self.busy = False

    def grant(self, pfn: int, peer: int, *, readonly: bool = False) -> int:
        self.next += 1
        self.live[self.next] = (pfn, peer)
        return self.next

    def revoke(self, gref: int) -> None:
        if self.busy:
            raise GrantBusy(16, "still mapped")
        del self.live[gref]


def fake_domain() -> Any:
    domain = SimpleNamespace(grants=FakeGrants())
    domain.memory = SimpleNamespace(alloc=lambda peer, nr_pages: FakeWindow(nr_pages))
    return domain


def named_bytes(domain: Any, raw: bytes) -> list[int]:
    """Returns the sectors of the area that a packed request names, in order."""
    request = BlkifRequest.unpack(raw)
    return [
        (domain.grants.live[segment.gref][0] - PFN) * 8 + sector
        for segment in request.seg
        for sector in range(segment.first_sect, segment.last_sect + 1)
    ]


@given(st.integers(0, PAGES * 8 - 1), st.integers(1, 400))
def test_requests_name_exactly_their_sectors(first: int, count: int) -> None:
    domain = fake_domain()
    area = Area(domain, 5, PAGES)
    # A request takes at most 11 pages, whatever the alignment, if its run starts on a page.
    first -= first % 8
    count = min(count, PAGES * 8 - first)
    sectors: list[int] = []
    disk: list[int] = []
    for request in requests_for(BLKIF_OP_READ, 7 * 512, first * 512, count * 512):
        raw = area.pack(*request)
        assert len(raw) == 112
        named = named_bytes(domain, raw)
        sectors += named
        disk += range(request[1], request[1] + len(named))
        assert request[3] <= MAX_TRANSFER
    assert sectors == list(range(first, first + count))
    assert disk == list(range(7, 7 + count))


@given(st.integers(0, PAGES * 8 - 1), st.integers(1, 80))
def test_a_request_may_begin_and_end_within_a_page(first: int, count: int) -> None:
    domain = fake_domain()
    area = Area(domain, 5, PAGES)
    count = min(count, PAGES * 8 - first)
    assert named_bytes(domain, area.pack(BLKIF_OP_READ, 0, first * 512, count * 512)) == list(
        range(first, first + count)
    )


def test_a_flush_names_nothing() -> None:
    domain = fake_domain()
    raw = Area(domain, 5, PAGES).pack(BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0)
    assert BlkifRequest.unpack(raw) == BlkifRequest(BLKIF_OP_FLUSH_DISKCACHE)
    assert domain.grants.live == {}


def test_pages_are_granted_once_and_only_when_used() -> None:
    domain = fake_domain()
    area = Area(domain, 5, PAGES)
    for _ in range(3):
        area.pack(BLKIF_OP_READ, 0, 4096, 8192)
    assert sorted(domain.grants.live.values()) == [(PFN + 1, 5), (PFN + 2, 5)]


def test_another_backend_gets_grants_of_its_own() -> None:
    domain = fake_domain()
    area = Area(domain, 5, PAGES)
    area.pack(BLKIF_OP_READ, 0, 0, 4096)
    area.regrant(5)
    assert domain.grants.live == {}
    assert area._window.peers == []  # type: ignore[attr-defined]
    area.pack(BLKIF_OP_READ, 0, 0, 4096)
    area.regrant(6)
    area.pack(BLKIF_OP_READ, 0, 0, 4096)
    assert list(domain.grants.live.values()) == [(PFN, 6)]
    assert area._window.peers == [6]  # type: ignore[attr-defined]


def test_a_page_that_is_still_mapped_is_neither_replaced_nor_freed() -> None:
    domain = fake_domain()
    area = Area(domain, 5, PAGES)
    area.pack(BLKIF_OP_READ, 0, 0, 4096)
    domain.grants.busy = True
    for act in (lambda: area.regrant(6), area.close):
        with pytest.raises(GrantBusy):
            act()
    assert area._window.peers == []  # type: ignore[attr-defined]
    domain.grants.busy = False
    area.close()
    assert domain.grants.live == {}


@given(st.lists(st.one_of(st.integers(1, 20), st.integers(-10, -1)), max_size=100))
def test_runs_never_overlap(steps: list[int]) -> None:
    """A positive step takes so many pages, a negative one gives one of the runs back."""
    area = Area(fake_domain(), 5, PAGES)
    runs: list[tuple[int, int]] = []
    for step in steps:
        if step > 0:
            start = area.take_nowait(step * 4096 - 512)
            used = {page for begin, pages in runs for page in range(begin, begin + pages)}
            if start is not None:
                assert used.isdisjoint(range(start // 4096, start // 4096 + step))
                assert start // 4096 + step <= PAGES
                runs.append((start // 4096, step))
        elif runs:
            begin, pages = runs.pop(step % len(runs))
            area.free([(begin * 4096, pages * 4096 - 512)])
    for begin, pages in runs:
        area.free([(begin * 4096, pages * 4096)])
    assert area.take_nowait(PAGES * 4096) == 0


async def test_who_waits_is_served_in_order_and_not_overtaken() -> None:
    area = Area(fake_domain(), 5, PAGES)
    held = await area.take(PAGES * 4096)
    got: list[str] = []

    async def take(name: str, pages: int) -> None:
        start = await area.take(pages * 4096)
        got.append(name)
        await trio.testing.wait_all_tasks_blocked()
        area.free([(start, pages * 4096)])

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for name, pages in (("large", PAGES), ("small", 1), ("medium", 30)):
                nursery.start_soon(take, name, pages)
                await trio.testing.wait_all_tasks_blocked()
            assert area.take_nowait(512) is None
            area.free([(held, 4096)])
            await trio.testing.wait_all_tasks_blocked()
            assert got == []
            assert area.take_nowait(512) is None
            area.free([(held, PAGES * 4096)])
    assert got == ["large", "small", "medium"]


async def test_a_cancelled_wait_takes_nothing() -> None:
    area = Area(fake_domain(), 5, PAGES)
    held = await area.take(PAGES * 4096)
    with trio.move_on_after(0):
        await area.take(4096)
    area.free([(held, PAGES * 4096)])
    assert area.take_nowait(PAGES * 4096) == 0


async def test_more_than_there_is_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="at once"):
        await Area(fake_domain(), 5, PAGES).take(PAGES * 4096 + 1)
