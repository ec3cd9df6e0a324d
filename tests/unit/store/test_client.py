"""The trio client, over a socket and over a ring, and what it does when its daemon is replaced."""

from __future__ import annotations

import os
import socket

import pytest
import trio
import trio.testing

from tests.unit.store.live import Hypervisor, Running, running
from xenlike.domain.store import Perm, Store
from xenlike.errors import Conflict, NoEntry, PeerGone, QuotaExceeded, StoreDenied, XenstoreError
from xenlike.ring.stream import XenstoreStreams

GUARD_S = 30


@pytest.fixture
def hypervisor():
    return Hypervisor()


@pytest.fixture
def machine(hypervisor):
    with running(hypervisor) as machine:
        yield machine


@pytest.fixture(params=["socket", "ring"])
def opened(request, hypervisor, machine):
    """Makes a connection that may do everything below /x: a tool's, or a domain's on its ring."""
    from xenlike.domain.store_sync import SyncStore

    with SyncStore(machine.connect()) as dom0:
        dom0.write("/x", "")
        dom0.set_perms("/x", ["b0"])
        dom0.write("/local/domain/3", "")
        dom0.set_perms("/local/domain/3", ["n3"])
    numbers = iter(range(3, 100))

    def connect():
        if request.param == "socket":
            return Store.over_socket(machine.connect())
        domid = next(numbers)
        page, channel = hypervisor.create(domid)
        machine.introduce(domid, domid)
        return Store.over_ring(memoryview(page), channel)

    return connect


async def test_reads_and_writes(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S):
            await store.write("/x/a", "text")
            await store.write_many({"/x/b": b"\xff", "/x/n": 5})
            assert await store.read("/x/a") == "text"
            assert await store.read_bytes("/x/b") == b"\xff"
            assert await store.read_many(["/x/n", "/x/none", "/x/a"]) == ["5", None, "text"]
            assert await store.ls("/x") == ["a", "b", "n"]
            assert await store.exists("/x/a")
            await store.rm("/x/a")
            await store.rm("/x/none/none/none")
            assert not await store.exists("/x/a")
            assert await store.get("/x/a", "default") == "default"
            await store.mkdir("/x/dir")
            assert await store.read("/x/dir") == ""
            assert store.statistics().in_flight == 0


async def test_errors_are_of_their_kind(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S):
            with pytest.raises(NoEntry, match="/x/none"):
                await store.read("/x/none")
            with pytest.raises(KeyError):
                await store.ls("/x/none")
            with pytest.raises(XenstoreError) as caught:
                await store.read("//")
            assert caught.value.name == "EINVAL"
            with pytest.raises(XenstoreError) as caught:
                await store.write("/x/a", b"v" * 4096)
            assert caught.value.name == "E2BIG"
            with pytest.raises(ValueError, match="NUL"):
                await store.read("/x\0")
            with pytest.raises(ValueError, match="permission"):
                await store.set_perms("/x", ["z3"])
            assert await store.read("/x") == ""


async def test_a_domain_s_errors(hypervisor, machine):
    page, channel = hypervisor.create(3)
    machine.introduce(3)
    async with Store.over_ring(memoryview(page), channel) as store:
        with trio.fail_after(GUARD_S):
            with pytest.raises(StoreDenied):
                await store.read("/tool")
            # It is not told whether it exists.
            assert await store.read_many(["/tool", "/none"]) == [None, None]
            with pytest.raises(PermissionError):
                await store.write("/x", "")


async def test_a_failed_write_of_many_is_raised_after_all_were_tried(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S):
            with pytest.raises(XenstoreError):
                await store.write_many({"/x/1": "", "/x//2": "", "/x/3": ""})
            assert await store.ls("/x") == ["1", "3"]
            with pytest.raises(XenstoreError):
                async with store.pipeline() as batch:
                    batch.rm("/x/1")
                    batch.write("bad//path", "")
                    batch.mkdir("/x/4")
            assert await store.ls("/x") == ["3", "4"]


