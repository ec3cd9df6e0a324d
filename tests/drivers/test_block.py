"""Laws of the block driver pair: what is written is read, and in the image, whole and nowhere else."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from tests.drivers.block_machine import SIZE, XVDA, XVDB, Image, attach, back_of, front_of, pattern, plug
from xenlike.abi.xenbus import XenbusState
from xenlike.errors import NoSuchDevice, RequestFailed
from xenlike.frontends.block import BlockFront
from xenlike.storage import FileDevice
from xenlike.testing import Loopback


async def test_the_handshake_says_what_the_disk_is() -> None:
    async with Loopback() as machine:
        device, disk = await attach(machine, Image())
        nodes = {
            path.removeprefix(device.back_path + "/"): value
            for path, value in machine.tree.nodes.items()
            if path.startswith(device.back_path)
        }
        assert nodes["sectors"] == str(SIZE // 512)
        assert (nodes["sector-size"], nodes["physical-sector-size"], nodes["info"]) == ("512", "4096", "0")
        assert nodes["mode"] == "w"
        features = ("feature-flush-cache", "feature-barrier", "feature-persistent")
        assert [nodes[name] for name in features] == ["1", "1", "1"]
        assert machine.tree.nodes[f"{device.front_path}/feature-persistent"] == "1"
        assert (disk.size, disk.sector_size, disk.readonly) == (SIZE, 512, False)


async def test_reads_and_writes_of_any_length_meet_the_image() -> None:
    image = Image()
    expected = bytearray(image.content())
    async with Loopback() as machine:
        _, disk = await attach(machine, image)
        for sector, sectors in [(0, 1), (1, 8), (7, 88), (100, 89), (3, 177), (50, 1500), (0, SIZE // 512)]:
            offset, length = sector * 512, sectors * 512
            assert await disk.read(offset, length) == expected[offset : offset + length]
            data = pattern(length, seed=sectors)
            await disk.write(offset, data)
            expected[offset : offset + length] = data
            assert image.content() == expected
        assert await disk.read(0, SIZE) == expected
        assert await disk.read(512, 0) == b""
        await disk.write(512, b"")
        await disk.flush()
        assert image.content() == expected


async def test_a_batch_is_answered_in_its_own_order() -> None:
    image = Image()
    content = image.content()
    chosen = random.Random(3)
    ranges = [(chosen.randrange(8000) * 512, chosen.randrange(120) * 512) for _ in range(500)]
    async with Loopback() as machine:
        _, disk = await attach(machine, image)
        assert await disk.read_many(ranges) == [content[at : at + length] for at, length in ranges]
        assert await disk.read_many([]) == []
        items = [(at * 4096, bytes([at % 256]) * 4096) for at in range(1000)]
        chosen.shuffle(items)
        await disk.write_many(items)
        assert image.content()[: 1000 * 4096] == b"".join(bytes([at % 256]) * 4096 for at in range(1000))


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_agrees_with_a_bytearray(seed: int) -> None:
    """Eight tasks, each with a part of the disk of its own, read and write at once."""
    image = Image()
    model = bytearray(image.content())
    part = SIZE // 8

    async def work(disk: BlockFront, number: int) -> None:
        chosen = random.Random(seed * 8 + number)
        for _ in range(40):
            length = chosen.choice([512, 4096, 45056, 45568, 100 * 512])
            at = number * part + chosen.randrange((part - length) // 512) * 512
            if chosen.random() < 0.5:
                data = chosen.randbytes(length)
                model[at : at + length] = data
                await disk.write(at, data)
            elif chosen.random() < 0.5:
                assert await disk.read(at, length) == model[at : at + length]
            else:
                async with disk.buffer(length) as buffer:
                    await disk.read_into(at, buffer)
                    assert buffer.data == model[at : at + length]
                    buffer.data[:512] = bytes(512)
                    model[at : at + length] = bytes(512) + model[at + 512 : at + length]
                    await disk.write_from(at, buffer)

    async with Loopback() as machine:
        _, disk = await attach(machine, image)
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(work, disk, number)
        assert await disk.read(0, SIZE) == model
    assert image.content() == model


@pytest.mark.parametrize(
    ("offset", "length", "reason"),
    [
        (100, 512, "no whole sectors"),
        (0, 100, "no whole sectors"),
        (-512, 512, "outside a disk"),
        (0, -512, "outside a disk"),
        (SIZE - 512, 1024, "outside a disk"),
        (SIZE, 512, "outside a disk"),
        (1 << 64, 512, "outside a disk"),
    ],
)
async def test_bad_ranges_are_refused_before_anything_is_sent(offset: int, length: int, reason: str) -> None:
    image = Image()
    async with Loopback() as machine:
        _, disk = await attach(machine, image)
        with pytest.raises(ValueError, match=reason):
            await disk.read(offset, length)
        with pytest.raises(ValueError, match=reason):
            await disk.read_many([(0, 512), (offset, length)])
        if length >= 0:
            with pytest.raises(ValueError, match=reason):
                await disk.write_many([(0, bytes(512)), (offset, bytes(length))])
        async with disk.buffer(4096) as buffer:
            with pytest.raises(ValueError, match=reason):
                await disk.read_into(offset, buffer, length)
        assert disk.statistics().requests == 0
    assert image.content() == pattern()


async def test_a_read_only_disk_is_read_and_never_written() -> None:
    image = Image()
    async with Loopback() as machine:
        device, disk = await attach(machine, image, readonly=True)
        assert disk.readonly
        assert machine.tree.nodes[f"{device.back_path}/info"] == "4"
        assert await disk.read(0, 4096) == image.content()[:4096]
        with pytest.raises(PermissionError):
            await disk.write(0, bytes(512))
        async with disk.buffer(512) as buffer:
            with pytest.raises(PermissionError):
                await disk.write_from(0, buffer)
        await disk.flush()
        # The frontend's own check is a courtesy; it is the backend's that counts.
        disk.readonly = False
        with pytest.raises(RequestFailed):
            await disk.write(0, bytes(512))
        assert await disk.read(0, 512) == image.content()[:512]
    assert image.content() == pattern()


async def test_several_disks_do_not_touch_one_another() -> None:
    images = {XVDA: Image(), XVDB: Image(pattern(seed=2)), 768: Image(pattern(1 << 20, seed=3))}
    async with Loopback() as machine:
        disks = [(await attach(machine, image, number))[1] for number, image in images.items()]
        assert [disk.size for disk in disks] == [SIZE, SIZE, 1 << 20]
        async with trio.open_nursery() as nursery:
            for fill, disk in enumerate(disks):
                nursery.start_soon(disk.write, 4096, bytes([fill]) * 200_704)
        for fill, (disk, image) in enumerate(zip(disks, images.values(), strict=True)):
            assert await disk.read(4096, 200_704) == bytes([fill]) * 200_704
            assert image.content()[4096 : 4096 + 200_704] == bytes([fill]) * 200_704


async def test_a_name_is_a_device_number() -> None:
    assert BlockFront.device_id("xvda") == BlockFront.device_id(51712) == BlockFront.device_id("0xca00") == "51712"


# Zero copy.


async def test_buffers_are_granted_memory_and_no_two_are_the_same() -> None:
    image = Image()
    async with Loopback() as machine:
        _, disk = await attach(machine, image)
        async with disk.buffer(1 << 19) as first, disk.buffer(512) as second:
            await disk.read_into(0, first)
            await disk.read_into(1 << 20, second)
            assert first.data == image.content()[: 1 << 19]
            assert second.data == image.content()[1 << 20 : (1 << 20) + 512]
            await disk.write_from(1 << 21, first, 4096)
            assert (
                image.content()[1 << 21 : (1 << 21) + 8192]
                == image.content()[:4096] + pattern()[(1 << 21) + 4096 :][:4096]
            )
            with pytest.raises(ValueError, match="do not fit"):
                await disk.read_into(0, second, 1024)


async def test_a_buffer_waits_for_room_and_has_a_limit() -> None:
    async with Loopback() as machine:
        _, disk = await attach(machine, Image())
        for length in (0, -1, (1 << 20) + 1):
            with pytest.raises(ValueError, match="a buffer has 1 to 1048576 bytes"):
                async with disk.buffer(length):
                    pass
        waited = trio.Event()

        async def second() -> None:
            async with disk.buffer(1 << 20) as buffer:
                waited.set()
                await disk.read_into(0, buffer)

        async with trio.open_nursery() as nursery, disk.buffer(4096):
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            assert not waited.is_set()
            assert await disk.read(0, 512)  # buffers do not take what reads need
        assert waited.is_set()


# Flushing.


async def test_a_flush_comes_after_all_that_was_answered_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    image = Image(bytes(SIZE))
    monkeypatch.setattr(FileDevice, "flush", lambda _: seen.append(image.content().count(b"x")))
    async with Loopback() as machine:
        _, disk = await attach(machine, image)
        for count in range(1, 4):
            await disk.write(count * 4096, b"x" * 4096)
            await disk.flush()
    assert seen == [4096, 8192, 12288]


async def test_a_flush_that_takes_long_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that came before it in the same batch are answered, and the domain's other disks served."""
    flushing, go_on = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def flush(self: FileDevice) -> None:
        trio.from_thread.run_sync(flushing.set, trio_token=token)
        trio.from_thread.run(go_on.wait, trio_token=token)

    monkeypatch.setattr(FileDevice, "flush", flush)
    async with Loopback() as machine:
        _, disk = await attach(machine, Image())
        _, other = await attach(machine, Image(), XVDB)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(disk.flush)
                await flushing.wait()
                assert await other.read(0, 512) == pattern()[:512]
                go_on.set()


