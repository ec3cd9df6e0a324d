"""Runs races in turns and keeps what they said."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xenlike.benchmarks.figures import percentile
from xenlike.benchmarks.ring.native.programs import Programs
from xenlike.benchmarks.ring.native.races import Race
from xenlike.errors import MachineError

NEAR_NS = 110
"""Below it the bouncing line stays in one core or one cluster."""
DISTURBED_NS = 1000
"""Above it somebody else had the CPU."""

DISTURBED = "disturbed"

RETRIES = 4
"""For a sample during which somebody else had the CPU, or the CPUs moved."""

GUARD_S = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one race.

    Attributes:
        rate: entries a second; of requests and responses each pair counts once.
        line_ns: a round trip of one cache line just before and just after.
        p50_ns, p99_ns: of single round trips; 0 where none were timed.
        counts: what both ends counted together: sleeps, notifications and so on.
    """

    rate: float
    line_ns: tuple[float, float]
    p50_ns: float
    p99_ns: float
    counts: dict[str, int]

    @property
    def placement(self) -> str:
        """Where the two CPUs were to each other: `near`, `far`, or `disturbed`."""
        if max(self.line_ns) > DISTURBED_NS:
            return DISTURBED
        if max(self.line_ns) < NEAR_NS:
            return "near"
        return "far" if min(self.line_ns) >= NEAR_NS else DISTURBED


COUNTS = ("entries", "sleeps", "wakes_for_nothing", "notifications", "spins_hit", "spins_missed")


def run(programs: Programs, race: Race, cpus: tuple[int, int], seconds: float) -> Sample:
    """Runs one race once.

    Raises:
        MachineError: it failed, or an entry came out wrong.
    """
    words: list[object] = [race.mode, race.slots, race.batch, race.wait, int(race.contestant.asymmetric)]
    command = [programs.path(race.contestant, race.entry), *words, *cpus, seconds]
    try:
        ran = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=GUARD_S + seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise MachineError(f"{race.who} did not end: {race.course}") from None
    if ran.returncode:
        raise MachineError(f"{race.who} failed: {race.course}: {ran.stderr.strip()}")
    said = json.loads(ran.stdout)
    if said["errors"]:
        raise MachineError(f"{race.who} lost or changed entries: {race.course}")
    return Sample(
        rate=said["entries"] / said["seconds"],
        line_ns=(said["line_before_ns"], said["line_after_ns"]),
        p50_ns=said["p50_ns"],
        p99_ns=said["p99_ns"],
        counts={name: said[name] for name in COUNTS},
    )


class Results:
    """Samples of races, round by round."""

    def __init__(self) -> None:
        self.rounds: list[dict[Race, Sample]] = []

    def take(
        self,
        programs: Programs,
        races: Sequence[Race],
        cpus: tuple[int, int],
        seconds: float,
        rounds: int,
        step: Callable[[], None],
    ) -> None:
        """Runs all races once in each round, every other round backwards; `step` is called after each.

        So nobody always runs first, and contestants of one course stay next to each other.

        A disturbed sample is taken again, a few times.
        """
        for number in range(rounds):
            taken: dict[Race, Sample] = {}
            self.rounds.append(taken)
            for race in races if number % 2 == 0 else reversed(races):
                for _ in range(RETRIES):
                    taken[race] = run(programs, race, cpus, seconds)
                    if taken[race].placement != DISTURBED:
                        break
                step()

    def samples(self, race: Race) -> list[Sample]:
        """Returns the samples of a race."""
        return [taken[race] for taken in self.rounds if race in taken]

    def ratios(self, race: Race, other: Race, placement: str = "") -> list[float]:
        """Returns how many times as fast one was as the other, round by round.

        The placement of the two CPUs may change between rounds, and moves every figure several times; so only what
        was measured in the same round and at the same placement is compared, if there is any such round.
        """
        pairs = [(taken[race], taken[other]) for taken in self.rounds if race in taken and other in taken]
        alike = [(one, two) for one, two in pairs if one.placement == two.placement != DISTURBED]
        if placement:
            alike = [(one, two) for one, two in alike if one.placement == placement]
        elif not alike:
            alike = pairs
        return [one.rate / two.rate for one, two in alike]

    def table(self) -> list[dict[str, object]]:
        """Returns all races with median, range and p99 for scripts."""
        races = {race: None for taken in self.rounds for race in taken}
        return [race.as_json() | _summary(self.samples(race)) for race in races]


def _summary(samples: list[Sample]) -> dict[str, object]:
    rates = [sample.rate for sample in samples]
    lines = [line for sample in samples for line in sample.line_ns]
    return {
        "unit": "entries/s",
        "median": statistics.median(rates),
        "min": min(rates),
        "max": max(rates),
        "samples": rates,
        "round_trip_p99_ns": statistics.median(sample.p99_ns for sample in samples),
        "line_ns": {
            "median": statistics.median(lines),
            "min": min(lines),
            "max": max(lines),
            "p99": percentile(lines, 99),
        },
        "placements": [sample.placement for sample in samples],
        "counts": {name: statistics.median(sample.counts[name] for sample in samples) for name in COUNTS},
    }
