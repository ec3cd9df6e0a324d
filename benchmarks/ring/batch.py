"""How fast entries cross a ring from Python to Python, in batches.

Two processes, each pinned to a CPU of its own; 32 entries a call, 64 bytes an entry. Within an entry all bytes
differ, and no two of the 1,952 entries that take turns are equal; the other side compares every one of them.
All ways are measured in turn, sample by sample, so that what the machine does meanwhile hits them alike:

* one way, polled: a `Producer` and a `Consumer`, which publishes its index once a batch.
* request and response, polled: the back compares each request and answers with 64 bytes, which the front
  compares. An entry counts once there and once back.
* the same with events: each side kicks after every push, and sleeps when there is nothing to do.
* a pipe, 2 KiB a write: what the kernel does for the same bytes, compared in the same way.

`python -m xenlike.benchmarks.ring.batch` prints a table; `measure` gives the same to a program.
"""

from __future__ import annotations

import argparse
import mmap
import os
import select
import signal
import statistics
import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import TypedDict

from xenlike import _core
from xenlike.ring import CACHELINE, XEN, BackRing, Consumer, FrontRing, Incoming, Outgoing, Producer

BATCH = 32
ENTRY = 64
BATCH_BYTES = BATCH * ENTRY
PERIOD = 61  # prime, so that a batch never meets its own stale copy in the same slots
RING_BYTES = 16384
GUARD_S = 60

ONE_WAY = "one way, polled"


class Row(TypedDict):
    """One way of doing it, and what was measured."""

    name: str
    unit: str
    layout: str
    batch: int
    entry_size: int
    median: float
    min: float
    max: float
    count: int
    samples: list[float]
    notifications_per_1000: float


def entry(number: int) -> bytes:
    """Returns 64 distinct bytes; no two of the first 32,768 entries are equal."""
    return bytes((number + place * (2 * (number >> 8) + 1)) & 0xFF for place in range(ENTRY))


def batches(first: int) -> list[bytes]:
    """Returns what is sent, over and over: `PERIOD` batches of entries, all different."""
    numbers = range(first, first + PERIOD * BATCH)
    whole = b"".join(map(entry, numbers))
    return [whole[at : at + BATCH_BYTES] for at in range(0, len(whole), BATCH_BYTES)]


REQUESTS = batches(0)
RESPONSES = batches(PERIOD * BATCH)

#: What a side does with the count of batches; returns its notifications.
Side = Callable[[int], int]


def _fill(make: Callable[[int], Outgoing], contents: list[bytes]) -> list[Callable[[], int]]:
    pushes = []
    for content in contents:
        batch = make(BATCH)
        batch.data[:] = content
        pushes.append(batch.push)
    return pushes


def _wrong(got: int) -> RuntimeError:
    return RuntimeError(f"a batch of {got} entries is not what was sent")


def _one_way(layout: str) -> tuple[Side, Side]:
    memory = mmap.mmap(-1, RING_BYTES)
    producer = Producer(memory, ENTRY, layout)

    def produce(count: int) -> int:
        for push in islice(cycle(_fill(producer.outgoing, REQUESTS)), count):
            while not push():
                pass
        return 0

    def consume(count: int) -> int:
        incoming = Consumer(memory, ENTRY, layout).incoming(BATCH)
        pop, data = incoming.pop, incoming.data
        for wanted in islice(cycle(REQUESTS), count):
            while not (got := pop()):
                pass
            if data != wanted:
                raise _wrong(got)
        return 0

    return produce, consume