async def test_permissions_are_values(machine):
    async with Store.over_socket(machine.connect()) as store:
        with trio.fail_after(GUARD_S):
            async with store.pipeline() as batch:
                batch.mkdir("/p")
                batch.set_perms("/p", [Perm(0), Perm(3, "r")])
                batch.write("/p/child", "1")
            assert await store.get_perms("/p/child") == [Perm(0, "n"), Perm(3, "r")]
            await store.set_perms("/p", ["b5"])
            assert await store.get_perms("/p") == [Perm(5, "b")]


async def test_long_listings(machine):
    async with Store.over_socket(machine.connect()) as store:
        with trio.fail_after(GUARD_S):
            names = [f"a-rather-long-name-of-a-child-{index}" for index in range(500)]
            await store.write_many({f"/many/{name}": "" for name in names})
            assert await store.ls("/many") == names


async def test_many_tasks_share_one_connection(opened):
    async with opened() as store:
        done = []

        async def work(number: int) -> None:
            await store.write(f"/x/{number}", "v" * number)
            assert await store.read(f"/x/{number}") == "v" * number
            done.append(number)

        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(work, number)
        assert sorted(done) == list(range(50))


async def test_transactions_take_effect_together_or_not_at_all(opened):
    async with opened() as store, opened() as other:
        with trio.fail_after(GUARD_S):
            async with store.transaction() as tx:
                await tx.write("/x/a", "1")
                await store.write("/x/b", "2", tx)
                assert await other.read_many(["/x/a", "/x/b"]) == [None, None]
                assert await tx.read("/x/a") == "1"
            assert await other.read_many(["/x/a", "/x/b"]) == ["1", "2"]
            with pytest.raises(ZeroDivisionError):
                async with store.transaction() as tx:
                    await tx.write("/x/a", "3")
                    raise ZeroDivisionError
            assert await other.read("/x/a") == "1"
            with pytest.raises(Conflict):
                async with store.transaction() as tx:
                    await tx.write("/x/a", "3")
                    await other.write("/x/a", "4")
            assert await other.read("/x/a") == "4"
            assert store.statistics().conflicts == 1


async def test_transact_tries_again_until_it_gets_through(opened):
    async with opened() as store, opened() as other:
        with trio.fail_after(GUARD_S):
            await store.write("/x/n", 0)

            async def add(tx) -> None:
                number = int(await tx.read("/x/n"))
                await trio.lowlevel.checkpoint()
                await tx.write("/x/n", number + 1)

            async with trio.open_nursery() as nursery:
                for client in [store, other] * 5:
                    nursery.start_soon(client.transact, add)
            assert await store.read("/x/n") == "10"


async def test_transact_gives_up_at_its_bound(opened):
    async with opened() as store, opened() as other:
        with trio.fail_after(GUARD_S):

            async def lose(tx) -> None:
                await tx.get("/x/n")
                await other.write("/x/n", 1)

            with pytest.raises(Conflict):
                await store.transact(lose, attempts=3)
            assert store.statistics().conflicts == 3
            assert store.statistics().most_retries == 2


async def test_a_foreign_transaction_is_refused(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S), pytest.raises(TypeError):
            await store.read("/x", tx=5)


async def test_watches_tell_of_changes(opened):
    async with opened() as store, opened() as other:
        with trio.fail_after(GUARD_S):
            async with store.watch("/x/w") as changes:
                assert await changes.__anext__() == "/x/w"
                await other.write("/x/w", "1")
                assert await changes.__anext__() == "/x/w"
                await other.write("/x/w/below", "1")
                assert await changes.__anext__() == "/x/w/below"
            await other.write("/x/w", "2")
            assert store.statistics().watches == 0


async def test_changes_of_one_path_that_nobody_looked_at_are_one(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S):
            async with store.watch("/x") as changes:
                await changes.__anext__()
                for number in range(10):
                    await store.write("/x/a", number)
                    await store.write("/x/b", number)
                assert [await changes.__anext__(), await changes.__anext__()] == ["/x/a", "/x/b"]
                with trio.move_on_after(0) as scope:
                    await changes.__anext__()
                assert scope.cancelled_caught


