"""Law: a hostile backend makes requests fail; it cannot complete what was not asked, nor touch another disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from tests.drivers import block_machine
from tests.drivers.block_machine import XVDA, XVDB, Image, attach, front_of, kill, plug
from xenlike.abi.xenbus import XenbusState
from xenlike.errors import PeerGone, ProtocolError, RequestFailed
from xenlike.frontends.block import BlockFront
from xenlike.io.blk import BLK, BLKIF_OP_READ, BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_OKAY, BlkifRequest, BlkifResponse
from xenlike.testing import Loopback, LoopDomain, Plugged
from xenlike.testing.peer import MockBackend, RawRing

SIZE = 1 << 18
GEOMETRY = {"sectors": str(SIZE // 512), "feature-flush-cache": "1", "feature-persistent": "1"}
BROKEN = (ProtocolError, PeerGone)


def pattern() -> bytes:
    return block_machine.pattern(SIZE)


@dataclass
class Host:
    """A driver domain that drives its ring by hand."""

    machine: Loopback
    device: Plugged
    peer: MockBackend
    ring: RawRing
    honest: BlockFront

    @property
    def disk(self) -> BlockFront:
        return front_of(self.device)

    @property
    def domain(self) -> LoopDomain:
        return self.device.back

    def request(self, index: int) -> BlkifRequest:
        return BlkifRequest.unpack(self.ring.read(index, 112))

    def respond(self, *answers: tuple[int, int, int]) -> None:
        """Answers with (id, operation, status), in the ring's own order."""
        for answer in answers:
            self.ring.write(self.ring.rsp_prod, BlkifResponse(*answer).pack())
            self.ring.rsp_prod += 1
        self.ring.channel.notify()

    async def check_others(self) -> None:
        assert self.honest.connected
        assert await self.honest.read(0, SIZE) == pattern()

    async def wait_lost(self) -> None:
        """Waits until the frontend has given the connection up."""
        await self.machine.wait_until(lambda: self.device.states()[0] == XenbusState.Closing)


@asynccontextmanager
async def hostile_host() -> AsyncIterator[Host]:
    """A guest with a disk from an honest driver domain and another from a hostile one."""
    async with Loopback() as machine:
        _, honest = await attach(machine, Image(pattern()), XVDB)
        driver = await machine.add_domain("evil", buses=False)
        device = plug(machine, driver=driver)
        peer = MockBackend(machine, device)
        ring = await peer.connect(BLK, GEOMETRY)
        with trio.fail_after(60):
            yield Host(machine, device, peer, ring, honest)


async def reads(disk: BlockFront, count: int, outcomes: list[object]) -> None:
    """Reads from so many tasks at once; collects bytes or the error."""

    async def one(at: int) -> None:
        try:
            outcomes.append(await disk.read(at * 4096, 4096))
        except Exception as error:
            outcomes.append(error)

    disk.on_peer_gone = "fail"
    async with trio.open_nursery() as nursery:
        for at in range(count):
            nursery.start_soon(one, at)


Forgery = Callable[[Sequence[BlkifRequest]], list[tuple[int, int, int]]]


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda asked: [(999, 0, 0)], id="unknown id"),
        pytest.param(lambda asked: [((1 << 64) - 1, 0, 0)], id="huge id"),
        pytest.param(lambda asked: [(asked[0].id, 0, 0), (asked[0].id, 0, 0)], id="the same id twice"),
        pytest.param(lambda asked: [(max(r.id for r in asked) + 1, 0, 0)], id="id not in flight"),
    ],
)
async def test_forged_ids_end_the_connection_and_complete_nothing(forge: Forgery) -> None:
    async with hostile_host() as host:
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads, host.disk, 3, outcomes)
            await trio.testing.wait_all_tasks_blocked()
            asked = [host.request(index) for index in range(3)]
            answers = forge(asked)
            host.respond(*answers)
        completed = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
        assert len(completed) <= len(answers) - 1
        assert all(isinstance(outcome, BROKEN) for outcome in outcomes if not isinstance(outcome, bytes))
        await host.wait_lost()
        with pytest.raises(BROKEN):
            await host.disk.read(0, 512)
        await host.check_others()


@pytest.mark.parametrize("advance", [2, 33, 1 << 31, (1 << 32) - 1])
async def test_an_rsp_prod_that_jumps_ends_the_connection(advance: int) -> None:
    async with hostile_host() as host:
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads, host.disk, 1, outcomes)
            await trio.testing.wait_all_tasks_blocked()
            host.ring.rsp_prod += advance
            host.ring.channel.notify()
        assert isinstance(outcomes[0], BROKEN)
        await host.wait_lost()
        await host.check_others()