# Errors of the storage.


async def test_an_error_of_the_image_is_an_error_of_the_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image()
    async with Loopback() as machine:
        device, disk = await attach(machine, image)
        storage = back_of(device).disk
        real = storage.preadv

        def preadv(offset: int, buffers: list[memoryview]) -> None:
            if offset == 8192:
                raise OSError(5, "a bad sector")
            real(offset, buffers)

        monkeypatch.setattr(storage, "preadv", preadv)
        with pytest.raises(RequestFailed, match="read of 4096 bytes at 8192 failed with status -1") as failed:
            await disk.read(8192, 4096)
        assert isinstance(failed.value, OSError)
        with pytest.raises(RequestFailed):
            await disk.read_many([(0, 4096), (8192, 512), (4096, 4096)])
        assert await disk.read(4096, 4096) == pattern()[4096:8192]
        assert disk.connected


async def test_a_disk_without_an_image_does_not_connect_and_says_why() -> None:
    async with Loopback() as machine:
        image = Image(bytes(1000))
        image.hand_over(machine.driver, machine.guest, XVDA)
        device = plug(machine)
        await machine.wait_until(lambda: device.states()[1] == XenbusState.Closing)
        (error,) = [
            value for path, value in machine.tree.nodes.items() if path.endswith("/error") and "/vbd/" in path and value
        ]
        assert "multiple of 512" in error
        # The next one works.
        await attach(machine, Image(), XVDB)


