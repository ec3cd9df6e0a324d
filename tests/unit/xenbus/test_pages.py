"""Pages: never reused while a peer maps them, and never lost."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike._core import STARVED
from xenlike.abi.types import PAGE_SIZE
from xenlike.errors import GrantBusy, GrantDenied, GrantError, PeerGone
from xenlike.testing import FakeDomain, FakeTree
from xenlike.xenbus.pages import Attic, ForeignPages, PagePool, SharedPages

if TYPE_CHECKING:
    from collections.abc import Callable

    from xenlike.domain.domain import Domain
    from xenlike.xenbus.interface import DomainLike


def real_domain_is_one(domain: Domain) -> DomainLike:
    """Type checkers see that a domain of a machine is what drivers are written against."""
    return domain


def fake_domain_is_one(domain: FakeDomain) -> DomainLike:
    """The same for a loopback machine's."""
    return domain


@pytest.fixture
def domains():
    tree = FakeTree()
    both: dict[int, FakeDomain] = {}
    return FakeDomain(both, tree, 1, "back"), FakeDomain(both, tree, 2, "front")


def test_pages_that_a_peer_maps_stay(domains):
    back, front = domains
    pages = SharedPages(front, 1, 3)
    mapping = back.grants.map(2, pages.grefs[:2])
    with pytest.raises(GrantBusy):
        pages.close()
    assert len(pages.grefs) == 2  # the third had no user
    mapping.unmap()
    pages.close()
    pages.close()
    assert front.grants.entries == {}
    assert front.memory.windows == {}


def test_a_grant_that_fails_leaves_nothing(domains, monkeypatch):
    _, front = domains
    real = front.grants.grant

    def full(pfn, peer, **mode):
        if len(front.grants.entries) == 2:
            raise GrantError(errno.ENOSPC, "all references are in use")
        return real(pfn, peer, **mode)

    monkeypatch.setattr(front.grants, "grant", full)
    with pytest.raises(GrantError):
        SharedPages(front, 1, 3)
    assert front.grants.entries == {}
    assert front.memory.windows == {}


def test_the_attic_closes_what_it_can(domains):
    back, front = domains
    attic = Attic()
    mapped, unmapped = SharedPages(front, 1, 1), SharedPages(front, 1, 1)
    mapping = back.grants.map(2, mapped.grefs)
    attic.put(mapped.close)
    attic.put(unmapped.close)
    assert len(attic) == 1
    mapping.unmap()
    attic.sweep()
    assert len(attic) == 0
    assert front.memory.windows == {}


class Queue:
    """Stands in for a queue with cancelled requests."""

    def __init__(self):
        self.waiting: list[Callable[[], None]] = []
        self.settled = True

    def when_settled(self, callback):
        if self.settled:
            callback()
        else:
            self.waiting.append(callback)


async def test_a_pool_makes_its_users_wait_and_ends_with_its_connection(domains, nursery):
    _, front = domains
    pool = PagePool(SharedPages(front, 1, 2), Queue())
    log: list[tuple[int, object]] = []

    async def use(number):
        try:
            async with pool.take() as page:
                log.append((number, page.gref))
                await trio.sleep_forever()
        except PeerGone:
            log.append((number, "gone"))

    scopes = []

    async def scoped(number):
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await use(number)

    for number in range(4):
        nursery.start_soon(scoped, number)
        await wait_all_tasks_blocked()
    assert [number for number, _ in log] == [0, 1]
    assert len({gref for _, gref in log}) == 2
    scopes[0].cancel()
    await wait_all_tasks_blocked()
    assert log[2] == (2, log[0][1])
    pool.close()
    await wait_all_tasks_blocked()
    assert log[3] == (3, "gone")
    nursery.cancel_scope.cancel()


async def test_tools_see_how_many_wait_for_a_page(domains, nursery):
    _, front = domains
    counters = memoryview(bytearray(8 * (STARVED + 1))).cast("Q")
    pool = PagePool(SharedPages(front, 1, 1), Queue(), counters)
    scopes = []

    async def use():
        with trio.CancelScope() as scope:
            scopes.append(scope)
            async with pool.take():
                await trio.sleep_forever()

    async with pool.take():
        assert counters[STARVED] == 0
        for waiting in (1, 2):
            nursery.start_soon(use)
            await wait_all_tasks_blocked()
            assert counters[STARVED] == waiting
    await wait_all_tasks_blocked()
    assert counters[STARVED] == 1
    for scope in scopes:
        scope.cancel()
    await wait_all_tasks_blocked()
    assert counters[STARVED] == 0
    pool.close()


async def test_the_page_of_a_cancelled_request_waits_until_it_is_settled(domains):
    _, front = domains
    queue = Queue()
    pool = PagePool(SharedPages(front, 1, 1), queue)
    async with pool.take():
        pass
    queue.settled = False
    with pytest.raises(KeyError):
        async with pool.take():
            raise KeyError
    with trio.move_on_after(0.001) as scope:
        async with pool.take():
            pass
    assert scope.cancelled_caught
    queue.waiting[0]()
    async with pool.take() as page:
        assert len(page.data) == PAGE_SIZE
    pool.close()
    queue.waiting[0]()  # too late, and no harm


def test_foreign_pages_are_mapped_once_and_the_oldest_go_first(domains):
    back, front = domains
    grefs = SharedPages(front, 1, 4).grefs
    foreign = ForeignPages(back, 2, limit=3)
    for gref in grefs[:3] * 2:
        foreign.page(gref)
    assert len(back.grants.mappings) == 3
    foreign.page(grefs[0])
    foreign.page(grefs[3])
    assert len(foreign) == 3
    assert front.grants.entries[grefs[1]].mapped == 0
    assert front.grants.entries[grefs[0]].mapped == 1
    with pytest.raises(GrantDenied):
        foreign.page(4000)
    foreign.close()
    assert not back.grants.mappings


def test_a_page_granted_for_reading_is_mapped_for_reading_only(domains):
    back, front = domains
    window = front.memory.alloc(1, 1)
    gref = front.grants.grant(window.pfn, 1, readonly=True)
    foreign = ForeignPages(back, 2)
    foreign.page(gref, readonly=True)
    with pytest.raises(GrantDenied):
        foreign.page(gref)


async def test_pages_go_round(domains):
    _, front = domains
    pool = PagePool(SharedPages(front, 1, 2), Queue())
    turns = [0] * 8

    async def use(number):
        while sum(turns) < 800:
            async with pool.take():
                turns[number] += 1
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(use, number)
    assert max(turns) - min(turns) <= 2


async def test_who_gives_up_waiting_takes_no_page_along(domains):
    _, front = domains
    pool = PagePool(SharedPages(front, 1, 1), Queue())
    async with trio.open_nursery() as nursery:
        async with pool.take():
            with trio.CancelScope() as scope:
                nursery.start_soon(wait_and_cancel, scope)
                async with pool.take():
                    raise AssertionError("there is only one")
        with trio.fail_after(5):
            async with pool.take():
                pass


async def wait_and_cancel(scope):
    await wait_all_tasks_blocked()
    scope.cancel()
