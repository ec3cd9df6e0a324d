"""What recording costs: an event, the rings' courses from C to C, and rings from Python.

The same programs in three forms: without the branch that asks whether to record (`-DXL_NO_TRACE`), with it and off, and
on, with every push, pop, kick and sleep recorded. They run in turns; a cost is a ratio within a round, and the control
is a form against itself. What two builds of the same code differ by is more than what a branch costs, so the control
of the builds is one with the branch compiled out and its functions aligned otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import subprocess
from collections.abc import Callable, Sequence
from functools import partial

import trio

from xenlike.abi.recorder import XENLIKE_TRACE_ENTRY, XENLIKE_TRACE_RING, XENLIKE_TRACE_USUAL
from xenlike.benchmarks import goals
from xenlike.benchmarks.ring.batch import ring_one_way
from xenlike.benchmarks.ring.contest import Contest
from xenlike.benchmarks.ring.contest import Contestant as PythonContestant
from xenlike.benchmarks.ring.native.programs import CACHELINE, Contestant, Programs, workshop
from xenlike.benchmarks.ring.native.races import Race
from xenlike.benchmarks.ring.native.results import Results
from xenlike.benchmarks.ring.pair import two_cpus
from xenlike.benchmarks.runner import Bench
from xenlike.errors import MachineError
from xenlike.io.echo import DRIVER
from xenlike.ring import CACHELINE as CACHELINE_LAYOUT
from xenlike.testing import Loopback


def _form(name: str, *flags: str) -> Contestant:
    return dataclasses.replace(CACHELINE, name=name, flags=(*CACHELINE.flags, *flags))


WITHOUT = _form("without the branch", "-DXL_NO_TRACE", "-DTRACE=0")
SHIFTED = _form("without the branch, aligned otherwise", "-DXL_NO_TRACE", "-DTRACE=0", "-falign-functions=64")
OFF = _form("off", "-DTRACE=0")
ON = _form("on", f"-DTRACE={XENLIKE_TRACE_RING}")
FORMS = (WITHOUT, SHIFTED, OFF, ON)
AGAIN = "off, once more"
ROUNDS = 3
"""For one sample: one round alone may be disturbed."""

EVENTS = 5_000_000
ECHOES = 1000


def courses() -> list[list[Race]]:
    """Returns the ring benchmark's main courses, each in all forms and the control."""
    found = []
    for race in (
        Race(OFF, "roundtrip", batch=1),
        Race(OFF, "reqrsp", batch=1),
        Race(OFF, "reqrsp", batch=8),
        Race(OFF, "reqrsp", batch=1, wait="adaptive"),
        Race(OFF, "reqrsp", batch=8, wait="adaptive"),
        Race(OFF, "oneway", slots=128, batch=1),
        Race(OFF, "oneway", slots=128, batch=32),
    ):
        forms = [dataclasses.replace(race, contestant=form) for form in FORMS]
        found.append([*forms, dataclasses.replace(race, name=AGAIN)])
    return found


def measure(bench: Bench) -> None:
    """Runs everything; without a compiler only what is of Python.

    Raises:
        MachineError: there is only one CPU, or a program failed.
    """
    cpus = two_cpus()
    with workshop() as programs:
        with bench.stage("compiling", len(FORMS) + 1) as step:
            for _ in programs.make([(form, 64) for form in FORMS]):
                step()
            why = next(filter(None, (programs.missing(form, 64) for form in FORMS)), "")
            if why:
                bench.remark(f"C: {why}")
                bench.waive(goals.TRACE_OFF, goals.TRACE_ON, goals.TRACE_EVENT)
            else:
                _events(bench, programs, cpus[0], step)
        if not why:
            _races(bench, programs, cpus)
    _python(bench, cpus)
    _echo(bench)


def _events(bench: Bench, programs: Programs, cpu: int, step: Callable[[], None]) -> None:
    """One event by itself, and one push and pop, in one process."""
    forms = [Contestant("", "trace.c", (), form.flags, form.links) for form in (WITHOUT, OFF, ON)]
    for _ in programs.make([(form, 64) for form in forms]):
        pass
    step()
    # Without the branch there is nothing to measure of an event by itself.
    singles = [None, bench.figure("an event that is not recorded", "ns"), bench.figure(goals.TRACE_EVENT, "ns")]
    pairs = [bench.figure(f"a push and a pop, {name}", "ns") for name in ("without the branch", "off", "on")]
    for number in range(ROUNDS * bench.plan.samples):
        order = range(3) if number % 2 == 0 else reversed(range(3))
        for which in order:
            path = programs.path(forms[which], 64)
            command = [str(path), str(cpu), str(EVENTS)]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if ran.returncode:
                raise MachineError(f"{path.name} failed: {ran.stderr.strip()}")
            said = json.loads(ran.stdout)
            if (single := singles[which]) is not None:
                single.add(said["event_ns"])
            pairs[which].add(said["pair_ns"])


