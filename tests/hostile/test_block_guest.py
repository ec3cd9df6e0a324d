"""Law: a hostile guest hurts its own disk at most; no byte outside of what it may write is touched."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from tests.drivers import block_machine
from tests.drivers.block_machine import XVDA, XVDB, Image, attach, back_of, plug
from xenlike.abi.xenbus import XenbusState
from xenlike.frontends.block import BlockFront
from xenlike.io.blk import (
    BLK,
    BLKIF_OP_DISCARD,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
    BlkifRequest,
    BlkifResponse,
    BlkifSegment,
)
from xenlike.testing import Loopback, LoopDomain, Plugged
from xenlike.testing.fakedomain import FakeWindow
from xenlike.testing.peer import MockFrontend, RawRing

SIZE = 1 << 18
PAGES = 16
BAD_GREF = 0xDEAD


def pattern(seed: int = 1) -> bytes:
    return block_machine.pattern(SIZE, seed)


@dataclass
class Guest:
    """A guest that drives its disk by hand."""

    machine: Loopback
    device: Plugged
    ring: RawRing
    image: Image
    window: FakeWindow
    grefs: list[int]
    honest: BlockFront
    honest_image: Image

    def __post_init__(self) -> None:
        self.prod = self.rsp_cons = self.ring.req_prod

    @property
    def domain(self) -> LoopDomain:
        return self.device.front

    def push(self, *requests: BlkifRequest | bytes) -> None:
        for request in requests:
            self.ring.write(self.prod, request if isinstance(request, bytes) else request.pack())
            self.prod = (self.prod + 1) & 0xFFFF_FFFF
        self.ring.req_prod = self.prod
        self.ring.channel.notify()

    async def answers(self, count: int) -> list[BlkifResponse]:
        """Waits for so many responses."""
        with trio.fail_after(30):
            while (self.ring.rsp_prod - self.rsp_cons) & 0xFFFF_FFFF < count:
                self.ring.rsp_event = (self.rsp_cons + count) & 0xFFFF_FFFF
                await trio.lowlevel.checkpoint()
        found = [BlkifResponse.unpack(self.ring.read(self.rsp_cons + n, 16)) for n in range(count)]
        self.rsp_cons = (self.rsp_cons + count) & 0xFFFF_FFFF
        return found

    async def ask(self, *requests: BlkifRequest | bytes) -> list[int]:
        self.push(*requests)
        return [answer.status for answer in await self.answers(len(requests))]

    def page(self, gref: int | None = None, first: int = 0, last: int = 7) -> BlkifSegment:
        return BlkifSegment(self.grefs[0] if gref is None else gref, first, last)

    async def check_others(self) -> None:
        """The honest guest's disk works, and is what it was."""
        assert await self.honest.read(0, SIZE) == pattern(seed=2)
        assert self.honest_image.content() == pattern(seed=2)

    async def check_unhurt(self) -> None:
        """So does this disk."""
        request = BlkifRequest(BLKIF_OP_READ, 1, 0, 77, 8, (self.page(),))
        assert await self.ask(request) == [BLKIF_RSP_OKAY]
        assert bytes(self.window.page(0)) == self.image.content()[4096:8192]
        assert self.image.content() == pattern()
        await self.check_others()


@asynccontextmanager
async def hostile_guest(*, readonly: bool = False, persistent: bool = True, first: int = 0) -> AsyncIterator[Guest]:
    """A machine with an honest guest (d2) and a hostile one (d3), both served by one driver domain."""
    image, other = Image(pattern()), Image(pattern(seed=2))
    async with Loopback() as machine:
        _, honest = await attach(machine, other, XVDB)
        evil = await machine.add_domain("evil", buses=False)
        image.hand_over(machine.driver, evil, XVDA, readonly=readonly)
        device = plug(machine, guest=evil)
        peer = MockFrontend(machine, device)
        ring = await peer.connect(BLK, {"feature-persistent": str(int(persistent))}, first)
        window = evil.memory.alloc(machine.driver.domid, PAGES)
        grefs = [evil.grants.grant(window.pfn + page, machine.driver.domid) for page in range(PAGES)]
        yield Guest(machine, device, ring, image, window, grefs, honest, other)


def write(guest: Guest, sector: int, *segments: BlkifSegment, operation: int = BLKIF_OP_WRITE) -> BlkifRequest:
    return BlkifRequest(operation, len(segments), 0, 5, sector, segments)


