"""What one request costs a Python program: reads of 4 KiB and of 1 MiB, in a guest and over a `Pipe`.

The guest calls `disk.read`, and the block goes through ring, backend and file. The peer asks another process
for the same bytes of the same file over a `multiprocessing.Pipe`. Each round measures, in turns, the disk, the
pipe, and the disk once more: the ratio of the two disk runs is the control that any other ratio must be held
against. All bytes are verified, outside the time that counts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import trio

from xenlike.benchmarks import pipe
from xenlike.benchmarks.figures import Figure
from xenlike.benchmarks.guests import DEPTH
from xenlike.benchmarks.lab import Lab, open_lab
from xenlike.benchmarks.ring import batch
from xenlike.benchmarks.runner import Bench
from xenlike.errors import MachineError
from xenlike.toolstack.guest import Guest

ENTRY = "xenlike.benchmarks.guests:reader"
IMAGE_SIZE = 64 << 20
BLOCK = 4096
LARGE = 1 << 20


@dataclass(slots=True)
class Result:
    """What the guest says of one sample."""

    ns: int
    requests: int
    notifications: int
    p99_ns: int


def measure(bench: Bench) -> None:
    """Measures the batch path of the ring, and then disks."""
    try:
        batch.measure_headline(bench)
    except MachineError as error:
        bench.remark(f"the batch path was left out: {error}")  # disks need no CPU of their own
    trio.run(_machine, bench)


async def _machine(bench: Bench) -> None:
    async with open_lab() as lab:
        image = lab.image("disk.img", IMAGE_SIZE)
        with pipe.pipe_reader(image) as connection:
            reader = await Reader.start(lab, image)
            await _one_in_flight(bench, reader, connection)
            await _many_in_flight(bench, reader, connection)
            await _sequential(bench, reader, connection)


class Reader:
    """The guest that reads as it is told."""

    def __init__(self, lab: Lab, name: str, guest: Guest) -> None:
        self._lab = lab
        self._name = name
        self._guest = guest
        self._orders = 0

    @classmethod
    async def start(cls, lab: Lab, image: Path) -> Reader:
        """Starts it and waits until its disk is connected."""
        name = lab.name()
        guest = await lab.machine.spawn(name, ENTRY, devices=[lab.disk(image)], args=[IMAGE_SIZE])
        await lab.heard(name)
        return cls(lab, name, guest)

    async def read(self, how: str, count: int, length: int) -> Result:
        """Has it read, and returns what it measured."""
        self._orders += 1
        order = f"{self._orders} {how} {count} {length}"
        await self._lab.machine.domain0.store.write(f"/local/domain/{self._guest.domid}/data/order", order)
        _, ns, requests, notifications, p99 = await self._lab.heard(self._name)
        return Result(int(ns), int(requests), int(notifications), int(p99))


def _offsets(count: int, length: int) -> list[int]:
    return [random.randrange(IMAGE_SIZE // length) * length for _ in range(count)]


def _noted(figure: Figure, results: list[Result]) -> None:
    requests = sum(result.requests for result in results)
    if requests:
        per_1000 = 1000 * sum(result.notifications for result in results) / requests
        figure.note = f"{per_1000:.0f} notifications to the backend per 1,000 requests"


async def _one_in_flight(bench: Bench, reader: Reader, connection: Connection) -> None:
    disk = bench.figure("disk.read of 4 KiB, 1 in flight", "µs")
    peer = bench.figure("   multiprocessing.Pipe, the same", "µs")
    ratio = bench.figure("   times as fast as the pipe", "x")
    control = bench.figure("   control: the disk against itself", "x")
    count = bench.plan.requests
    results: list[Result] = []
    with bench.stage("one in flight", bench.plan.samples) as step:
        await reader.read("one", count // 4, BLOCK)
        for _ in range(bench.plan.samples):
            first = await reader.read("one", count, BLOCK)
            other = pipe.read(connection, _offsets(count, BLOCK), BLOCK, 1)
            second = await reader.read("one", count, BLOCK)
            results += [first, second]
            both = (first.ns + second.ns) / 2
            disk.add(both / count / 1e3)
            peer.add(other / count / 1e3)
            ratio.add(other / both)
            control.add(first.ns / second.ns)
            disk.p99 = max(result.p99_ns for result in results) / 1e3
            _noted(disk, results)
            step()


async def _many_in_flight(bench: Bench, reader: Reader, connection: Connection) -> None:
    many = bench.figure(f"disk.read_many of 4 KiB, {DEPTH} in flight", "k/s")
    tasks = bench.figure(f"disk.read of 4 KiB by {DEPTH} tasks", "k/s")
    peer = bench.figure(f"   multiprocessing.Pipe, {DEPTH} in flight", "k/s")
    ratio = bench.figure("   read_many: times as fast as the pipe", "x")
    task_ratio = bench.figure("   tasks: times as fast as the pipe", "x")
    control = bench.figure("   control: read_many against itself", "x")
    count = bench.plan.requests
    batches: list[Result] = []
    singles: list[Result] = []
    with bench.stage(f"{DEPTH} in flight", bench.plan.samples) as step:
        await reader.read("batches", count // 4, BLOCK)
        for _ in range(bench.plan.samples):
            first = await reader.read("batches", count, BLOCK)
            other = pipe.read(connection, _offsets(count, BLOCK), BLOCK, DEPTH)
            single = await reader.read("tasks", count, BLOCK)
            second = await reader.read("batches", count, BLOCK)
            batches += [first, second]
            singles.append(single)
            both = (first.ns + second.ns) / 2
            many.add(count / both * 1e6)
            tasks.add(count / single.ns * 1e6)
            peer.add(count / other * 1e6)
            ratio.add(other / both)
            task_ratio.add(other / single.ns)
            control.add(first.ns / second.ns)
            _noted(many, batches)
            _noted(tasks, singles)
            step()


async def _sequential(bench: Bench, reader: Reader, connection: Connection) -> None:
    disk = bench.figure("disk.read of 1 MiB, one after the other", "GB/s")
    peer = bench.figure("   multiprocessing.Pipe, the same", "GB/s")
    ratio = bench.figure("   times as fast as the pipe", "x")
    control = bench.figure("   control: the disk against itself", "x")
    count = bench.plan.sequential_mib
    offsets = [number * LARGE % IMAGE_SIZE for number in range(count)]
    with bench.stage("1 MiB at a time", bench.plan.samples) as step:
        await reader.read("sequential", 4, LARGE)
        for _ in range(bench.plan.samples):
            first = await reader.read("sequential", count, LARGE)
            other = pipe.read(connection, offsets, LARGE, 1)
            second = await reader.read("sequential", count, LARGE)
            both = (first.ns + second.ns) / 2
            disk.add(count * LARGE / both)
            peer.add(count * LARGE / other)
            ratio.add(other / both)
            control.add(first.ns / second.ns)
            step()
