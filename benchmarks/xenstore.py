"""The store daemon: how much it answers, and what many watches, nodes, domains and guests do to that.

Xen's own xenstored is measured beside it in the same run where the host can run it (see `xenstore_daemons`), in the
order ours, Xen's, ours, in short turns: the two of ours are the control that says what a ratio is worth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from xenlike.abi import xs_wire as xs
from xenlike.benchmarks import goals, xenstore_guests
from xenlike.benchmarks import xenstore_clients as clients
from xenlike.benchmarks.figures import Figure, percentile
from xenlike.benchmarks.runner import Bench
from xenlike.benchmarks.xenstore_daemons import Daemon, apart, our_daemon, xens_daemon
from xenlike.domain.store_sync import SyncStore

WATCHES = 10_000
NODES = 100_000
DOMAINS = 1_000
HANDSHAKES = 40
"""In one sample, of each kind."""
TURNS = 10
"""That make one sample."""

Measure = Callable[[Daemon, float], float]
Maker = Callable[[], AbstractContextManager[Daemon | None]]


@dataclass(slots=True)
class Case:
    """Something that is measured with both daemons.

    Attributes:
        name: what it is.
        unit: of what `measure` returns.
        measure: takes a daemon and seconds.
        ratio: name of the comparison, ours by Xen's.
    """

    name: str
    unit: str
    measure: Measure
    ratio: str
    figures: dict[str, Figure] = field(default_factory=dict)
    controls: list[float] = field(default_factory=list)


def measure(bench: Bench) -> None:
    """Measures all of it."""
    with our_daemon() as ours, xens_daemon() as theirs:
        if theirs is None:
            bench.remark(
                "Xen's xenstored cannot run here (xen-utils-4.17, and the tests of a checkout): nothing beside it"
            )
            bench.waive(*goals.BESIDE_XENS)
        for daemon in (ours, theirs):
            if daemon is not None:
                clients.prepare(daemon.path)
        with apart(*(daemon for daemon in (ours, theirs) if daemon is not None)) as placement:
            _beside(bench, ours, theirs, placement)
    _many(bench)
    _handshakes(bench)
    xenstore_guests.measure(bench)


# --- operations ---


def _pipelined(kind: int, count: int) -> Measure:
    return lambda daemon, seconds: clients.per_second(daemon.path, kind, seconds, clients=count, depth=16) / 1000


def _beside(bench: Bench, ours: Daemon, theirs: Daemon | None, placement: str) -> None:
    p99s: dict[str, list[float]] = {}
    tries: list[float] = []

    def latency(daemon: Daemon, seconds: float) -> float:
        mean, times = clients.latency_us(daemon.path, seconds)
        p99s.setdefault(daemon.name, []).append(percentile(times, 99))
        return mean

    def contended(daemon: Daemon, seconds: float) -> float:
        rate, tried = clients.contended_per_second(daemon.path, seconds, 4)
        tries.append(tried)
        return rate / 1000

    cases = [
        Case("a read, 1 client with 1 in flight", "us", latency, goals.STORE_LATENCY),
        Case("reads, 1 client with 16 in flight", "k/s", _pipelined(xs.XS_READ, 1), goals.STORE_READS_1),
        Case("reads, 4 clients with 16 each", "k/s", _pipelined(xs.XS_READ, 4), goals.STORE_READS_4),
        Case("reads, 64 clients with 16 each", "k/s", _pipelined(xs.XS_READ, 64), "   by Xen's (64 clients)"),
        Case("writes, 1 client with 16 in flight", "k/s", _pipelined(xs.XS_WRITE, 1), "   by Xen's (writes)"),
        Case(
            "empty transactions, 1 client",
            "k/s",
            lambda daemon, seconds: clients.transactions_per_second(daemon.path, seconds, empty=True) / 1000,
            goals.STORE_EMPTY,
        ),
        Case(
            "read-modify-write transactions, 1 client",
            "k/s",
            lambda daemon, seconds: clients.transactions_per_second(daemon.path, seconds, empty=False) / 1000,
            goals.STORE_RMW,
        ),
        Case("the same, 4 clients always in conflict", "k/s", contended, "   by Xen's (in conflict)"),
    ]
    daemons = [ours] if theirs is None else [ours, theirs, ours]
    for case in cases:
        for daemon in daemons[:2]:
            case.figures[daemon.name] = bench.figure(f"{case.name}: {daemon.name}", case.unit)
        if theirs is not None:
            case.figures["ratio"] = bench.figure(case.ratio, "x")
    cases[0].figures[ours.name].note = placement
    with bench.stage("operations", bench.plan.samples * len(cases)) as step:
        for _ in range(bench.plan.samples):
            for case in cases:
                _sample(case, daemons, bench.plan.ring_s)
                step()
    for case in cases:
        if case.controls:
            low, high = min(case.controls), max(case.controls)
            case.figures[
                "ratio"
            ].note = f"ours by Xen's in the same sample; ours by ours, the control: {low:.2f} to {high:.2f}"
    for name, times in p99s.items():
        cases[0].figures[name].p99 = statistics.median(times)
    cases[-1].figures[ours.name].note = f"those that got through; each was tried {statistics.median(tries):.1f} times"


def _sample(case: Case, daemons: Sequence[Daemon], seconds: float) -> None:
    """Takes one sample of each daemon, in short turns: whatever else the host does meanwhile hits all of them."""
    turns: list[list[float]] = [[] for _ in daemons]
    for _ in range(TURNS):
        for daemon, own in zip(daemons, turns, strict=True):
            own.append(case.measure(daemon, seconds / TURNS))
    values = [statistics.median(own) for own in turns]
    if len(values) == 1:
        case.figures[daemons[0].name].add(values[0])
        return
    first, theirs, second = values
    ours = (first + second) / 2
    case.figures[daemons[0].name].add(ours)
    case.figures[daemons[1].name].add(theirs)
    case.figures["ratio"].add(ours / theirs)
    case.controls.append(first / second)


# --- much in the store ---


def _makers(bench: Bench) -> Sequence[Maker]:
    """Returns what starts ours and, where there is time for it, Xen's: no goal compares what follows with it."""
    return (our_daemon, xens_daemon) if bench.plan.samples > 1 else (our_daemon,)