async def test_a_watch_ends_with_its_task(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:

                async def watch(path: str, task_status=trio.TASK_STATUS_IGNORED) -> None:
                    async with store.watch(path) as changes:
                        task_status.started()
                        async for _ in changes:
                            pass

                for number in range(5):
                    await nursery.start(watch, f"/x/{number}")
                assert store.statistics().watches == 5
                nursery.cancel_scope.cancel()
            assert store.statistics().watches == 0
            # The daemon was told, too.
            await store.read("/x")
            assert store.statistics().in_flight == 0


async def test_a_bad_watch_is_refused(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S):
            with pytest.raises(XenstoreError):
                async with store.watch("/bad//path"):
                    pass
            assert store.statistics().watches == 0


async def test_relative_paths(hypervisor, machine):
    async with Store.over_socket(machine.connect()) as dom0:
        await dom0.write("/local/domain/3", "")
        await dom0.set_perms("/local/domain/3", ["n3"])
        page, channel = hypervisor.create(3)
        machine.introduce(3)
        async with Store.over_ring(memoryview(page), channel) as store:
            with trio.fail_after(GUARD_S):
                async with store.watch("device") as changes:
                    assert await changes.__anext__() == "device"
                    await store.write("device/vbd/51712/state", "1")
                    assert await changes.__anext__() == "device/vbd/51712/state"
                assert await dom0.read("/local/domain/3/device/vbd/51712/state") == "1"
                with pytest.raises(QuotaExceeded):
                    await store.write("large", "v" * 3000)


async def test_cancelled_requests_leave_the_connection_whole(opened):
    async with opened() as store:
        with trio.fail_after(GUARD_S):
            for _ in range(20):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await store.read("/x")
                with trio.CancelScope() as scope:
                    scope.cancel()
                    async with store.transaction():
                        pass
            await store.read("/x")
            await store.read("/x")
            assert store.statistics().in_flight == 0
            # No transaction is left open: the limit of a domain is 11.
            for _ in range(20):
                async with store.transaction() as tx:
                    await tx.write("/x/ok", "")


async def test_who_is_cancelled_with_the_connection_is_not_told_that_it_ended(opened):
    with trio.CancelScope() as scope:
        async with opened() as store, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            await store.read("/x")
    assert scope.cancelled_caught


async def test_the_end_of_the_daemon_is_told_to_everybody(hypervisor):
    machine = Running(hypervisor)
    try:
        page, channel = hypervisor.create(3)
        machine.introduce(3)
        with trio.fail_after(GUARD_S):
            async with (
                Store.over_socket(machine.connect()) as tool,
                Store.over_ring(memoryview(page), channel) as guest,
            ):
                ended = []

                async def watch(store: Store) -> None:
                    with pytest.raises(PeerGone):
                        async with store.watch("/local/domain/3") as changes:
                            async for _ in changes:
                                pass
                    ended.append(store)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watch, tool)
                    nursery.start_soon(watch, guest)
                    await trio.testing.wait_all_tasks_blocked()
                    await trio.to_thread.run_sync(machine.stop)
                assert len(ended) == 2
                for store in (tool, guest):
                    with pytest.raises(PeerGone):
                        await store.read("/tool")
    finally:
        machine.close()


async def test_nobody_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        async with Store.over_socket(tmp_path / "socket"):
            pass


async def test_an_exception_of_the_body_is_not_wrapped(opened):
    with pytest.raises(ZeroDivisionError):
        async with opened():
            raise ZeroDivisionError


async def test_a_daemon_that_answers_nonsense_ends_the_connection():
    from xenlike.domain.store_wire import frame

    for nonsense in (frame(2, 99, 0, b""), b"\xff" * 16, frame(3, 1, 0, b"x")):
        ours, theirs = socket.socketpair()
        with theirs, trio.fail_after(GUARD_S):
            async with Store.over_socket(ours) as store:
                theirs.send(nonsense)
                with pytest.raises(PeerGone):
                    await store.read("/x")