@pytest.mark.parametrize("operation", [BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER])
@pytest.mark.parametrize("segment", [(0, 8), (0, 255), (5, 4), (255, 255), (8, 15)])
async def test_segments_outside_their_page(operation: int, segment: tuple[int, int]) -> None:
    async with hostile_guest() as guest:
        guest.window.buffer[:] = b"!" * len(guest.window.buffer)
        request = write(guest, 0, guest.page(), guest.page(None, *segment), operation=operation)
        assert await guest.ask(request) == [BLKIF_RSP_ERROR]
        assert bytes(guest.window.buffer) == b"!" * len(guest.window.buffer)
        await guest.check_unhurt()


@pytest.mark.parametrize("operation", [BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE])
@pytest.mark.parametrize(
    "sector", [SIZE // 512 - 7, SIZE // 512, 1 << 32, 1 << 55, (1 << 63) - 1, (1 << 64) - 8, (1 << 64) - 1]
)
async def test_sectors_beyond_the_disk(operation: int, sector: int) -> None:
    async with hostile_guest() as guest:
        assert await guest.ask(write(guest, sector, guest.page(), operation=operation)) == [BLKIF_RSP_ERROR]
        await guest.check_unhurt()


@pytest.mark.parametrize("count", [0, 12, 13, 255])
async def test_wrong_numbers_of_segments(count: int) -> None:
    async with hostile_guest() as guest:
        raw = bytearray(write(guest, 0, *[guest.page()] * 11).pack())
        raw[1] = count
        assert await guest.ask(bytes(raw)) == [BLKIF_RSP_ERROR]
        await guest.check_unhurt()


@pytest.mark.parametrize("operation", [4, BLKIF_OP_DISCARD, 6, 7, 128, 255])
async def test_operations_that_nobody_offered(operation: int) -> None:
    async with hostile_guest() as guest:
        assert await guest.ask(write(guest, 0, guest.page(), operation=operation)) == [BLKIF_RSP_EOPNOTSUPP]
        await guest.check_unhurt()


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("gref", [0, 1, 7, BAD_GREF, 0xFFFF_FFFF])
async def test_grants_that_are_none(gref: int, persistent: bool) -> None:
    """Only the requests that name one fail, in the middle of a batch as well."""
    async with hostile_guest(persistent=persistent) as guest:
        good = write(guest, 0, guest.page(), operation=BLKIF_OP_READ)
        bad = write(guest, 0, guest.page(), guest.page(gref))
        assert await guest.ask(good, bad, good, bad, good) == [0, -1, 0, -1, 0]
        await guest.check_unhurt()


async def test_other_domains_grants_cannot_be_named() -> None:
    """A reference is looked up in the table of who asks, whatever it means in another's."""
    async with hostile_guest() as guest:
        other = guest.machine.guest.grants.entries
        await guest.honest.read(0, 4096)
        theirs = [gref for gref in other if gref not in guest.domain.grants.entries]
        for gref in theirs:
            assert await guest.ask(write(guest, 0, guest.page(gref))) == [BLKIF_RSP_ERROR]
        await guest.check_unhurt()


@pytest.mark.parametrize("operation", [BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE])
async def test_writes_to_a_read_only_disk(operation: int) -> None:
    async with hostile_guest(readonly=True) as guest:
        assert await guest.ask(write(guest, 0, guest.page(), operation=operation)) == [BLKIF_RSP_ERROR]
        await guest.check_unhurt()


@pytest.mark.parametrize("jump", [33, 1000, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("first", [0, (1 << 32) - 3])
async def test_a_req_prod_that_jumps_ends_this_connection_alone(jump: int, first: int) -> None:
    async with hostile_guest(first=first) as guest:
        await guest.check_unhurt()
        guest.ring.req_prod = guest.prod + jump
        guest.ring.channel.notify()
        await guest.machine.wait_until(lambda: guest.device.states()[1] == XenbusState.Closing)
        assert guest.image.content() == pattern()
        await guest.check_others()
        # The pages are let go of when the guest has closed, and another guest's disk never noticed.
        guest.machine.tree.write(f"{guest.device.front_path}/state", str(int(XenbusState.Closed)))
        await guest.machine.wait_until(lambda: guest.device.states()[1] == XenbusState.Closed)
        assert not any(entry.mapped for entry in guest.domain.grants.entries.values())


async def test_a_request_that_changes_after_it_was_taken_changes_nothing() -> None:
    """The backend works on its copy: slots are scribbled over while it serves them."""
    async with hostile_guest() as guest:
        requests = [write(guest, n * 8, guest.page(guest.grefs[n % PAGES]), operation=BLKIF_OP_READ) for n in range(32)]
        guest.push(*requests)
        disk = back_of(guest.device).disk
        evil = write(guest, 0, guest.page()).pack()
        real = disk.preadv

        def scribble(offset: int, buffers: list[memoryview]) -> None:
            for slot in range(32):
                guest.ring.write(slot, evil)
            real(offset, buffers)

        disk.preadv = scribble  # type: ignore[method-assign, assignment]
        await guest.answers(32)
        disk.preadv = real  # type: ignore[method-assign]
        await guest.check_unhurt()


@pytest.mark.parametrize("persistent", [True, False])
async def test_what_is_mapped_is_bounded_and_ends(persistent: bool) -> None:
    """A guest that grants new pages for every request does not make the backend hold them all."""
    async with hostile_guest(persistent=persistent) as guest:
        peer = guest.machine.driver.domid
        limit = 1056
        for _ in range(12):
            window = guest.domain.memory.alloc(peer, 11 * 32)
            grefs = [guest.domain.grants.grant(window.pfn + page, peer) for page in range(11 * 32)]
            batch = [
                write(guest, 0, *[guest.page(gref) for gref in grefs[n * 11 : n * 11 + 11]], operation=BLKIF_OP_READ)
                for n in range(32)
            ]
            assert await guest.ask(*batch) == [0] * 32
            mapped = sum(entry.mapped for entry in guest.domain.grants.entries.values())
            assert mapped <= (limit if persistent else 0) + 1
        await guest.check_unhurt()


async def test_without_persistent_grants_every_grant_can_end_with_its_answer() -> None:
    async with hostile_guest(persistent=False) as guest:
        for gref in guest.grefs:
            assert await guest.ask(write(guest, 0, guest.page(gref), operation=BLKIF_OP_READ)) == [0]
            guest.domain.grants.revoke(gref)


async def test_complaints_are_few(caplog: pytest.LogCaptureFixture) -> None:
    async with hostile_guest() as guest:
        with caplog.at_level(logging.WARNING):
            for _ in range(100):
                await guest.ask(*[write(guest, SIZE, guest.page())] * 32)
        lines = [record for record in caplog.records if "asked for" in record.getMessage()]
        assert 1 <= len(lines) <= 1 + 30  # one a second, and this takes far less than thirty
        assert "d3 asked for sectors" in lines[0].getMessage()


@pytest.mark.parametrize("seed", range(20))
async def test_no_sequence_of_bytes_hurts_anybody(seed: int) -> None:
    """Random slots, mostly near-valid; whatever is answered, a model of the disk agrees with the image."""
    chosen = random.Random(seed)
    async with hostile_guest(persistent=bool(seed % 2), first=(1 << 32) - 7 if seed % 4 < 2 else 0) as guest:
        sectors = SIZE // 512
        model = bytearray(guest.image.content())
        for _ in range(30):
            batch = []
            for _ in range(chosen.randrange(1, 33)):
                count = chosen.choice([0, 1, 2, 11, 12, 255])
                segments = []
                for _ in range(min(count, 11)):
                    gref = chosen.choice([*guest.grefs, 0, BAD_GREF])
                    segments.append(BlkifSegment(gref, chosen.randrange(10), chosen.randrange(10)))
                sector = chosen.choice([chosen.randrange(sectors), sectors - 1, chosen.randrange(1 << 64)])
                request = BlkifRequest(
                    chosen.randrange(8), count, 0, chosen.randrange(1 << 64), sector, tuple(segments)
                )
                batch.append(request)
            for page in range(PAGES):
                guest.window.page(page)[:] = chosen.randbytes(4096)
            pages = {gref: bytes(guest.window.page(n)) for n, gref in enumerate(guest.grefs)}
            # Reads change the pages that writes take from; keep to one direction a batch.
            batch = [r for r in batch if r.operation != BLKIF_OP_READ] or batch[:1]
            guest.push(*batch)
            for request, answer in zip(batch, await guest.answers(len(batch)), strict=True):
                assert (answer.id, answer.operation) == (request.id, request.operation)
                if answer.status == BLKIF_RSP_OKAY and request.operation != BLKIF_OP_READ:
                    at = request.sector_number * 512
                    for segment in request.seg[: request.nr_segments]:
                        data = pages[segment.gref][segment.first_sect * 512 : segment.last_sect * 512 + 512]
                        model[at : at + len(data)] = data
                        at += len(data)
            assert guest.image.content() == model
        await guest.check_others()