@pytest.mark.parametrize("status", [-1, 1, -32768, 32767, BLKIF_RSP_EOPNOTSUPP])
async def test_any_status_but_okay_is_an_error(status: int) -> None:
    async with hostile_host() as host:
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads, host.disk, 1, outcomes)
            await trio.testing.wait_all_tasks_blocked()
            host.respond((host.request(0).id, BLKIF_OP_READ, status))
        (failed,) = outcomes
        assert isinstance(failed, RequestFailed)
        assert failed.status == status
        assert host.disk.connected


async def test_what_was_read_does_not_change_afterwards() -> None:
    """The caller gets a copy; the backend keeps its mapping and scribbles on."""
    async with hostile_host() as host:
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads, host.disk, 1, outcomes)
            await trio.testing.wait_all_tasks_blocked()
            request = host.request(0)
            mapping = host.domain.grants.map(host.device.front.domid, [request.seg[0].gref])
            mapping.pages[0][:] = b"first" + bytes(4091)
            host.respond((request.id, BLKIF_OP_READ, BLKIF_RSP_OKAY))
        mapping.pages[0][:] = b"later" + bytes(4091)
        assert outcomes == [b"first" + bytes(4091)]


@pytest.mark.parametrize(
    "nodes",
    [
        {"sectors": "0"},
        {"sectors": ""},
        {"sectors": "-8"},
        {"sectors": "many"},
        {"sectors": str(1 << 54)},
        {"sectors": str(1 << 64)},
        {"sectors": "8", "sector-size": "0"},
        {"sectors": "8", "sector-size": "513"},
        {"sectors": "8", "sector-size": "256"},
        {"sectors": "8", "sector-size": "8192"},
        {"sectors": "8", "sector-size": str(1 << 32)},
        {"sectors": "8", "info": "x"},
    ],
)
async def test_geometry_that_no_disk_has_is_refused(nodes: dict[str, str]) -> None:
    async with Loopback() as machine:
        _, honest = await attach(machine, Image(pattern()), XVDB)
        driver = await machine.add_domain("evil", buses=False)
        device = plug(machine, XVDA, driver=driver)
        peer = MockBackend(machine, device)
        await peer.say(XenbusState.InitWait)
        await peer.hear(XenbusState.Initialised)
        await peer.say(XenbusState.Connected, nodes)
        await peer.hear(XenbusState.Closing)
        with pytest.raises(ProtocolError):
            await front_of(device).read(0, 512)
        assert await honest.read(0, 512) == pattern()[:512]


async def test_a_larger_sector_size_is_kept_to() -> None:
    async with Loopback() as machine:
        driver = await machine.add_domain("large", buses=False)
        device = plug(machine, driver=driver)
        await MockBackend(machine, device).connect(BLK, {"sectors": "64", "sector-size": "4096"})
        disk = front_of(device)
        assert (disk.size, disk.sector_size) == (64 * 512, 4096)
        with pytest.raises(ValueError, match="no whole sectors of 4096"):
            await disk.read(512, 4096)


async def test_pages_that_a_former_backend_does_not_let_go_of_are_not_given_to_the_next() -> None:
    async with hostile_host() as host:
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads, host.disk, 1, outcomes)
            await trio.testing.wait_all_tasks_blocked()
            request = host.request(0)
            host.domain.grants.map(host.device.front.domid, [request.seg[0].gref])
            host.respond((request.id, BLKIF_OP_READ, BLKIF_RSP_OKAY))
        window = next(w for w in host.device.front.memory.windows.values() if w.mapped and w.nr_pages > 1)
        evil, image = host.domain, Image(pattern())
        image.hand_over(host.machine.driver, host.machine.guest, XVDA)
        host.machine.relink(host.device, host.machine.driver)
        await host.wait_lost()
        assert window.peer == evil.domid
        await host.check_others()
        # Its death ends its mappings, and the disk works with the next backend.
        await kill(evil)
        driver = await host.machine.add_domain("driver")
        image.hand_over(driver, host.machine.guest, XVDA)
        host.machine.relink(host.device, driver)
        await host.device.wait_connected()
        assert window.peer == driver.domid
        assert await host.disk.read(0, 4096) == pattern()[:4096]


async def test_notifications_without_end_cost_the_guest_little() -> None:
    """A backend that cries wolf is listened to more and more rarely; other disks are served meanwhile."""
    async with hostile_host() as host:
        async with trio.open_nursery() as nursery:

            async def cry() -> None:
                while True:
                    host.ring.channel.notify()
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(cry)
            for _ in range(20):
                await host.check_others()
            nursery.cancel_scope.cancel()
        assert host.disk.connected