def _both_ways(layout: str) -> tuple[Side, Side]:
    memory = mmap.mmap(-1, RING_BYTES)
    front = FrontRing(memory, layout, ENTRY, ENTRY)

    def ask(count: int) -> int:
        incoming = front.incoming(BATCH)
        pop, data = incoming.pop, incoming.data
        pushes = islice(cycle(_fill(front.outgoing, REQUESTS)), count)
        for push in islice(pushes, front.size // BATCH):
            push()
        for wanted in islice(cycle(RESPONSES), count):
            while not (got := pop()):
                pass
            if data != wanted:
                raise _wrong(got)
            for push in islice(pushes, 1):
                push()
        return 0

    def answer(count: int) -> int:
        back = BackRing(memory, layout, ENTRY, ENTRY)
        incoming = back.incoming(BATCH)
        pop, data = incoming.pop, incoming.data
        pushes = cycle(_fill(back.outgoing, RESPONSES))
        for wanted, push in zip(islice(cycle(REQUESTS), count), pushes, strict=False):
            while not (got := pop()):
                pass
            if data != wanted:
                raise _wrong(got)
            push()
        return 0

    return ask, answer


def _with_events(layout: str) -> tuple[Side, Side]:
    memory = mmap.mmap(-1, RING_BYTES)
    front = FrontRing(memory, layout, ENTRY, ENTRY)
    there = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    back_again = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(incoming: Incoming, arm: Callable[[], bool], rx: int) -> int:
        while not (got := incoming.pop()):
            if not arm():
                if not select.select([rx], [], [], GUARD_S)[0]:
                    raise RuntimeError("a notification was lost")
                _core.drain(rx)
        return got

    def ask(count: int) -> int:
        incoming, rx, tx = front.incoming(BATCH), back_again[0], there[1]
        pushes = islice(cycle(_fill(front.outgoing, REQUESTS)), count)
        for push in islice(pushes, front.size // BATCH):
            push()
            front.kick_fd(tx)
        for wanted in islice(cycle(RESPONSES), count):
            got = wait(incoming, front.arm, rx)
            if incoming.data != wanted:
                raise _wrong(got)
            for push in islice(pushes, 1):
                push()
                front.kick_fd(tx)
        for fd in (*there, *back_again):
            os.close(fd)
        return front.statistics().notifications

    def answer(count: int) -> int:
        back = BackRing(memory, layout, ENTRY, ENTRY)
        incoming, rx, tx = back.incoming(BATCH), there[0], back_again[1]
        pushes = cycle(_fill(back.outgoing, RESPONSES))
        for wanted, push in zip(islice(cycle(REQUESTS), count), pushes, strict=False):
            got = wait(incoming, back.arm, rx)
            if incoming.data != wanted:
                raise _wrong(got)
            push()
            back.kick_fd(tx)
        return back.statistics().notifications

    return ask, answer


def _pipe(_layout: str) -> tuple[Side, Side]:
    rx, tx = os.pipe2(os.O_CLOEXEC)

    def produce(count: int) -> int:
        for content in islice(cycle(REQUESTS), count):
            os.write(tx, content)  # at most PIPE_BUF, so all or nothing
        os.close(tx)
        os.close(rx)
        return 0

    def consume(count: int) -> int:
        for wanted in islice(cycle(REQUESTS), count):
            data = os.read(rx, BATCH_BYTES)
            if data != wanted:
                raise _wrong(len(data) // ENTRY)
        return 0

    return produce, consume


#: name: (layout, the two sides, how often an entry is carried)
WAYS: dict[str, tuple[str, Callable[[str], tuple[Side, Side]], int]] = {
    ONE_WAY: (CACHELINE, _one_way, 1),
    "one way, polled, Xen's header": (XEN, _one_way, 1),
    "request and response, polled": (CACHELINE, _both_ways, 2),
    "request and response, polled, ring.h": (XEN, _both_ways, 2),
    "request and response with events, ring.h": (XEN, _with_events, 2),
    "pipe, 2 KiB a write": ("", _pipe, 1),
}


def _pin(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})


def _run(way: str, count: int, cpus: tuple[int, int]) -> tuple[float, float]:
    """Carries `count` batches; returns million entries a second, and notifications per 1,000 entries."""
    layout, make, carried = WAYS[way]
    near, far = make(layout)
    ready_rx, ready_tx = os.pipe()
    done_rx, done_tx = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(GUARD_S)
            _pin(cpus[1])
            os.write(ready_tx, b"r")
            notifications = far(count)
            end = time.monotonic_ns()
            os.write(done_tx, end.to_bytes(8, "little") + notifications.to_bytes(8, "little"))
            status = 0
        finally:
            os._exit(status)
    os.close(ready_tx)
    os.close(done_tx)
    before = os.sched_getaffinity(0)
    try:
        _pin(cpus[0])
        os.read(ready_rx, 1)
        start = time.monotonic_ns()
        notifications = near(count)
        end = time.monotonic_ns()
        report = os.read(done_rx, 16)
    finally:
        os.sched_setaffinity(0, before)
        os.close(ready_rx)
        os.close(done_rx)
        os.waitpid(pid, 0)
    if len(report) != 16:
        raise RuntimeError(f"{way}: the other process failed")
    end = max(end, int.from_bytes(report[:8], "little"))
    notifications += int.from_bytes(report[8:], "little")
    entries = count * BATCH * carried
    return entries * 1e3 / (end - start), notifications * 1e3 / entries


def measure(seconds: float = 1.0, samples: int = 5, ways: list[str] | None = None) -> list[Row]:
    """Measures every way `samples` times, in turn.

    Args:
        seconds: about how long one sample takes.
        samples: of each way.
        ways: keys of `WAYS`; all by default.

    Returns:
        One row a way, in million entries a second; empty with fewer than two CPUs, where polling measures
        the scheduler.

    Raises:
        RuntimeError: an entry arrived wrong, or a process failed.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return []
    cpus = (allowed[0], allowed[1])
    chosen = list(WAYS) if ways is None else ways
    counts = {}
    for way in chosen:
        rate, _ = _run(way, 2000, cpus)
        counts[way] = max(2000, int(seconds * rate * 1e6 / BATCH / WAYS[way][2]))
    rates: dict[str, list[float]] = {way: [] for way in chosen}
    notified: dict[str, list[float]] = {way: [] for way in chosen}
    for _ in range(samples):
        for way in chosen:
            rate, notifications = _run(way, counts[way], cpus)
            rates[way].append(rate)
            notified[way].append(notifications)
    return [
        Row(
            name=way,
            unit="M entries/s",
            layout=WAYS[way][0],
            batch=BATCH,
            entry_size=ENTRY,
            median=statistics.median(rates[way]),
            min=min(rates[way]),
            max=max(rates[way]),
            count=samples,
            samples=rates[way],
            notifications_per_1000=statistics.median(notified[way]),
        )
        for way in chosen
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long one sample takes")
    parser.add_argument("--samples", type=int, default=5, help="of each way")
    options = parser.parse_args()
    rows = measure(options.seconds, options.samples)
    if not rows:
        print("two CPUs are needed, or polling measures the scheduler")
        return
    print(f"M entries/s; {BATCH} entries a call, {ENTRY} B an entry, ring of {RING_BYTES} B, every entry compared")
    print(f"{'':42} {'median':>8} {'min':>8} {'max':>8}  events/1000")
    for row in rows:
        print(
            f"{row['name']:42} {row['median']:8.1f} {row['min']:8.1f} {row['max']:8.1f}"
            f"  {row['notifications_per_1000']:11.2f}"
        )


if __name__ == "__main__":
    main()
