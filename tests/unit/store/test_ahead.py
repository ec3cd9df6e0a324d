"""Transactions and watches that are begun ahead: the same laws as their plain forms, in fewer round trips."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from tests.unit.store.live import Hypervisor, Running, running
from xenlike.domain.store import Pipeline, Store
from xenlike.domain.store_sync import SyncStore
from xenlike.errors import Conflict, NoEntry, PeerGone, XenstoreError

GUARD_S = 30
QUOTA = 10
"""Transactions that a domain may have open: Xen's."""


@pytest.fixture
def hypervisor():
    return Hypervisor()


@pytest.fixture
def machine(hypervisor):
    with running(hypervisor) as machine:
        with SyncStore(machine.connect()) as dom0:
            dom0.write("/x", "")
            dom0.set_perms("/x", ["b0"])
            dom0.write("/x/a", "1")
        yield machine


@pytest.fixture
async def guest(hypervisor, machine):
    page, channel = hypervisor.create(3)
    machine.introduce(3)
    with trio.fail_after(GUARD_S):
        async with Store.over_ring(memoryview(page), channel) as store:
            yield store


@pytest.fixture
async def tool(machine):
    async with Store.over_socket(machine.connect()) as store:
        yield store


def begin(store):
    ahead = store.begin()
    assert ahead is not None
    return ahead


async def test_what_is_committed_is_there_at_once_and_not_before(guest, tool):
    ahead = begin(guest)
    await ahead.capture(["/x/a", "/x/none"])
    assert await ahead.seen(["/x/a", "/x/none"]) == ["1", None]
    async with tool.watch("/x/b") as changes:
        await anext(changes)
        await ahead.commit({"/x/b": "2", "/x/c": 3})
        assert await anext(changes) == "/x/b"
        # Whoever is told of one sees the other.
        assert await tool.read_many(["/x/b", "/x/c"]) == ["2", "3"]


async def test_what_was_captured_must_stay_as_it_is(guest, tool):
    for change in (tool.write("/x/a", "2"), tool.rm("/x/a"), tool.write("/x/a", "1")):
        ahead = begin(guest)
        await ahead.capture(["/x/a"])
        await ahead.seen(["/x/a"])
        await change
        with pytest.raises(Conflict):
            await ahead.commit({"/x/b": "2"})
        assert not await tool.exists("/x/b")
    assert guest.statistics().conflicts == 3


async def test_what_was_captured_is_what_others_did_before(guest, tool):
    ahead = begin(guest)
    await guest.read("/x/a")
    await tool.write("/x/a", "2")
    # Captured when it is looked at, not at the beginning.
    assert await ahead.seen(["/x/a"]) == ["2"]
    await ahead.commit({"/x/b": "3"})
    assert await tool.read("/x/b") == "3"


async def test_nothing_goes_out_before_the_next_request(hypervisor, machine, monkeypatch):
    page, channel = hypervisor.create(4)
    machine.introduce(4)
    with trio.fail_after(GUARD_S):
        async with Store.over_ring(memoryview(page), channel) as store:
            transport = store._connection._transport
            sent, send = [], transport.send

            def count(data: bytes) -> None:
                sent.append(len(data))
                send(data)

            monkeypatch.setattr(transport, "send", count)
            watch, ahead = store.begin_watch("/x/a"), begin(store)
            await trio.testing.wait_all_tasks_blocked()
            assert sent == []
            await store.read("/x/a")
            assert len(sent) == 1
            await ahead.capture(["/x/a"])
            await ahead.commit({"/x/b": "2"})
            assert len(sent) == 3
            watch.close()


async def test_what_is_begun_and_given_up_leaves_nothing_open(guest, tool):
    for _ in range(3):
        while (ahead := guest.begin()) is not None:
            ahead.discard()
        # Those that have no number yet are ended as soon as they have one.
        await guest.read("/x/a")
    for _ in range(3 * QUOTA):
        ahead = begin(guest)
        await ahead.capture(["/x/a"])
        ahead.discard()
        ahead.discard()
    await guest.read("/x/a")
    async with guest.transaction() as tx:
        await tx.write("/x/b", "2")
    assert await tool.read("/x/b") == "2"


async def test_there_are_not_more_of_them_than_the_daemon_grants(guest):
    begun = [begin(guest) for _ in range(QUOTA)]
    assert guest.begin() is None
    begun[0].discard()
    await guest.read("/x/a")
    begun[0] = begin(guest)
    for number, ahead in enumerate(begun):
        await ahead.commit({f"/x/{number}": ""})
    for _ in range(QUOTA):
        begin(guest).discard()


