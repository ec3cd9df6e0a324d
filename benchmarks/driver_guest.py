"""The guest of `xenlike bench driver`: uses a driver's `exercise` from several tasks, as it is told."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, cast

import trio

from xenlike.benchmarks.guests import report
from xenlike.domain.reference import resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from xenlike.domain.domain import Domain
    from xenlike.xenbus import Frontend

    Exercise = Callable[[Frontend, random.Random], Awaitable[None]]


async def main(domain: Domain, type: str, exercise: str) -> None:
    """Works as the node `data/order` says, such as `7 32 0.5`: number, tasks, seconds.

    It reports the number, ns, operations, the median and the 99th percentile of one in ns, requests of the ring, and
    notifications to the backend.

    Args:
        domain: the guest.
        type: of its device 0.
        exercise: a reference, as in `Driver.exercise`.
    """
    device = await domain.device(type)
    use = cast("Exercise", resolve(exercise))
    report("ready")
    async with domain.store.watch("data/order") as orders:
        async for _ in orders:
            words = (await domain.store.get("data/order") or "").split()
            if not words:
                continue
            number, tasks, seconds = words[0], int(words[1]), float(words[2])
            before = device.queue.statistics()
            start = time.perf_counter_ns()
            times = await _work(device, use, tasks, start + int(seconds * 1e9))
            elapsed = time.perf_counter_ns() - start
            after = device.queue.statistics()
            times.sort()
            median, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
            requests, sent = after.requests - before.requests, after.notifications - before.notifications
            report(number, elapsed, len(times), median, p99, requests, sent)


async def _work(device: Frontend, use: Exercise, tasks: int, end_ns: int) -> list[int]:
    """Uses the device from so many tasks until the time is over, each once at least; returns how long each took."""
    times: list[int] = []
    now = time.perf_counter_ns

    async def task(number: int) -> None:
        chance = random.Random(number)
        before = now()
        while True:
            await use(device, chance)
            after = now()
            times.append(after - before)
            if after >= end_ns:
                return
            before = after

    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            nursery.start_soon(task, number)
    return times