def _many(bench: Bench) -> None:
    """Registers watches and writes nodes until there are many, and looks what the last ones cost."""
    figures: dict[str, Figure] = {}

    def add(name: str, unit: str, value: float, note: str = "") -> None:
        if name not in figures:
            figures[name] = bench.figure(name, unit, note)
        figures[name].add(value)

    samples = min(3, bench.plan.samples)
    with bench.stage(f"{WATCHES:,} watches and {NODES:,} nodes", samples * 2) as step:
        for _ in range(samples):
            for maker in _makers(bench):
                with maker() as daemon:
                    if daemon is not None:
                        _many_watches(daemon, add)
                        _many_nodes(daemon, add)
                step()
    figures_of_ours = [goals.STORE_WATCHES, goals.STORE_WATCHED_WRITES, goals.STORE_NODES]
    order = [name for name in figures if name in figures_of_ours]
    # What is compared with goals comes last.
    for name in order:
        bench.figures.remove(figures[name])
        bench.figures.append(figures[name])


def _many_watches(daemon: Daemon, add: Callable[..., None]) -> None:
    clients.prepare(daemon.path)
    with clients.connections(daemon.path, 1) as (sock,):
        paths = [f"/bench/watched/{number % 100}/{number}" for number in range(WATCHES)]
        plain = clients.per_second(daemon.path, xs.XS_WRITE, 0.2, clients=1, depth=16)
        before = daemon.memory_kib()
        tenth = WATCHES // 10
        times = [clients.add_watches(sock, paths[at : at + tenth]) for at in range(0, WATCHES, tenth)]
        grown = daemon.memory_kib() - before
        watched = clients.per_second(daemon.path, xs.XS_WRITE, 0.2, clients=1, depth=16)
    add(f"{WATCHES:,} watches, each: {daemon.name}", "us", 1e6 * sum(times) / WATCHES)
    add(f"   memory of each: {daemon.name}", "B", 1024 * grown / WATCHES)
    if daemon.name == "xenlike":
        add(goals.STORE_WATCHES, "x", times[-1] / statistics.median(times[:3]), "1 is linear")
        add(goals.STORE_WATCHED_WRITES, "x", plain / watched, "writes where none of them is")
    else:
        add("   writes with them elsewhere, by those without: Xen's", "x", plain / watched)


def _many_nodes(daemon: Daemon, add: Callable[..., None]) -> None:
    with clients.connections(daemon.path, 1) as (sock,):
        paths = [f"/bench/nodes/{number // 1000}/{number // 10 % 100}/{number % 10}" for number in range(NODES)]
        before = daemon.memory_kib()
        tenth = NODES // 10
        times = [clients.add_nodes(sock, paths[at : at + tenth]) for at in range(0, NODES, tenth)]
        grown = daemon.memory_kib() - before
    add(f"{NODES:,} nodes, each: {daemon.name}", "us", 1e6 * sum(times) / NODES)
    add(f"   memory of each (nodes): {daemon.name}", "B", 1024 * grown / NODES)
    if daemon.name == "xenlike":
        add(
            goals.STORE_NODES,
            "x",
            times[-1] / statistics.median(times[:3]),
            "1 is linear; the log is compacted on the way",
        )


# --- handshakes ---


def _handshakes(bench: Bench) -> None:
    note = f"{clients.OPERATIONS} operations, one after the other, by one client"
    for maker, label in zip(_makers(bench), ("xenlike", "Xen's"), strict=False):
        with ExitStack() as stack:
            empty, full = stack.enter_context(maker()), stack.enter_context(maker())
            if empty is None or full is None:
                continue
            socks = stack.enter_context(clients.connections(full.path, DOMAINS))
            alone = bench.figure(f"a device's handshake in an empty store: {label}", "ms", note)
            among = bench.figure(
                f"   the same with {DOMAINS:,} domains: {label}", "ms", "five watches of each, its own connection"
            )
            ratio = bench.figure(goals.STORE_HANDSHAKE if label == "xenlike" else "   compared: Xen's", "x")
            with bench.stage(f"handshakes with {DOMAINS:,} domains: {label}", bench.plan.samples + 1) as step:
                clients.populate(full.path, DOMAINS, socks)
                step()
                for _ in range(bench.plan.samples):
                    times = _alternately(empty, full)
                    alone.add(times[0])
                    among.add(times[1])
                    ratio.add(times[1] / times[0])
                    step()


def _alternately(*daemons: Daemon) -> list[float]:
    """Does handshakes with daemons in turn; returns the median time of one in ms, by daemon."""
    times: list[list[float]] = [[] for _ in daemons]
    with ExitStack() as stack:
        stores = [stack.enter_context(SyncStore(daemon.path)) for daemon in daemons]
        for _ in range(HANDSHAKES):
            for store, own in zip(stores, times, strict=True):
                start = time.perf_counter()
                clients.handshake(store, DOMAINS + 7)
                own.append(1000 * (time.perf_counter() - start))
                clients.forget_handshake(store, DOMAINS + 7)
    return [statistics.median(own) for own in times]