def _races(bench: Bench, programs: Programs, cpus: tuple[int, int]) -> None:
    every = courses()
    races = [race for course in every for race in course]
    rounds = ROUNDS * bench.plan.samples
    results = Results()
    with bench.stage("rings from C to C", rounds * len(races)) as step:
        results.take(programs, races, cpus, bench.plan.ring_s / 10, rounds, step)
    for course in every:
        without, shifted, off, on, again = course
        rate = bench.figure(f"{off.course}: off", "M/s")
        for sample in results.samples(off):
            rate.add(sample.rate / 1e6)
        _cost(bench, "   off, costs", results.ratios(without, off))
        _cost(bench, "   on, costs", results.ratios(off, on))
        _cost(bench, "   A/A: off against itself", results.ratios(again, off))
        _cost(bench, "   A/A: without the branch, aligned otherwise", results.ratios(without, shifted))
    together = (
        (goals.TRACE_OFF, 0, 2),
        (goals.TRACE_ON, 2, 3),
        ("A/A: off against itself, costs", 4, 2),
        ("A/A: without the branch, aligned otherwise, costs", 0, 1),
    )
    for name, base, other in together:
        _cost(bench, name, _together(results, [(course[base], course[other]) for course in every]))
    bench.attach("races", results.table())


def _together(results: Results, pairs: Sequence[tuple[Race, Race]]) -> list[float]:
    """How many times as fast one was as the other, over all courses: of every three rounds their medians' mean."""
    found = []
    for first in range(0, len(results.rounds), ROUNDS):
        some = Results()
        some.rounds = results.rounds[first : first + ROUNDS]
        medians = [statistics.median(ratios) for one, two in pairs if (ratios := some.ratios(one, two))]
        if len(medians) == len(pairs):
            found.append(math.exp(statistics.fmean(map(math.log, medians))))
    return found


def _cost(bench: Bench, name: str, ratios: Sequence[float]) -> None:
    """Adds what the slower one takes longer, in per cent."""
    figure = bench.figure(name, "%")
    for ratio in ratios:
        figure.add(100 * (ratio - 1))


def _python(bench: Bench, cpus: tuple[int, int]) -> None:
    """Batches of 32 one way, from a process to another."""
    ring, entry = XENLIKE_TRACE_RING, XENLIKE_TRACE_ENTRY
    forms = {"off": 0, AGAIN: 0, "on": ring, "on, with entries": ring | entry}
    contest = Contest(bench, cpus, bench.plan.ring_s / 5)
    entered = {
        name: contest.add(
            PythonContestant(
                f"from Python, one way, 32 at a time, {name}",
                "M/s",
                partial(ring_one_way, CACHELINE_LAYOUT, 32, XENLIKE_TRACE_USUAL | classes),
                32,
            )
        )
        for name, classes in forms.items()
    }
    contest.measure("rings from Python", ROUNDS * bench.plan.samples)
    for name in (AGAIN, "on", "on, with entries"):
        ratios = [one / two for one, two in zip(entered["off"].samples, entered[name].samples, strict=True)]
        _cost(bench, f"   {name}, costs", ratios)


def _echo(bench: Bench) -> None:
    """Requests of a driver, both halves in one process: all that both ends record is paid for here."""
    trio.run(_echoes, bench)


async def _echoes(bench: Bench) -> None:
    ring, entry = XENLIKE_TRACE_RING, XENLIKE_TRACE_ENTRY
    forms = {"off": 0, AGAIN: 0, "on": ring, "on, with entries": ring | entry}
    samples: dict[str, list[float]] = {name: [] for name in forms}
    async with Loopback({"echo": DRIVER}, {"echo": DRIVER}) as machine:
        device = await machine.attach("echo")
        rounds = ROUNDS * bench.plan.samples
        with bench.stage("echo in one process", rounds) as step:
            for number in range(rounds + 1):
                for name in list(forms) if number % 2 == 0 else list(forms)[::-1]:
                    for domain in machine.domains.values():
                        domain.recorder.mask = XENLIKE_TRACE_USUAL | forms[name]
                    start = trio.current_time()
                    for _ in range(ECHOES):
                        await device.frontend.upper(b"text")
                    if number:
                        samples[name].append((trio.current_time() - start) / ECHOES)
                if number:
                    step()
    for name, taken in samples.items():
        figure = bench.figure(f"an echo request, both halves in one process, {name}", "µs")
        for sample in taken:
            figure.add(sample * 1e6)
    for name in (AGAIN, "on", "on, with entries"):
        _cost(bench, f"   {name}, costs", [one / two for one, two in zip(samples[name], samples["off"], strict=True)])
