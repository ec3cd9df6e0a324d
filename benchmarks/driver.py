"""What a driver's operations cost a program in a guest: its `exercise`, beside that of echo.

A driver domain and a guest for the driver, and another pair for echo, the smallest driver, as a yardstick: what the
machine itself costs. Each round has them in turns, the driver first and last; the ratio of its two runs is the control
that any other ratio must be held against. An operation is one call of `exercise`, with whatever it does to check
the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from xenlike.abi.driver import Driver
from xenlike.benchmarks.figures import Figure
from xenlike.benchmarks.lab import Lab, open_lab
from xenlike.benchmarks.runner import Bench
from xenlike.errors import ConfigError, MachineError
from xenlike.toolstack.devices import Device
from xenlike.toolstack.driver_source import find_driver
from xenlike.toolstack.guest import Guest

ENTRY = "xenlike.benchmarks.driver_guest:main"
TASKS = (1, 8, 32)
YARDSTICK = "echo"


@dataclass(slots=True)
class Result:
    """What the guest says of one sample."""

    ns: int
    operations: int
    median_ns: int
    p99_ns: int
    requests: int
    notifications: int

    @property
    def per_second(self) -> float:
        """Operations."""
        return self.operations / self.ns * 1e9


def measure(bench: Bench) -> None:
    """Measures the driver that the options name.

    Raises:
        ConfigError: there is no such driver, or it names no `exercise`.
        MachineError: its guest crashed.
    """
    found = find_driver(bench.options.driver or YARDSTICK).load_halves()
    if found.driver.type == "vbd":
        raise ConfigError("disks have a benchmark of their own: xenlike bench block")
    if not found.driver.exercise:
        raise ConfigError(f"{found.driver.type} names no `exercise`: Driver(..., exercise='module:function')")
    bench.remark(f"driver: {found.driver.type}, {found.driver.doc or found.driver.protocol.doc}")
    bench.remark("an operation is one call of `exercise`, which may send several requests, and checks the answers")
    trio.run(_machine, bench, found.driver)


async def _machine(bench: Bench, driver: Driver) -> None:
    async with open_lab() as lab:
        subject = await User.start(lab, driver)
        yardstick = None
        if driver.type != YARDSTICK:
            yardstick = await User.start(lab, find_driver(YARDSTICK).driver)
        for tasks in TASKS:
            await _compare(bench, subject, yardstick, tasks)


class User:
    """A guest that uses a device, and the domain that serves it."""

    def __init__(self, lab: Lab, driver: Driver, guest: Guest) -> None:
        self.driver = driver
        self._lab = lab
        self._guest = guest
        self._orders = 0

    @classmethod
    async def start(cls, lab: Lab, driver: Driver) -> User:
        """Starts both and waits until the device is connected."""
        server = lab.name()
        await lab.machine.spawn(server, backends=[driver.type], drivers=[driver])
        device = Device(driver.type, backend=server, driver=driver)
        guest = await lab.machine.spawn(lab.name(), ENTRY, devices=[device], args=[driver.type, driver.exercise])
        user = cls(lab, driver, guest)
        await user._heard()
        return user

    async def use(self, tasks: int, seconds: float) -> Result:
        """Has it use the device, and returns what it measured."""
        self._orders += 1
        order = f"{self._orders} {tasks} {seconds}"
        await self._lab.machine.domain0.store.write(f"/local/domain/{self._guest.domid}/data/order", order)
        return Result(*(int(word) for word in (await self._heard())[1:]))

    async def _heard(self) -> list[str]:
        """Waits for its next report, or its end."""
        words: list[str] = []
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                words.extend(await self._lab.heard(self._guest.name))
                nursery.cancel_scope.cancel()

            async def watch() -> None:
                await self._guest.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            nursery.start_soon(watch)
        if not words:
            raise MachineError(f"the guest of {self.driver.type} ended ({self._guest.state}); what it said is above")
        return words


async def _compare(bench: Bench, subject: User, yardstick: User | None, tasks: int) -> None:
    seconds, samples = bench.plan.ring_s, bench.plan.samples
    name = subject.driver.type
    rate = bench.figure(f"{name}, {tasks} task{'s' if tasks > 1 else ''}", "1/s")
    latency = bench.figure(f"   {tasks}: one operation", "µs")
    kicks = bench.figure(f"   {tasks}: notifications per 1,000 requests", "")
    control = bench.figure(f"   {tasks}: control: against itself", "x")
    if yardstick is not None:
        their_rate = bench.figure(f"   {tasks}: {YARDSTICK}, the same", "1/s")
        their_latency = bench.figure(f"   {tasks}: {YARDSTICK}, one operation", "µs")
        ratio = bench.figure(f"   {tasks}: times as many operations as {YARDSTICK}", "x")
    results: list[Result] = []
    others: list[Result] = []
    with bench.stage(f"{name}, {tasks} tasks", samples) as step:
        await subject.use(tasks, seconds / 4)
        for _ in range(samples):
            first = await subject.use(tasks, seconds)
            other = await yardstick.use(tasks, seconds) if yardstick is not None else None
            second = await subject.use(tasks, seconds)
            results += [first, second]
            mean = (first.per_second + second.per_second) / 2
            rate.add(mean)
            control.add(first.per_second / second.per_second)
            _add_latency(latency, results)
            sent, requests = first.notifications + second.notifications, first.requests + second.requests
            if requests:
                kicks.add(1000 * sent / requests)
            if other is not None:
                others.append(other)
                their_rate.add(other.per_second)
                _add_latency(their_latency, others)
                ratio.add(mean / other.per_second)
            step()


def _add_latency(figure: Figure, results: list[Result]) -> None:
    """Adds the medians of the newest results; the 99th percentile is that of the worst sample."""
    figure.samples = [result.median_ns / 1e3 for result in results]
    figure.p99 = max(result.p99_ns for result in results) / 1e3
