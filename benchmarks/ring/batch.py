"""How fast entries cross a ring from Python to Python, in batches, and what else carries so many at once.

Two processes, each pinned to a CPU of its own; 32 or 256 entries a call, 64 bytes an entry. The other side compares
every one of them (see `content`). All are measured in turns:

* one way, polled: a `Producer` and a `Consumer`, which publishes its index once a batch.
* request and response, polled: the back compares each request and answers with 64 bytes, which the front
  compares. An entry counts once there and once back.
* the same with events: each side kicks after every push, and sleeps when there is nothing to do.
* peers that take many entries a call, and pipes with all of them in one write: what the kernel does for the same bytes.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import select
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice

from xenlike import _core
from xenlike.benchmarks import goals
from xenlike.benchmarks.ring.content import ENTRY, PERIOD, batches
from xenlike.benchmarks.ring.contest import Contest, Contestant
from xenlike.benchmarks.ring.link import Link, one_way, wrong
from xenlike.benchmarks.ring.pair import GUARD_S, Ends, Opener, Outcome, Side, two_cpus
from xenlike.benchmarks.ring.peers import installed
from xenlike.benchmarks.runner import Bench
from xenlike.ring import CACHELINE, XEN, BackRing, Consumer, FrontRing, Incoming, Outgoing, Producer

RING_BYTES = {32: 16384, 256: 65536}
"""By entries a call: four batches of 32 fit, and two of 256."""


def requests(batch: int) -> list[bytes]:
    """Returns what goes there."""
    return batches(batch)


def responses(batch: int) -> list[bytes]:
    """Returns what comes back: nothing that goes there."""
    return batches(batch, PERIOD * batch)


def _fill(make: Callable[[int], Outgoing], contents: Sequence[bytes]) -> list[Callable[[], int]]:
    pushes = []
    for content in contents:
        batch = make(len(content) // ENTRY)
        batch.data[:] = content
        pushes.append(batch.push)
    return pushes


@contextmanager
def ring_one_way(layout: str, batch: int, traced: int | None = None) -> Generator[tuple[Opener, Opener]]:
    """A one-way ring; `traced`: the classes of events that each end records, in a recorder of its own."""
    memory = mmap.mmap(-1, RING_BYTES[batch])
    recorders = [None if traced is None else _core.Recorder.private(traced) for _ in range(2)]
    ring = Producer(memory, ENTRY, layout, recorder=recorders[0])
    contents = requests(batch)

    def sender() -> Side:
        pushes = _fill(ring.outgoing, contents)

        def produce(count: int) -> None:
            for push in islice(cycle(pushes), count):
                while not push():
                    pass

        return produce

    def receiver() -> Side:
        incoming = Consumer(memory, ENTRY, layout, recorder=recorders[1]).incoming(batch)
        pop, data = incoming.pop, incoming.data

        def consume(count: int) -> None:
            for wanted in islice(cycle(contents), count):
                while not pop():
                    pass
                if data != wanted:
                    raise wrong(data)

        return consume

    yield sender, receiver


@contextmanager
def ring_both_ways(layout: str, batch: int) -> Generator[tuple[Opener, Opener]]:
    """A request ring that is polled."""
    memory = mmap.mmap(-1, RING_BYTES[batch])
    front = FrontRing(memory, layout, ENTRY, ENTRY)

    def asker() -> Side:
        incoming = front.incoming(batch)
        pop, data = incoming.pop, incoming.data
        filled = _fill(front.outgoing, requests(batch))

        def ask(count: int) -> None:
            pushes = islice(cycle(filled), count)
            for push in islice(pushes, front.size // batch):
                push()
            for wanted in islice(cycle(responses(batch)), count):
                while not pop():
                    pass
                if data != wanted:
                    raise wrong(data)
                for push in islice(pushes, 1):
                    push()

        return ask

    def answerer() -> Side:
        back = BackRing(memory, layout, ENTRY, ENTRY)
        incoming = back.incoming(batch)
        pop, data = incoming.pop, incoming.data
        pushes = _fill(back.outgoing, responses(batch))

        def answer(count: int) -> None:
            for wanted, push in islice(zip(cycle(requests(batch)), cycle(pushes), strict=False), count):
                while not pop():
                    pass
                if data != wanted:
                    raise wrong(data)
                push()

        return answer

    yield asker, answerer


@contextmanager
def ring_with_events(layout: str, batch: int) -> Generator[tuple[Opener, Opener]]:
    """A request ring with the pipes of an event channel. Both sides return their notifications."""
    memory = mmap.mmap(-1, RING_BYTES[batch])
    front = FrontRing(memory, layout, ENTRY, ENTRY)
    there = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    back_again = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(incoming: Incoming, arm: Callable[[], bool], rx: int) -> None:
        while not incoming.pop():
            if not arm():
                if not select.select([rx], [], [], GUARD_S)[0]:
                    raise RuntimeError("a notification was lost")
                _core.drain(rx)

    def asker() -> Side:
        incoming, rx, tx = front.incoming(batch), back_again[0], there[1]
        filled = _fill(front.outgoing, requests(batch))

        def ask(count: int) -> int:
            before = front.statistics().notifications
            pushes = islice(cycle(filled), count)
            for push in islice(pushes, front.size // batch):
                push()
                front.kick_fd(tx)
            for wanted in islice(cycle(responses(batch)), count):
                wait(incoming, front.arm, rx)
                if incoming.data != wanted:
                    raise wrong(incoming.data)
                for push in islice(pushes, 1):
                    push()
                    front.kick_fd(tx)
            return front.statistics().notifications - before

        return ask

    def answerer() -> Side:
        back = BackRing(memory, layout, ENTRY, ENTRY)
        incoming, rx, tx = back.incoming(batch), there[0], back_again[1]
        pushes = _fill(back.outgoing, responses(batch))

        def answer(count: int) -> int:
            before = back.statistics().notifications
            for wanted, push in islice(zip(cycle(requests(batch)), cycle(pushes), strict=False), count):
                wait(incoming, back.arm, rx)
                if incoming.data != wanted:
                    raise wrong(incoming.data)
                push()
                back.kick_fd(tx)
            return back.statistics().notifications - before

        return answer

    try:
        yield asker, answerer
    finally:
        for fd in (*there, *back_again):
            os.close(fd)


@contextmanager
def pipe_of_the_kernel(_layout: str, batch: int) -> Generator[tuple[Opener, Opener]]:
    """A pipe with a batch in each write, which is at most PIPE_BUF, so all or nothing."""
    rx, tx = os.pipe2(os.O_CLOEXEC)
    size = batch * ENTRY
    link = Link(lambda data: os.write(tx, data), lambda: os.read(rx, size), waits=True)
    try:
        with one_way((lambda: link, lambda: link), requests(batch)) as ends:
            yield ends
    finally:
        os.close(rx)
        os.close(tx)


@contextmanager
def pipe_of_python(_layout: str, batch: int) -> Generator[tuple[Opener, Opener]]:
    """`multiprocessing.Pipe` with a batch in each `send_bytes`."""
    near, far = multiprocessing.Pipe()
    with near, far:
        sender = Link(near.send_bytes, near.recv_bytes, waits=True)
        receiver = Link(far.send_bytes, far.recv_bytes, waits=True)
        with one_way((lambda: sender, lambda: receiver), requests(batch)) as ends:
            yield ends


@contextmanager
def pipe_of_lists(_layout: str, batch: int) -> Generator[tuple[Opener, Opener]]:
    """`multiprocessing.Pipe` with a list of entries in each `send`, which pickles it."""
    near, far = multiprocessing.Pipe()
    lists = [[whole[at : at + ENTRY] for at in range(0, len(whole), ENTRY)] for whole in requests(batch)]

    def sender() -> Side:
        send = near.send

        def produce(count: int) -> None:
            for entries in islice(cycle(lists), count):
                send(entries)

        return produce

    def receiver() -> Side:
        receive = far.recv

        def consume(count: int) -> None:
            for wanted in islice(cycle(lists), count):
                if receive() != wanted:
                    raise wrong(None)

        return consume

    with near, far:
        yield sender, receiver


Way = Callable[[str, int], Ends]
"""A way to carry batches, given a layout and entries a call."""


def _notified(carried: int) -> Callable[[Outcome, int], str]:
    def explain(outcome: Outcome, steps: int) -> str:
        told = sum(outcome.near) + sum(outcome.far)
        return f"; {told * 1e3 / (steps * carried):.2f} notifications per 1,000 entries"

    return explain


def _ours(name: str, way: Way, layout: str, batch: int, times: int = 1, *, events: bool = False) -> Contestant:
    carried = batch * times
    return Contestant(
        name,
        "M/s",
        lambda: way(layout, batch),
        carried,
        note=f"{layout} layout, {batch} entries of {ENTRY} B a call, ring of {RING_BYTES[batch] >> 10} KiB",
        explain=_notified(carried) if events else None,
    )


def headline() -> Contestant:
    """Returns the one that other benchmarks quote."""
    return _ours(goals.BATCH_PATH, ring_one_way, CACHELINE, 32)


def measure_headline(bench: Bench) -> None:
    """Measures nothing but `headline`."""
    contest = Contest(bench, two_cpus(), bench.plan.ring_s)
    contest.add(headline())
    contest.measure("entries through a ring", bench.plan.samples)


def measure(bench: Bench) -> None:
    """Measures all of them, and adds the ratios that have goals.

    Raises:
        MachineError: there are no two CPUs, an entry arrived wrong, or a process failed.
    """
    contest = Contest(bench, two_cpus(), bench.plan.ring_s / 4)
    ours = {32: contest.add(headline())}
    control = contest.add(_ours("   the same once more (A/A control)", ring_one_way, CACHELINE, 32))
    contest.add(_ours("   with Xen's header", ring_one_way, XEN, 32))
    contest.add(_ours("   request and response, polled, cacheline", ring_both_ways, CACHELINE, 32, 2))
    contest.add(_ours("   request and response, polled, ring.h", ring_both_ways, XEN, 32, 2))
    contest.add(
        _ours("   request and response with events, cacheline", ring_with_events, CACHELINE, 32, 2, events=True)
    )
    contest.add(_ours("   request and response with events, ring.h", ring_with_events, XEN, 32, 2, events=True))
    ours[256] = contest.add(_ours("Python batch path, 256 a call", ring_one_way, CACHELINE, 256))
    contest.add(_ours("   256 a call, with Xen's header", ring_one_way, XEN, 256))
    rivals: dict[int, list[Contestant]] = {32: [], 256: []}
    pipes: list[Contestant] = []
    for peer in installed(bench):
        if peer.batches is not None:
            for size, found in rivals.items():
                found.append(contest.add(_peer(f"   {peer.name}, {size} a call", peer.batches, size)))
    if bench.options.peers:
        pipes = [contest.add(_pipe("multiprocessing Pipe, send_bytes of 32", pipe_of_python))]
        contest.add(_pipe("multiprocessing Pipe, send of a list of 32", pipe_of_lists))
        contest.add(_pipe("os.pipe, 2 KiB a write", pipe_of_the_kernel))
    try:
        contest.measure("batches through rings", 2 * bench.plan.samples)
    finally:
        contest.ratio("   A/A: batches of 32 against themselves", control, ours[32])
        for size, found in rivals.items():
            if (best := contest.best(found)) is not None:
                contest.ratio(goals.batch_to_peer(size), ours[size], best)
            else:
                bench.waive(goals.batch_to_peer(size))
        if not pipes:
            bench.waive(goals.BATCH_TO_PIPE)
        for pipe in pipes:
            contest.ratio(goals.BATCH_TO_PIPE, ours[32], pipe)
            contest.ratio("   256 a call, times as fast as a Pipe sending 32", ours[256], pipe)


def _peer(name: str, ends: Callable[[int], Ends], batch: int) -> Contestant:
    return Contestant(name, "M/s", lambda: ends(batch), batch)


def _pipe(name: str, way: Way) -> Contestant:
    return Contestant(f"   {name}", "M/s", lambda: way("", 32), 32)
