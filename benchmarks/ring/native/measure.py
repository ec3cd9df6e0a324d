"""The C half of `xenlike bench ring`: figures of the main courses, the ratios that have goals, and the matrix."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from xenlike.benchmarks import goals
from xenlike.benchmarks.figures import Figure
from xenlike.benchmarks.ring.native import plots
from xenlike.benchmarks.ring.native import programs as contestants
from xenlike.benchmarks.ring.native.decide import as_text, decide
from xenlike.benchmarks.ring.native.programs import CONTESTANTS, Contestant, Programs, workshop
from xenlike.benchmarks.ring.native.races import AGAIN, BATCHES, ENTRIES, SLOTS, Race, Wait, check
from xenlike.benchmarks.ring.native.results import DISTURBED, Results
from xenlike.benchmarks.ring.pair import two_cpus
from xenlike.benchmarks.runner import Bench
from xenlike.benchmarks.surroundings import placement

OURS_AGAIN = "cacheline, once more"
"""The control where ring.h does not run: it has no one-way rings."""

POLLED = (contestants.RING_H, contestants.XEN, contestants.CACHELINE, contestants.TAG)
WITH_EVENTS = (*POLLED, contestants.XEN_ASYMMETRIC, contestants.CACHELINE_ASYMMETRIC, contestants.TAG_ASYMMETRIC)
ONE_WAY = (contestants.XEN, contestants.CACHELINE, contestants.BOOST, contestants.RTE_RING)


PEERS = (contestants.BOOST, contestants.RTE_RING)


_NEEDS = {
    contestants.RING_H: (
        goals.TRIP_TO_RING_H,
        goals.TO_BARE_RING_H,
        *map(goals.events_to_ring_h, (1, 8)),
        *map(goals.polled_to_ring_h, (1, 8)),
        goals.NEVER_SLOWER,
    ),
    contestants.BOOST: (goals.ONE_WAY_TO_PEERS,),
}
"""Goals that cannot be judged without somebody."""


USUAL_BATCHES = (1, 8)


def main_courses(entry: int = 64, slots: int = 32, batches: Sequence[int] = USUAL_BATCHES) -> list[Race]:
    """Returns what the goals speak of; contestants of one course stand next to each other."""
    races = [Race(who, "roundtrip", entry, slots, 1) for who in POLLED]
    races.append(Race(contestants.RING_H, "roundtrip", entry, slots, 1, name=AGAIN))
    for batch in batches:
        races += [Race(who, "reqrsp", entry, slots, batch) for who in POLLED]
        races.append(Race(contestants.RING_H, "reqrsp", entry, slots, batch, name=AGAIN))
        races += [Race(who, "reqrsp", entry, slots, batch, "adaptive") for who in WITH_EVENTS]
        races.append(Race(contestants.RING_H, "reqrsp", entry, slots, batch, "adaptive", name=AGAIN))
        races += [
            Race(who, "reqrsp", entry, slots, batch, "sleep") for who in (contestants.RING_H, contestants.CACHELINE)
        ]
    room = max(128, slots)
    for batch in (1, 32) if tuple(batches) == USUAL_BATCHES else batches:
        races += [Race(who, "oneway", entry, room, batch) for who in ONE_WAY]
        races.append(Race(contestants.CACHELINE, "oneway", entry, room, batch, name=OURS_AGAIN))
    return races


def matrix() -> Iterator[Race]:
    """Returns every contestant at every size and batch that it can have."""
    waits: tuple[tuple[Wait, Sequence[Contestant]], ...] = (
        ("poll", POLLED),
        ("adaptive", WITH_EVENTS),
        ("sleep", (contestants.RING_H, contestants.XEN, contestants.CACHELINE)),
    )
    for entry, slots, batch in product(ENTRIES, SLOTS, BATCHES):
        if batch > slots:
            continue
        for wait, who in waits:
            yield from (Race(one, "reqrsp", entry, slots, batch, wait) for one in who)
            if wait != "sleep":
                yield Race(contestants.RING_H, "reqrsp", entry, slots, batch, wait, name=AGAIN)
        yield from (Race(one, "oneway", entry, slots, batch) for one in ONE_WAY)


def measure(bench: Bench) -> None:
    """Runs the races; without a second CPU, or without a compiler, it ends or goes on with a word.

    Raises:
        MachineError: an impossible configuration was asked for.
    """
    cpus = two_cpus()
    options = bench.options
    if options.plot is not None:
        plots.check(options.plot)
    entry = 64 if options.entry is None else options.entry
    slots = 32 if options.slots is None else options.slots
    batches = [*USUAL_BATCHES] if options.batch is None else [options.batch]
    for batch in batches:
        check(entry, slots, batch)
    races = main_courses(entry, slots, batches)
    if options.chosen:
        bench.waive(*goals.GOALS["ring"])  # they are about the usual sizes
    if not (bench.plan.matrix and not options.chosen):
        bench.waive(goals.NEVER_SLOWER)
    if not options.peers:
        races = [race for race in races if race.contestant not in PEERS]
    with workshop() as programs:
        every = list(matrix()) if bench.plan.matrix and not options.chosen else []
        wanted = {(race.contestant, race.entry): None for race in [*races, *every]}
        with bench.stage("compiling contestants", len(wanted)) as step:
            for _ in programs.make([*wanted]):
                step()
        for one in CONTESTANTS:
            if (one, entry) in wanted and (why := programs.missing(one, entry)):
                bench.remark(f"{one.name}: {why}")
                bench.waive(*_NEEDS.get(one, ()))
        races = _possible(programs, races)
        every = _possible(programs, every)
        if not races:
            return
        results = Results()
        seconds = bench.plan.ring_s / 10
        try:
            _run(bench, "rings from C to C", results, programs, races, cpus, seconds, 3 * bench.plan.samples)
        finally:
            report(bench, results, races)
            if options.plot is not None:
                plots.plot_rings(results, races, options.plot, f"xenlike's own in green; {placement()}")
        if every:
            whole = Results()
            try:
                _run(bench, "every size", whole, programs, every, cpus, seconds / 2, bench.plan.samples)
            finally:
                choices = decide(whole)
                bench.attach("matrix", whole.table())
                bench.attach("layouts", [dataclasses.asdict(choice) for choice in choices])
                bench.remark(as_text(choices))
                if choices:
                    bench.figure(goals.NEVER_SLOWER, "x").add(min(choice.speed for choice in choices))


def _possible(programs: Programs, races: Sequence[Race]) -> list[Race]:
    return [
        race
        for race in races
        if not programs.missing(race.contestant, race.entry)
        and (not race.contestant.slots or race.slots in race.contestant.slots)
    ]


def _run(
    bench: Bench,
    title: str,
    results: Results,
    programs: Programs,
    races: Sequence[Race],
    cpus: tuple[int, int],
    seconds: float,
    rounds: int,
) -> None:
    with bench.stage(title, rounds * len(races)) as step:
        results.take(programs, races, cpus, seconds, rounds, step)


def report(bench: Bench, results: Results, races: Sequence[Race]) -> None:
    """Turns samples into figures: every race, then the ratios."""
    lines = bench.figure("one cache line, there and back", "ns")
    for race in races:
        samples = results.samples(race)
        for sample in samples:
            for line in sample.line_ns:
                lines.add(line)
        if not samples:
            continue
        if race.mode == "roundtrip":
            figure = bench.figure(f"{race.course}: {race.who}", "ns")
            figure.p99 = statistics.median(sample.p99_ns for sample in samples)
            scale: Callable[[float], float] = lambda rate: 1e9 / rate  # noqa: E731
        else:
            figure = bench.figure(f"{race.course}: {race.who}", "M/s")
            scale = lambda rate: rate / 1e6  # noqa: E731
        for sample in samples:
            figure.add(scale(sample.rate))
        sleeps = sum(sample.counts["sleeps"] for sample in samples)
        if sleeps:
            entries = sum(sample.counts["entries"] for sample in samples)
            told = sum(sample.counts["notifications"] for sample in samples)
            figure.note = f"{1000 * sleeps / entries:.3g} sleeps, {1000 * told / entries:.3g} notifications per 1,000"
    bench.attach("races", results.table())
    _ratios(bench, results, races)


def _ratios(bench: Bench, results: Results, races: Sequence[Race]) -> None:
    """The figures that have goals, as the median of ratios within a round."""

    def find(mode: str, batch: int, wait: str, who: Sequence[Contestant], name: str = "") -> list[Race]:
        return [
            race
            for race in races
            if (race.mode, race.wait, race.name) == (mode, wait, name)
            and (race.batch == batch or mode == "roundtrip")
            and race.contestant in who
        ]

    def ratio(name: str, ours: Sequence[Race], theirs: Sequence[Race]) -> None:
        """Our fastest, by its median, against their fastest."""
        if not ours or not theirs:
            return
        best = max(ours, key=lambda race: _median(results, race))
        peer = max(theirs, key=lambda race: _median(results, race))
        figure = bench.figure(name, "x")
        _add(figure, results.ratios(best, peer))
        parts = [
            f"{where} {statistics.median(ratios):.2f} ({len(ratios)})"
            for where in ("near", "far")
            if (ratios := results.ratios(best, peer, where))
        ]
        figure.note = f"{best.who} against {peer.who}; by placement: {', '.join(parts) or 'disturbed throughout'}"

    ring_h = [contestants.RING_H]
    ours = [one for one in CONTESTANTS if one.ours]
    trips = find("roundtrip", 1, "poll", ours)
    if trips:
        best = max(trips, key=lambda race: _median(results, race))
        figure = bench.figure(goals.TRIP_TO_LINE, "x", note=f"{best.who}; the line as measured just before and after")
        samples = [one for one in results.samples(best) if one.placement != DISTURBED] or results.samples(best)
        _add(figure, [1e9 / one.rate / (sum(one.line_ns) / 2) for one in samples])
    ratio(goals.TRIP_TO_RING_H, trips, find("roundtrip", 1, "poll", ring_h))
    for batch in sorted({race.batch for race in races if race.mode == "reqrsp"}):
        for wait, name in (("adaptive", goals.events_to_ring_h(batch)), ("poll", goals.polled_to_ring_h(batch))):
            theirs = find("reqrsp", batch, wait, ring_h)
            ratio(name, find("reqrsp", batch, wait, ours), theirs)
            # what drivers get, by default and where both ends choose it
            ratio(f"   {name}: xen", find("reqrsp", batch, wait, [contestants.XEN]), theirs)
            ratio(f"   {name}: cacheline", find("reqrsp", batch, wait, [contestants.CACHELINE]), theirs)
            ratio(f"   {name}: A/A, ring.h against itself", find("reqrsp", batch, wait, ring_h, AGAIN), theirs)
    ratio(goals.TO_BARE_RING_H, find("reqrsp", 8, "adaptive", ours), find("reqrsp", 8, "sleep", ring_h))
    ratio(
        goals.ONE_WAY_TO_PEERS,
        find("oneway", 32, "poll", ours),
        find("oneway", 32, "poll", [contestants.BOOST, contestants.RTE_RING]),
    )
    ratio(
        "   one way, 32 at a time: A/A, cacheline against itself",
        find("oneway", 32, "poll", [contestants.CACHELINE], OURS_AGAIN),
        find("oneway", 32, "poll", [contestants.CACHELINE]),
    )


def _add(figure: Figure, samples: Sequence[float]) -> None:
    for sample in samples:
        figure.add(sample)


def _median(results: Results, race: Race) -> float:
    return statistics.median([sample.rate for sample in results.samples(race)] or [0.0])
