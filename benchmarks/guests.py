"""What runs inside the guests that are measured: as little as possible, and nothing is imported for it.

A guest reports by a line of its console, `@ word word …`: that costs no request of the store, which other
guests that are being measured may be using.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xenlike.domain.domain import Domain
    from xenlike.frontends.block import BlockFront

MARK = "@"
DEPTH = 32


def report(*words: object) -> None:
    """Tells the benchmark something."""
    print(MARK, *words, flush=True)


async def first_read(domain: Domain) -> None:
    """Reads one block and reports when it was called, connected and answered (CLOCK_MONOTONIC, ns); then idles."""
    called = time.monotonic_ns()
    disk = await domain.disk("xvda")
    connected = time.monotonic_ns()
    await disk.read(0, 4096)
    answered = time.monotonic_ns()
    report(called, connected, answered)
    await trio.sleep_forever()


async def reader(domain: Domain, size: int) -> None:
    """Reads as the node `data/order` says, such as `7 one 500 4096`: number, way, how often, bytes.

    It reports the number, ns, requests of the ring, notifications, and the 99th percentile of a read in ns.

    Args:
        domain: the guest.
        size: of the image, whose every 4 KiB block begins with its own offset.
    """
    disk = await domain.disk("xvda")
    random.seed(1)
    report("ready")
    async with domain.store.watch("data/order") as orders:
        async for _ in orders:
            words = (await domain.store.get("data/order") or "").split()
            if not words:
                continue
            number, how, count, length = words[0], words[1], int(words[2]), int(words[3])
            offsets = _sequence(size, count, length) if how == "sequential" else _scatter(size, count, length)
            before = disk.statistics()
            latencies: list[int] = []
            start = time.perf_counter_ns()
            blocks = await _WAYS[how](disk, offsets, length, latencies)
            elapsed = time.perf_counter_ns() - start
            after = disk.statistics()
            verify(blocks, offsets, length)
            latencies.sort()
            p99 = latencies[len(latencies) * 99 // 100] if latencies else 0
            report(number, elapsed, after.requests - before.requests, after.notifications - before.notifications, p99)


def _scatter(size: int, count: int, length: int) -> list[int]:
    return [random.randrange(size // length) * length for _ in range(count)]


def _sequence(size: int, count: int, length: int) -> list[int]:
    return [number * length % size for number in range(count)]


def verify(blocks: Sequence[bytes], offsets: Sequence[int], length: int) -> None:
    """Sees that what was read is what lies there: the first and the last 4 KiB of each block say where they are from.

    Raises:
        RuntimeError: they do not.
    """
    for block, offset in zip(blocks, offsets, strict=True):
        last = length - 4096
        if len(block) != length or any(int.from_bytes(block[at : at + 8], "little") != offset + at for at in (0, last)):
            raise RuntimeError(f"wrong bytes at {offset}")


async def _one(disk: BlockFront, offsets: Sequence[int], length: int, latencies: list[int]) -> list[bytes]:
    """One in flight; takes the time of each."""
    now = time.perf_counter_ns
    blocks = []
    before = now()
    for offset in offsets:
        blocks.append(await disk.read(offset, length))
        after = now()
        latencies.append(after - before)
        before = after
    return blocks


async def _batches(disk: BlockFront, offsets: Sequence[int], length: int, latencies: list[int]) -> list[bytes]:
    """32 in flight, by one task: `read_many`."""
    blocks: list[bytes] = []
    for first in range(0, len(offsets), DEPTH):
        blocks += await disk.read_many([(offset, length) for offset in offsets[first : first + DEPTH]])
    return blocks


async def _tasks(disk: BlockFront, offsets: Sequence[int], length: int, latencies: list[int]) -> list[bytes]:
    """32 in flight, one by each of 32 tasks."""
    blocks = [b""] * len(offsets)
    numbers = iter(range(len(offsets)))

    async def task() -> None:
        for number in numbers:
            blocks[number] = await disk.read(offsets[number], length)

    async with trio.open_nursery() as nursery:
        for _ in range(DEPTH):
            nursery.start_soon(task)
    return blocks


_WAYS = {"one": _one, "batches": _batches, "tasks": _tasks, "sequential": _one}
