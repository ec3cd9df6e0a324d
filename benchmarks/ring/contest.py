"""Contestants that are measured in turns, and the ratios between them.

A round measures everybody once, and a ratio is formed within a round: what the machine does meanwhile, and where its
two CPUs are to each other, hits both.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from xenlike.benchmarks.figures import Figure, percentile
from xenlike.benchmarks.ring.pair import Ends, Outcome, run
from xenlike.benchmarks.runner import Bench

FIRST_COUNT = 200
"""Steps of the first run, from which the count of the others follows."""

MOST_STEPS = 2_000_000

DISTURBED = 0.1
"""A run is disturbed if the host took away more than this share of its CPUs' time."""

Unit = Literal["M/s", "µs", "GB/s"]


@dataclass(slots=True)
class Contestant:
    """One configuration.

    Attributes:
        name: of its figure.
        unit: `M/s`, messages or entries; `µs`, the median of single round trips; `GB/s`, payload.
        ends: makes what the two processes share.
        each: how many messages, or bytes, a step carries.
        note: what a reader has to know.
        explain: adds to the note what the run itself has counted.
        first_count: steps of the run that calibrates.
        steps: of each run that counts.
        samples: one a round.
        stolen: the share of its CPUs' time that the host took away meanwhile, one a round.
        p99s: of single round trips in µs, one a round.
    """

    name: str
    unit: Unit
    ends: Callable[[], Ends]
    each: int = 1
    note: str = ""
    explain: Callable[[Outcome, int], str] | None = None
    first_count: int = FIRST_COUNT
    steps: int = 0
    samples: list[float] = field(default_factory=list)
    stolen: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)

    def value(self, outcome: Outcome) -> float:
        """Returns what a run was worth, in the unit."""
        if self.unit == "µs":
            return statistics.median(outcome.near) / 1e3
        per_ns = self.steps * self.each / outcome.ns
        return per_ns * 1e3 if self.unit == "M/s" else per_ns


class Contest:
    """Contestants of one kind, with the same loops and the same content.

    Args:
        bench: gets the figures.
        cpus: of the near and the far process.
        seconds: about how long one sample takes.
    """

    def __init__(self, bench: Bench, cpus: tuple[int, int], seconds: float) -> None:
        self._bench = bench
        self._cpus = cpus
        self._seconds = seconds
        self._contestants: list[Contestant] = []

    def add(self, contestant: Contestant) -> Contestant:
        """Enters one more."""
        self._contestants.append(contestant)
        return contestant

    def measure(self, title: str, rounds: int) -> None:
        """Runs everybody once in each round; what was measured is in the table even if the run is interrupted."""
        figures: dict[int, Figure] = {}
        with self._bench.stage(title, (rounds + 1) * len(self._contestants)) as step:
            for contestant in self._contestants:
                self._calibrate(contestant)
                step()
            for _ in range(rounds):
                for contestant in self._contestants:
                    before, start = stolen_s(self._cpus), time.monotonic()
                    outcome = self._run(contestant, contestant.steps)
                    spent = len(set(self._cpus)) * (time.monotonic() - start)
                    contestant.stolen.append((stolen_s(self._cpus) - before) / spent)
                    contestant.samples.append(contestant.value(outcome))
                    figure = figures.get(id(contestant))
                    if figure is None:
                        figure = figures[id(contestant)] = self._bench.figure(contestant.name, contestant.unit)
                    figure.add(contestant.samples[-1])
                    figure.note = contestant.note
                    if contestant.explain is not None:
                        figure.note += contestant.explain(outcome, contestant.steps)
                    self._aim(contestant, contestant.steps, outcome)
                    if contestant.unit == "µs":
                        contestant.p99s.append(percentile(outcome.near, 99) / 1e3)
                        figure.p99 = statistics.median(contestant.p99s)
                    step()

    def _run(self, contestant: Contestant, steps: int) -> Outcome:
        return run(contestant.name.strip(), contestant.ends(), steps, self._cpus, warm_up=max(1, steps // 8))

    def _calibrate(self, contestant: Contestant) -> None:
        steps = contestant.first_count
        for _ in range(3):
            outcome = self._run(contestant, steps)
            self._aim(contestant, steps, outcome)
            # The first few hundred say little about a fast one.
            if contestant.steps < 4 * steps:
                break
            steps = contestant.steps // 2

    def _aim(self, contestant: Contestant, steps: int, outcome: Outcome) -> None:
        """Sets the length of the next run; anew after each, for the host may have been busy during this one."""
        wanted = int(steps * self._seconds * 1e9 / outcome.ns)
        contestant.steps = min(MOST_STEPS, 20 * steps, max(contestant.first_count // 4, 1, wanted))

    def ratio(self, name: str, over: Contestant, under: Contestant) -> None:
        """Adds the figure of how many times as much the first is as the second, round by round.

        Rounds in which the host took much of the CPUs away are left out, unless it did so in all.
        """
        rounds = list(zip(over.samples, under.samples, over.stolen, under.stolen, strict=False))
        calm = [(one, other) for one, other, *stolen in rounds if max(stolen) <= DISTURBED]
        pairs = calm or [(one, other) for one, other, *_ in rounds]
        if not pairs:
            return
        figure = self._bench.figure(name, "x")
        for one, other in pairs:
            figure.add(one / other)
        if len(calm) < len(rounds):
            how = "left out" if calm else "and there was no other"
            figure.note = f"in {len(rounds) - len(calm)} of {len(rounds)} rounds the host took CPU time away; {how}"

    def best(self, contestants: list[Contestant]) -> Contestant | None:
        """Returns the one with the highest median; None if there is none."""
        measured = [contestant for contestant in contestants if contestant.samples]
        return max(measured, key=lambda contestant: statistics.median(contestant.samples), default=None)


def stolen_s(cpus: Iterable[int]) -> float:
    """Returns how many seconds the host has taken away from these CPUs so far; 0 where it does not say."""
    names = {f"cpu{cpu}" for cpu in cpus}
    try:
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    except OSError:
        return 0.0
    ticks = sum(int(words[8]) for words in lines if words and words[0] in names and len(words) > 8)
    return ticks / os.sysconf("SC_CLK_TCK")