async def test_an_error_of_any_write_is_raised(guest, tool):
    ahead = begin(guest)
    with pytest.raises(XenstoreError) as caught:
        await ahead.commit({"/x/b": "2", "bad//path": "", "/x/c": "3"})
    assert caught.value.name == "EINVAL"
    ahead = begin(guest)
    with pytest.raises(XenstoreError, match="E2BIG"):
        await ahead.commit({"/x/d": "v" * 4096})
    ahead.discard()
    assert not await tool.exists("/x/d")
    for _ in range(2 * QUOTA):
        await begin(guest).commit({"/x/e": ""})


async def test_cancelled_it_gives_its_place_back(guest):
    for _ in range(2 * QUOTA):
        ahead = begin(guest)
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await ahead.seen(["/x/a"])
            finally:
                ahead.discard()
        await guest.read("/x/a")
        assert scope.cancelled_caught
    await begin(guest).commit({"/x/b": "2"})


async def test_a_watch_begun_ahead_tells_of_what_its_first_reader_did_not_see(guest, tool):
    watch = guest.begin_watch("/x/w")
    assert await guest.get("/x/w") is None
    await tool.write("/x/w/below", "1")
    assert await anext(watch) == "/x/w"
    assert await anext(watch) == "/x/w/below"
    watch.close()
    assert guest.statistics().watches == 0
    await tool.write("/x/w", "2")
    assert await guest.read("/x/w") == "2"


async def test_a_watch_that_is_refused_says_so_where_it_is_waited_for(guest):
    watch = guest.begin_watch("bad//path")
    with pytest.raises(NoEntry):
        await guest.read("/x/none")
    with pytest.raises(XenstoreError) as caught:
        await anext(watch)
    assert caught.value.name == "EINVAL"
    watch.close()


async def test_requests_sent_ahead_are_carried_out_in_order(guest, tool):
    gathered = Pipeline()
    gathered.write("/x/b", "1")
    gathered.write("bad//path", "")
    gathered.write("/x/b", "2")
    sent = guest.send(gathered)
    assert await guest.read("/x/b") == "2"
    with pytest.raises(XenstoreError):
        await sent.answered()


async def test_the_daemon_s_end_is_told(hypervisor):
    machine = Running(hypervisor)
    try:
        page, channel = hypervisor.create(3)
        machine.introduce(3)
        async with Store.over_ring(memoryview(page), channel) as store:
            with trio.fail_after(GUARD_S):
                ahead, other, watch = begin(store), begin(store), store.begin_watch("/x")
                await ahead.capture(["/x"])
                assert await anext(watch) == "/x"
                await trio.to_thread.run_sync(machine.stop)
                for late in (anext(watch), ahead.commit({}), other.seen(["/x"])):
                    with pytest.raises(PeerGone):
                        await late
                with pytest.raises(PeerGone):
                    store.begin()
                ahead.discard()
                other.discard()
                watch.close()
    finally:
        machine.close()


async def test_the_next_daemon_knows_nothing_of_a_transaction(hypervisor):
    log = os.memfd_create("log")
    page, channel = hypervisor.create(3)
    server = Running(hypervisor, log_fd=log)
    server.introduce(3)
    renewed = trio.Event()

    async def reconnect():
        nonlocal channel
        channel.close()
        channel = hypervisor.renew(3)
        renewed.set()
        await trio.lowlevel.checkpoint()
        return channel

    try:
        with trio.fail_after(GUARD_S):
            async with Store.over_ring(memoryview(page), channel, reconnect=reconnect) as store:
                begun = [begin(store) for _ in range(3)]
                given_up = begin(store)
                for ahead in begun[:2]:
                    await ahead.capture(["/"])
                await begun[0].seen(["/"])
                await trio.to_thread.run_sync(server.close)
                # Held while there is nobody, sent to the next.
                late, watch = begin(store), store.begin_watch("/local")
                given_up.discard()
                await renewed.wait()
                server = Running(hypervisor, log_fd=log)
                for ahead in begun:
                    with pytest.raises(Conflict):
                        await ahead.commit({"data": ""})
                    ahead.discard()
                assert await late.seen(["/none"]) == [None]
                late.discard()
                assert await anext(watch) == "/local"
                watch.close()
    finally:
        server.close()
        channel.close()
        os.close(log)
