"""Laws of a disk whose backend dies, or whose user loses patience: nothing acknowledged is lost, no byte is wrong."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from tests.drivers.block_machine import SIZE, Image, attach, back_of, front_of, kill, pattern, plug, restart
from xenlike.abi.xenbus import XenbusState
from xenlike.errors import PeerGone
from xenlike.frontends.block import BlockFront
from xenlike.io.blk import BLK, BLKIF_RSP_OKAY, BlkifRequest, BlkifResponse
from xenlike.testing import Loopback
from xenlike.testing.peer import MockBackend, RawRing

GEOMETRY = {"sectors": str(SIZE // 512), "feature-flush-cache": "1", "feature-persistent": "1"}


@pytest.mark.parametrize("seed", range(20))
async def test_work_goes_on_when_the_backend_dies_and_comes_back(seed: int) -> None:
    """Eight tasks read and write while the driver domain is killed at a random moment, twice."""
    image = Image()
    model = bytearray(image.content())
    part = SIZE // 8
    chosen = random.Random(seed)
    running = 8

    async def work(disk: BlockFront, number: int, mine: random.Random) -> None:
        nonlocal running
        for _ in range(25):
            length = mine.choice([512, 4096, 45568, 100 * 512])
            at = number * part + mine.randrange((part - length) // 512) * 512
            if mine.random() < 0.6:
                data = mine.randbytes(length)
                await disk.write(at, data)
                model[at : at + length] = data
            else:
                assert await disk.read(at, length) == model[at : at + length]
        running -= 1

    async with Loopback() as machine:
        device, disk = await attach(machine, image)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(work, disk, number, random.Random(chosen.random()))
                for _ in range(2):
                    for _ in range(chosen.randrange(60)):
                        await trio.lowlevel.checkpoint()
                    await kill(device.back)
                    for _ in range(chosen.randrange(20)):
                        await trio.lowlevel.checkpoint()
                    await restart(machine, device, image)
            assert running == 0
            await disk.flush()
            assert await disk.read(0, SIZE) == model
            assert disk.statistics().connections >= 1
    assert image.content() == model


async def test_a_user_who_asks_for_it_is_told_of_the_death() -> None:
    async with Loopback() as machine:
        device, disk = await attach(machine, Image())
        disk.on_peer_gone = "fail"
        assert await disk.read(0, 512) == pattern()[:512]
        await kill(device.back)
        with pytest.raises(PeerGone):
            await disk.read(0, 512)
        with pytest.raises(PeerGone):
            await disk.read(0, 512)
        image = Image()
        await restart(machine, device, image)
        await device.wait_connected()
        assert await disk.read(0, 512) == image.content()[:512]


async def test_buffers_keep_address_and_contents_over_a_death() -> None:
    image = Image()
    async with Loopback() as machine:
        device, disk = await attach(machine, image)
        async with disk.buffer(8192) as buffer:
            buffer.data[:] = b"z" * 8192
            await disk.write_from(0, buffer)
            view = buffer.data
            await kill(device.back)
            view[:4] = b"kept"
            await restart(machine, device, image)
            await disk.write_from(4096, buffer)
            assert bytes(view[:8]) == b"keptzzzz"
        assert image.content()[: 3 * 4096] == b"z" * 4096 + b"kept" + b"z" * 8188
        assert disk.statistics().connections == 2


async def test_counters_go_on_over_a_death() -> None:
    image = Image()
    async with Loopback() as machine:
        device, disk = await attach(machine, image)
        await disk.read(0, 4096)
        await kill(device.back)
        await restart(machine, device, image)
        await disk.write(0, bytes(8192))
        counted = disk.statistics()
        assert (counted.requests, counted.bytes_read, counted.bytes_written) == (2, 4096, 8192)


# Patience. The backend is a mock that answers when told.


async def mock_backend(machine: Loopback, nodes: dict[str, str]) -> tuple[RawRing, BlockFront]:
    driver = await machine.add_domain("mute", buses=False)
    device = plug(machine, driver=driver)
    ring = await MockBackend(machine, device).connect(BLK, nodes)
    return ring, front_of(device)


def answer(ring: RawRing, *indices: int) -> list[BlkifRequest]:
    """Answers the requests at these indices, and returns them."""
    requests = [BlkifRequest.unpack(ring.read(index, 112)) for index in indices]
    for index, request in zip(indices, requests, strict=True):
        ring.write(index, BlkifResponse(request.id, request.operation, BLKIF_RSP_OKAY).pack())
    ring.rsp_prod += len(indices)
    ring.channel.notify()
    return requests


async def test_pages_of_a_cancelled_read_are_not_used_before_its_answer() -> None:
    async with Loopback() as machine:
        ring, disk = await mock_backend(machine, GEOMETRY)

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                await disk.read(0, 4096)

        scope, patient = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, scope)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, patient)
            await trio.testing.wait_all_tasks_blocked()
            first, second = answer(ring, 0, 1)
            assert first.id != second.id
            assert first.seg[0].gref != second.seg[0].gref
        # Answered: now the page is used again.
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(ask, scope)
            await trio.testing.wait_all_tasks_blocked()
            third = BlkifRequest.unpack(ring.read(2, 112))
            assert third.seg[0].gref == first.seg[0].gref
            scope.cancel()


async def test_a_buffer_of_a_cancelled_transfer_is_not_lent_again_before_its_answer() -> None:
    async with Loopback() as machine:
        ring, disk = await mock_backend(machine, GEOMETRY)
        scope = trio.CancelScope()

        async def give_up() -> None:
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up)
            with scope:
                async with disk.buffer(4096) as buffer:
                    await disk.read_into(0, buffer)
        async with disk.buffer(4096) as other:
            assert not _same_memory(buffer.data, other.data)
        answer(ring, 0)
        await trio.testing.wait_all_tasks_blocked()
        async with disk.buffer(4096) as other:
            assert _same_memory(buffer.data, other.data)


def _same_memory(first: memoryview, second: memoryview) -> bool:
    first[:8], before = b"the same", bytes(first[:8])
    same = bytes(second[:8]) == b"the same"
    first[:8] = before
    return same


async def test_a_backend_without_flushes_is_not_asked_for_one() -> None:
    async with Loopback() as machine:
        _, disk = await mock_backend(machine, {"sectors": "8"})
        await disk.flush()
        assert disk.statistics().requests == 0


async def test_a_backend_that_closes_and_opens_again_is_the_same_disk() -> None:
    """Its image was opened once, and is kept while frontends come and go."""
    image = Image()
    async with Loopback() as machine:
        device, disk = await attach(machine, image)
        await disk.write(0, b"a" * 512)
        await disk.close()
        await device.wait_states(XenbusState.Closed, XenbusState.Closed)
        assert machine.driver.grants.mappings == set()
        machine.tree.write(f"{device.front_path}/state", str(int(XenbusState.Initialising)))
        await device.wait_connected()
        assert await disk.read(0, 1024) == b"a" * 512 + pattern()[512:1024]
        assert back_of(device).disk.size == SIZE
