"""Samples, and what follows from them. Pure: nothing is measured in here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

# A percentile of fewer samples than this would be the maximum under another name.
P99_SAMPLES = 100


class GoalResult(TypedDict):
    """One goal and what came of it."""

    name: str
    value: float | None
    goal: float
    met: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure's median should be.

    Attributes:
        limit: the number, in the figure's unit.
        bound: which side of it is good.
    """

    limit: float
    bound: Literal["at most", "at least"] = "at most"

    def is_met(self, value: float | None) -> bool:
        """Compares a median with it; what was not measured does not meet it."""
        if value is None:
            return False
        return value <= self.limit if self.bound == "at most" else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.bound == 'at most' else '≥'} {self.limit:g}"


@dataclass(slots=True)
class Figure:
    """One thing that was measured several times.

    Attributes:
        name: what it is; goals refer to it.
        unit: of all its samples.
        samples: in the order they were taken.
        p99: of the single events that the samples are medians of, where there are such.
        note: what a reader has to know to judge it.
    """

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    p99: float | None = None
    note: str = ""

    def add(self, sample: float) -> None:
        """Takes one more sample."""
        self.samples.append(sample)

    @property
    def median(self) -> float | None:
        """The middle of the samples; None before the first."""
        return statistics.median(self.samples) if self.samples else None

    def summary(self) -> dict[str, object]:
        """Returns it as the JSON has it."""
        p99 = self.p99
        if p99 is None and len(self.samples) >= P99_SAMPLES:
            p99 = percentile(self.samples, 99)
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.samples, default=None),
            "max": max(self.samples, default=None),
            "p99": p99,
            "count": len(self.samples),
            "note": self.note,
            "samples": self.samples,
        }


def percentile(samples: Sequence[float], percent: float) -> float:
    """Returns the smallest sample that is not below `percent` of all; needs one at least."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def compare(goals: dict[str, Goal], figures: Sequence[Figure]) -> list[GoalResult]:
    """Compares what was measured with the goals; one that was not measured is missed."""
    medians = {figure.name: figure.median for figure in figures}
    return [
        GoalResult(name=name, value=medians.get(name), goal=goal.limit, met=goal.is_met(medians.get(name)))
        for name, goal in goals.items()
    ]