# Plugging.


async def test_a_detached_disk_leaves_nothing_behind() -> None:
    image = Image()
    async with Loopback() as machine:
        before = len(machine.guest.memory.windows), len(machine.guest.grants.entries)
        device, disk = await attach(machine, image)
        async with disk.buffer(4096) as buffer:
            await disk.read_into(0, buffer)
        await disk.write(0, bytes(100 * 512))
        storage = back_of(device).disk
        await machine.detach(device)
        with pytest.raises(NoSuchDevice):
            await disk.read(0, 512)
        assert (len(machine.guest.memory.windows), len(machine.guest.grants.entries)) == before
        assert machine.driver.grants.mappings == set()
        with pytest.raises(OSError, match="Bad file descriptor"):
            storage.preadv(0, [memoryview(bytearray(512))])
        # The same number can be plugged in again.
        _, disk = await attach(machine, image)
        assert await disk.read(0, 512) == bytes(512)


async def test_a_disk_that_grows_tells_its_guest() -> None:
    async with Loopback() as machine:
        device, disk = await attach(machine, Image())
        await back_of(device).announce({"sectors": 2 * SIZE // 512})
        with trio.fail_after(30):
            while disk.size != 2 * SIZE:
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("layout", ["xen", "cacheline"])
@pytest.mark.parametrize("order", [0, 2])
async def test_every_ring_carries_a_disk(layout: str, order: int) -> None:
    class Front(BlockFront):
        ring_layouts = (layout,)
        ring_page_order = order

    image = Image()
    async with Loopback(frontends={"vbd": Front}) as machine:
        device, disk = await attach(machine, image)
        assert machine.tree.nodes.get(f"{device.front_path}/ring-layout", "xen") == layout
        await disk.write(0, pattern(1 << 20, seed=9))
        assert await disk.read(0, 1 << 21) == pattern(1 << 20, seed=9) + pattern()[1 << 20 : 1 << 21]


async def test_idle_disks_cost_no_memory() -> None:
    """No page is granted or mapped before it is used, and small requests use the same pages again."""
    async with Loopback() as machine:
        device, disk = await attach(machine, Image())
        ring_pages = 1
        assert len(machine.guest.grants.entries) == ring_pages
        for at in range(100):
            await disk.read(at * 4096, 4096)
        assert len(machine.guest.grants.entries) == ring_pages + 1
        assert len(machine.driver.grants.mappings) == 2
        assert front_of(device).statistics().requests == 100
