"""What may race, and what is made of the samples."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike.benchmarks.ring.native import plots, races, results
from xenlike.benchmarks.ring.native.decide import WAITS, decide
from xenlike.benchmarks.ring.native.measure import main_courses, matrix
from xenlike.benchmarks.ring.native.programs import CACHELINE, CONTESTANTS, RING_H, XEN, Contestant, Programs
from xenlike.benchmarks.ring.native.races import AGAIN, Race
from xenlike.benchmarks.ring.native.results import Results, Sample
from xenlike.benchmarks.ring.pair import two_cpus
from xenlike.errors import MachineError


@pytest.mark.parametrize(
    ("entry", "slots", "batch", "reason"),
    [
        (8192, 32, 1, "more than a ring holds"),
        (4096, 1024, 1, "more than a ring holds"),
        (12, 32, 1, "multiple of 8"),
        (0, 32, 1, "multiple of 8"),
        (64, 48, 1, "power of two"),
        (64, 0, 1, "power of two"),
        (64, 32, 0, "moves nothing"),
        (64, 32, 33, "never fits"),
    ],
)
def test_an_impossible_size_is_refused_with_a_reason(entry: int, slots: int, batch: int, reason: str) -> None:
    with pytest.raises(MachineError, match=reason):
        races.check(entry, slots, batch)


def test_every_race_of_the_matrix_is_possible_and_its_contestant_can_do_it() -> None:
    every = [*matrix(), *main_courses()]
    for race in every:
        races.check(race.entry, race.slots, race.batch)
        assert race.mode in race.contestant.modes, race
    assert len(set(matrix())) == len(list(matrix()))
    assert len(set(main_courses())) == len(main_courses())
    seen = {(race.entry, race.slots, race.batch) for race in every}
    assert {entry for entry, _, _ in seen} == {8, 16, 64, 112, 128}
    assert {slots for _, slots, _ in seen} == {32, 64, 128, 256, 1024}
    assert {batch for _, _, batch in seen} == {1, 8, 32, 256}
    assert {race.contestant for race in every} == set(CONTESTANTS)


def test_a_control_runs_the_same_under_another_name() -> None:
    control = [race for race in main_courses() if race.name == AGAIN]
    assert control
    for race in control:
        assert race.contestant is RING_H
        assert Race(RING_H, race.mode, race.entry, race.slots, race.batch, race.wait) in main_courses()


def test_a_pinned_pair_needs_two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    with pytest.raises(MachineError, match="only CPU 5"):
        two_cpus()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 3, 5})
    assert two_cpus() == (3, 5)


def sample(rate: float, line: float) -> Sample:
    return Sample(rate, (line, line), 0.0, 0.0, dict.fromkeys(results.COUNTS, 0))


def test_only_what_was_measured_at_one_placement_is_compared() -> None:
    ours, theirs = Race(XEN, "reqrsp"), Race(RING_H, "reqrsp")
    found = Results()
    found.rounds = [
        {ours: sample(30, 60), theirs: sample(10, 60)},
        {ours: sample(90, 60), theirs: sample(1, 300)},
        {ours: sample(4, 300), theirs: sample(2, 300)},
        {ours: sample(4, 5000), theirs: sample(1, 5000)},
        {ours: sample(7, 60)},
    ]
    assert found.ratios(ours, theirs) == [3, 2]
    assert found.ratios(ours, theirs, "near") == [3]
    assert found.ratios(ours, theirs, "far") == [2]


def test_without_any_quiet_round_all_are_compared() -> None:
    ours, theirs = Race(XEN, "reqrsp"), Race(CACHELINE, "reqrsp")
    found = Results()
    found.rounds = [{ours: sample(4, 5000), theirs: sample(1, 60)}]
    assert found.ratios(ours, theirs) == [4]


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_a_placement_is_known_only_when_both_looks_agree(before: float, after: float) -> None:
    placement = Sample(1, (before, after), 0, 0, {}).placement
    if placement == "near":
        assert max(before, after) < results.NEAR_NS
    elif placement == "far":
        assert results.NEAR_NS <= min(before, after) <= max(before, after) <= results.DISTURBED_NS


def test_a_contestant_that_cannot_be_compiled_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Programs(tmp_path)
    absent = Contestant("absent", "rte_ring.c", ("oneway",), ("-nostdinc",), package="some-package")
    list(made.make([(absent, 64)]))
    assert made.missing(absent, 64) == "not installed: Debian's some-package"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    list(made.make([(XEN, 64)]))
    assert made.missing(XEN, 64) == "no compiler: install gcc"


def test_a_picture_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no folder"):
        plots.check(tmp_path / "nowhere" / "rings.png")


def matrix_of(speeds: dict[tuple[Contestant, int], float]) -> Results:
    """One round at one size: rates by contestant and batch, the same polled and with events."""
    found = Results()
    found.rounds = [
        {
            Race(who, "reqrsp", 64, 32, batch, wait): sample(rate, 60)
            for (who, batch), rate in speeds.items()
            for wait in WAITS
        }
    ]
    return found


@pytest.mark.parametrize(
    ("cacheline", "layout"),
    [
        ({1: 2.0, 8: 1.0}, "cacheline"),
        ({1: 1.02, 8: 1.02}, "xen"),  # no more than the control differs from itself
        ({1: 2.0, 8: 0.4}, "xen"),  # faster somewhere, and slower over all
    ],
)
def test_a_layout_is_chosen_only_if_it_gains_over_all(cacheline: dict[int, float], layout: str) -> None:
    speeds = {(who, batch): 1.0 for who in (XEN, RING_H) for batch in (1, 8)}
    speeds |= {(CACHELINE, batch): rate for batch, rate in cacheline.items()}
    (choice,) = decide(matrix_of(speeds))
    assert choice.noise is None
    assert (choice.entry, choice.slots, choice.layout) == (64, 32, layout)
    assert choice.worst == min(cacheline.values()) if layout == "cacheline" else choice.worst == 1.0
