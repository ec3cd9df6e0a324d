"""Single messages of 64 bytes: `put` and `get` of a ring, and everything else that carries messages between processes.

One way, as many as go through, and there and back, one at a time. For all of them the loops are those of `link`, the
content is that of `content`, and the other side compares every message.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Generator
from contextlib import contextmanager

from xenlike.benchmarks import goals
from xenlike.benchmarks.ring.content import ENTRY, SINGLES, singles
from xenlike.benchmarks.ring.contest import Contest, Contestant, Unit
from xenlike.benchmarks.ring.link import Connection, Link, one_way, round_trips
from xenlike.benchmarks.ring.pair import Ends, Opener, two_cpus
from xenlike.benchmarks.ring.peers import CLOSEST, installed
from xenlike.benchmarks.ring.peers.peer import Peer
from xenlike.benchmarks.runner import Bench
from xenlike.ring import Consumer, Producer

RING_BYTES = 16384


@contextmanager
def _rings(stage: int | None) -> Generator[Connection]:
    """A one-way ring each way."""
    there, back = mmap.mmap(-1, RING_BYTES), mmap.mmap(-1, RING_BYTES)
    near, far = Producer(there, ENTRY, stage=stage), Producer(back, ENTRY, stage=stage)
    yield (
        lambda: Link(near.put, Consumer(back, ENTRY).get, waits=False, flush=near.flush),
        lambda: Link(far.put, Consumer(there, ENTRY).get, waits=False, flush=far.flush),
    )


STAGED = Peer("put and get, staged", lambda _: _rings(None), trips=False)
AT_ONCE = Peer("put and get, a stage of 1", lambda _: _rings(1))
"""`put` publishes every entry."""


@contextmanager
def stream(peer: Peer) -> Generator[tuple[Opener, Opener]]:
    """One way."""
    with peer.connect(ENTRY) as connection, one_way(connection, singles()) as ends:
        yield ends


@contextmanager
def trips(peer: Peer) -> Generator[tuple[Opener, Opener]]:
    """There and back."""
    with peer.connect(ENTRY) as connection, round_trips(connection, singles(), singles(SINGLES)) as ends:
        yield ends


def measure(bench: Bench) -> None:
    """Measures one way and there and back, and adds the ratios that have goals.

    Raises:
        MachineError: there are no two CPUs, an entry arrived wrong, or a process failed.
    """
    others = installed(bench)
    _measure_streams(bench, others)
    _measure_trips(bench, others)


def _measure_streams(bench: Bench, others: list[Peer]) -> None:
    contest = Contest(bench, two_cpus(), bench.plan.ring_s / 4)
    enter = _entrance(contest, "M/s", stream)
    ours = enter("single messages, one way: put and get, staged", STAGED)
    control = enter("   the same once more (A/A control)", STAGED)
    enter("   put and get, a stage of 1", AT_ONCE)
    found = {peer.name: enter(f"   {peer.name}", peer) for peer in others}
    try:
        contest.measure("single messages", 2 * bench.plan.samples)
    finally:
        contest.ratio("   A/A: single messages against themselves", control, ours)
        if CLOSEST in found:
            contest.ratio(goals.SINGLE_TO_PEER, ours, found[CLOSEST])
        else:
            bench.waive(goals.SINGLE_TO_PEER)


def _measure_trips(bench: Bench, others: list[Peer]) -> None:
    contest = Contest(bench, two_cpus(), bench.plan.ring_s / 8)
    enter = _entrance(contest, "µs", trips)
    ours = enter("single messages, there and back: put and get", AT_ONCE)
    control = enter("   there and back: the same once more (A/A control)", AT_ONCE)
    for peer in others:
        enter(f"   there and back: {peer.name}", peer)
    try:
        contest.measure("there and back", bench.plan.samples)
    finally:
        contest.ratio("   A/A: there and back against itself", control, ours)


def _entrance(contest: Contest, unit: Unit, through: Callable[[Peer], Ends]) -> Callable[[str, Peer], Contestant]:
    def enter(name: str, peer: Peer) -> Contestant:
        return contest.add(Contestant(name, unit, lambda: through(peer)))

    return enter