# --- the daemon is replaced ---


class Machine:
    """A domain 3 whose daemon can be replaced."""

    def __init__(self) -> None:
        self.hypervisor = Hypervisor()
        self.log = os.memfd_create("log")
        self.page, self.channel = self.hypervisor.create(3)
        self.server = Running(self.hypervisor, log_fd=self.log)
        self.server.introduce(3)
        self.renewed = trio.Event()

    async def reconnect(self):
        self.channel.close()
        self.channel = self.hypervisor.renew(3)
        self.renewed.set()
        await trio.lowlevel.checkpoint()
        return self.channel

    async def replace(self) -> None:
        """Ends the daemon and starts the next one, as soon as the domain has noticed."""
        self.renewed = trio.Event()
        await trio.to_thread.run_sync(self.server.close)
        await self.renewed.wait()
        self.server = Running(self.hypervisor, log_fd=self.log)

    def close(self) -> None:
        self.server.close()
        self.channel.close()
        os.close(self.log)


@pytest.fixture
def replaceable():
    from xenlike.domain.store_sync import SyncStore

    machine = Machine()
    with SyncStore(machine.server.connect()) as dom0:
        dom0.write("/x", "")
        dom0.set_perms("/x", ["b0"])
    yield machine
    machine.close()


async def test_a_domain_goes_on_with_the_next_daemon(replaceable):
    async with Store.over_ring(
        memoryview(replaceable.page), replaceable.channel, reconnect=replaceable.reconnect
    ) as store:
        with trio.fail_after(GUARD_S):
            await store.write("/x/before", "1")
            async with store.watch("/x/watched") as changes:
                await changes.__anext__()
                for number in range(3):
                    await replaceable.replace()
                    # Fires as a new watch does.
                    assert await changes.__anext__() == "/x/watched"
                    assert await store.read("/x/before") == "1"
                    await store.write("/x/watched", number)
                    assert await changes.__anext__() == "/x/watched"
            assert store.statistics().reconnections == 3


async def test_requests_on_their_way_are_answered_by_the_next_daemon(replaceable):
    async with Store.over_ring(
        memoryview(replaceable.page), replaceable.channel, reconnect=replaceable.reconnect
    ) as store:
        with trio.fail_after(GUARD_S):
            for attempt in range(5):
                values = {f"/x/{attempt}/{number}": f"{number}" * 40 for number in range(60)}
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(store.write_many, values)
                    nursery.start_soon(store.read_many, list(values))
                    nursery.start_soon(replaceable.replace)
                assert await store.read_many(list(values)) == list(values.values())


async def test_a_transaction_does_not_survive_its_daemon(replaceable):
    async with Store.over_ring(
        memoryview(replaceable.page), replaceable.channel, reconnect=replaceable.reconnect
    ) as store:
        with trio.fail_after(GUARD_S):
            attempts = []

            async def action(tx) -> None:
                attempts.append(tx)
                await tx.write("/x/a", len(attempts))
                if len(attempts) == 1:
                    await replaceable.replace()
                    assert await store.read_many(["/x/a"]) == [None]
                    with pytest.raises(Conflict):
                        await tx.write("/x/b", "")
                await tx.write("/x/c", "")

            await store.transact(action)
            assert len(attempts) == 2
            assert await store.read_many(["/x/a", "/x/b", "/x/c"]) == ["2", None, ""]


async def test_a_daemon_that_gave_up_on_the_ring_is_asked_for_a_fresh_one(replaceable):
    async with Store.over_ring(
        memoryview(replaceable.page), replaceable.channel, reconnect=replaceable.reconnect
    ) as store:
        with trio.fail_after(GUARD_S):
            await store.write("/x/a", "1")
            XenstoreStreams(replaceable.page).requests.write(b"\xff" * 16)
            replaceable.channel.notify()
            assert await store.read("/x/a") == "1"
            assert store.statistics().reconnections == 1
