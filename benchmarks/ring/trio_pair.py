"""Round trips between two trio programs: rings and event channels as drivers use them, and what else one would write.

Each end has a ring, two pipes and a spinner: it pushes, kicks, and waits for the answer by looking, spinning, arming
and sleeping, in this order. 64 bytes go there and 64 come back, and both are compared. The other one is an eventfd
each way and `trio.lowlevel.wait_readable`, without any content. Through queues, the same goes through `FrontQueue` and
`BackQueue`, which add ids, many callers, cancellation, and turns for other tasks.

Running: one round trip after the other, so that an end which spins finds what it waits for. Asleep: the same, and no
end ever spins. Idle: 2 ms between any two, so that both ends have given up and sleep when the next one comes.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import TYPE_CHECKING, cast

import trio

from xenlike import _core
from xenlike.abi.protocol import Protocol
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Bytes, u64
from xenlike.benchmarks import goals
from xenlike.benchmarks.ring.content import ENTRY, SINGLES, singles
from xenlike.benchmarks.ring.contest import Contest, Contestant
from xenlike.benchmarks.ring.link import wrong
from xenlike.benchmarks.ring.pair import Ends, Opener, Side, two_cpus
from xenlike.benchmarks.runner import Bench
from xenlike.domain.events import EventChannel
from xenlike.ring import XEN, BackRing, FrontRing, Incoming, Spinner
from xenlike.ring.wait import MOST_NS
from xenlike.xenbus import BackQueue, FrontQueue
from xenlike.xenbus.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xenlike._core import RingEnd
    from xenlike.domain.hypercalls import Hypercalls

    Rings = tuple[FrontRing | BackRing, ...]

IDLE_S = 0.002
LONGEST_TURN_S = 0.000_2
"""A task that never has to sleep lets others run at least this often, as in queues."""
ID_BYTES = 8


class Message(Struct, c="benchmark_message"):
    """64 bytes."""

    id: u64 = field("the queue's")
    text: Bytes(ENTRY - ID_BYTES) = field("compared at the other end")  # type: ignore[valid-type]


MESSAGES = Protocol("benchmark", Message, Message, doc="Answers each text with another one.")


class Sleeper(Spinner):
    """Looks once, and never spins."""

    __slots__ = ()

    def spin(self, rings: Sequence[RingEnd], budget_ns: int = MOST_NS) -> bool:
        """Returns whether there is work now."""
        return super().spin(rings, 0)


def _prepare(spins: bool) -> None:
    if not spins:
        # Users cannot choose this: the spinner finds out by itself.
        Polling.current()._spinner = Sleeper()


def _channel(rx: int, tx: int) -> EventChannel:
    # The hypervisor is asked for new pipes and told of the end; neither happens here.
    return EventChannel(cast("Hypercalls", None), 1, 1, rx, tx)


async def _ask(queue: FrontQueue[Message, Message], count: int, idle_s: float) -> list[int]:
    clock, submit = time.perf_counter_ns, queue.submit_raw
    took = []
    for content, wanted in islice(zip(cycle(singles()), cycle(singles(SINGLES)), strict=False), count):
        if idle_s:
            await trio.sleep(idle_s)
        start = clock()
        got = (await submit(content, 1))[0]
        took.append(clock() - start)
        if got[ID_BYTES:] != wanted[ID_BYTES:]:
            raise wrong(got)
    return took


async def _near(ring: FrontRing, channel: EventChannel, count: int, spins: bool, idle_s: float) -> list[int]:
    _prepare(spins)
    queue: FrontQueue[Message, Message] = FrontQueue(ring, channel, MESSAGES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        took = await _ask(queue, count, idle_s)
        nursery.cancel_scope.cancel()
    return took


async def _far(ring: BackRing, channel: EventChannel, count: int, spins: bool) -> None:
    _prepare(spins)
    queue: BackQueue[Message, Message] = BackQueue(ring, channel, MESSAGES)
    contents = islice(zip(cycle(singles()), cycle(singles(SINGLES)), strict=False), count)
    for wanted, content in contents:
        await queue.wait()
        request = bytes(queue.pop_raw())
        if request[ID_BYTES:] != wanted[ID_BYTES:]:
            raise wrong(request)
        queue.respond_raw(request[:ID_BYTES] + content[ID_BYTES:], 1)
    queue.kick()


@contextmanager
def queues(*, spins: bool = True, idle_s: float = 0.0) -> Generator[tuple[Opener, Opener]]:
    """A ring and its event channel, anew for the warm-up and for what counts."""
    memories = [mmap.mmap(-1, 4096) for _ in range(2)]
    fronts = [FrontRing(memory, XEN, ENTRY, ENTRY) for memory in memories]
    there = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    back = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def near() -> Side:
        rings = iter(fronts)
        return lambda count: trio.run(_near, next(rings), _channel(back[0], there[1]), count, spins, idle_s)

    def far() -> Side:
        rings = iter([BackRing(memory, XEN, ENTRY, ENTRY) for memory in memories])
        return lambda count: trio.run(_far, next(rings), _channel(there[0], back[1]), count, spins)

    try:
        yield near, far
    finally:
        for fd in (*there, *back):
            os.close(fd)


async def _wait(incoming: Incoming, spinner: Spinner, rings: Rings, rx: int, turn: float) -> float:
    """Waits until something was popped; returns since when this task has not let others run."""
    while not incoming.pop():
        if spinner.spin(rings) or rings[0].arm():
            continue
        await trio.lowlevel.wait_readable(rx)
        _core.drain(rx)
        turn = time.perf_counter()
    if time.perf_counter() - turn > LONGEST_TURN_S:
        await trio.lowlevel.checkpoint()
        turn = time.perf_counter()
    return turn


async def _ask_ring(ring: FrontRing, fds: tuple[int, int], count: int, spinner: Spinner, idle_s: float) -> list[int]:
    clock, (rx, tx), incoming, rings = time.perf_counter_ns, fds, ring.incoming(1), (ring,)
    took = []
    turn = 0.0
    for content, wanted in islice(zip(cycle(singles()), cycle(singles(SINGLES)), strict=False), count):
        if idle_s:
            await trio.sleep(idle_s)
        start = clock()
        ring.push(content)
        ring.kick_fd(tx)
        turn = await _wait(incoming, spinner, rings, rx, turn)
        took.append(clock() - start)
        if incoming.data != wanted:
            raise wrong(incoming.data)
    return took


async def _answer_ring(ring: BackRing, fds: tuple[int, int], count: int, spinner: Spinner) -> None:
    (rx, tx), incoming, rings = fds, ring.incoming(1), (ring,)
    turn = 0.0
    for wanted, content in islice(zip(cycle(singles()), cycle(singles(SINGLES)), strict=False), count):
        turn = await _wait(incoming, spinner, rings, rx, turn)
        if incoming.data != wanted:
            raise wrong(incoming.data)
        ring.push(content)
        ring.kick_fd(tx)


@contextmanager
def rings(*, spins: bool = True, idle_s: float = 0.0) -> Generator[tuple[Opener, Opener]]:
    """A ring and its event channel."""
    _ = singles(), singles(SINGLES)  # made once, not in every process
    memory = mmap.mmap(-1, 4096)
    front = FrontRing(memory, XEN, ENTRY, ENTRY)
    there = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    back = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    kind = Spinner if spins else Sleeper

    def near() -> Side:
        spinner = kind()
        return lambda count: trio.run(_ask_ring, front, (back[0], there[1]), count, spinner, idle_s)

    def far() -> Side:
        ring, spinner = BackRing(memory, XEN, ENTRY, ENTRY), kind()
        return lambda count: trio.run(_answer_ring, ring, (there[0], back[1]), count, spinner)

    try:
        yield near, far
    finally:
        for fd in (*there, *back):
            os.close(fd)


async def _ring_and_wait(to: int, of: int, count: int, idle_s: float) -> list[int]:
    clock = time.perf_counter_ns
    took = []
    for _ in range(count):
        if idle_s:
            await trio.sleep(idle_s)
        start = clock()
        os.eventfd_write(to, 1)
        await trio.lowlevel.wait_readable(of)
        os.eventfd_read(of)
        took.append(clock() - start)
    return took


async def _wait_and_ring(to: int, of: int, count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.wait_readable(of)
        os.eventfd_read(of)
        os.eventfd_write(to, 1)


@contextmanager
def eventfds(*, idle_s: float = 0.0) -> Generator[tuple[Opener, Opener]]:
    """An eventfd each way."""
    there, back = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(2))
    try:
        yield (
            lambda: lambda count: trio.run(_ring_and_wait, there, back, count, idle_s),
            lambda: lambda count: trio.run(_wait_and_ring, back, there, count),
        )
    finally:
        os.close(there)
        os.close(back)


def measure(bench: Bench) -> None:
    """Measures all of them in turns, and adds the ratios that have goals.

    Raises:
        MachineError: there are no two CPUs, a message arrived wrong, or a process failed.
    """
    contest = Contest(bench, two_cpus(), bench.plan.ring_s / 4)

    def enter(name: str, ends: Callable[[], Ends]) -> Contestant:
        return contest.add(Contestant(name, "µs", ends, first_count=50))

    plain = enter("trio to trio: eventfd and wait_readable", eventfds)
    again = enter("   the same once more (A/A control)", eventfds)
    running = enter("   ring, both running", rings)
    asleep = enter("   ring, both asleep at every wait", lambda: rings(spins=False))
    enter("   through queues, both running", queues)
    enter("   through queues, both asleep at every wait", lambda: queues(spins=False))
    idle_plain = enter("   2 ms between two: eventfd and wait_readable", lambda: eventfds(idle_s=IDLE_S))
    idle = enter("   2 ms between two: ring", lambda: rings(idle_s=IDLE_S))
    enter("   2 ms between two: through queues", lambda: queues(idle_s=IDLE_S))
    try:
        contest.measure("trio to trio", 2 * bench.plan.samples)
    finally:
        contest.ratio("   A/A: eventfd and wait_readable against itself", again, plain)
        contest.ratio(goals.TRIO_RUNNING, running, plain)
        contest.ratio(goals.TRIO_SLEEPING, asleep, plain)
        contest.ratio("   2 ms between two: as a part of eventfd and wait_readable", idle, idle_plain)
