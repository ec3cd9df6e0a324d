"""When statistics are published: at births and deaths, under a lease, and never for more than a twentieth of a CPU."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from xenlike.hypervisor.schedule import MAX_LEASES, MIN_PERIOD_NS, RESTS, SETTLING_NS, Schedule

MS = 1_000_000
S = 1000 * MS


def collect(schedule: Schedule, until: int, cost: int = 0, now: int = 0) -> list[int]:
    """Collects whenever it is due; returns when that was."""
    times: list[int] = []
    while (due := schedule.due(now)) is not None and due <= until:
        now = max(now, due)
        times.append(now)
        schedule.began(now)
        now += cost
        schedule.ended(now, cost)
        assert len(times) < 100_000
    return times


def test_nobody_asks_and_nothing_happens_so_nothing_is_ever_due() -> None:
    schedule = Schedule()
    assert schedule.due(0) is None
    schedule.changed(0)
    assert len(collect(schedule, 3600 * S)) == 1
    assert schedule.due(3600 * S) is None


def test_births_that_follow_each_other_are_published_together() -> None:
    schedule = Schedule()
    for now in range(0, SETTLING_NS, MS):
        schedule.changed(now)
    assert collect(schedule, 3600 * S) == [SETTLING_NS]


def test_who_asks_once_is_answered_at_once_and_no_more() -> None:
    schedule = Schedule()
    schedule.ask(5 * S, 0, 0)
    assert collect(schedule, 3600 * S, now=5 * S) == [5 * S]


def test_a_lease_is_served_in_its_period_and_ends_by_itself() -> None:
    schedule = Schedule()
    schedule.ask(0, 500 * MS, 2 * S)
    assert collect(schedule, 3600 * S) == [0, 500 * MS, S, 1500 * MS]
    assert schedule.period(2 * S) == 0


def test_a_renewed_lease_goes_on_without_a_gap() -> None:
    schedule = Schedule()
    schedule.ask(0, S, 3 * S)
    first = collect(schedule, 2 * S)
    schedule.ask(2 * S + 1, S, 3 * S)
    assert first == [0, S, 2 * S]
    assert collect(schedule, 3600 * S, now=2 * S + 1) == [2 * S + 1, 3 * S + 1, 4 * S + 1]


def test_the_impatient_do_not_outlive_their_own_lease_by_that_of_others() -> None:
    schedule = Schedule()
    schedule.ask(0, 100 * MS, S)
    schedule.ask(0, S, 60 * S)
    assert schedule.period(S - 1) == 100 * MS
    schedule.ask(S - 1, S, 60 * S)
    assert schedule.period(S) == S


def test_leases_are_few_and_no_period_is_shorter_than_sense() -> None:
    schedule = Schedule()
    for number in range(10 * MAX_LEASES):
        schedule.ask(0, number + 1, S)
        schedule.ask(0, S + number, S + number)
    assert len(schedule._leases) <= MAX_LEASES
    schedule.ask(0, 1, 100 * S)
    assert schedule.period(0) == MIN_PERIOD_NS


@given(
    st.integers(1, S),
    st.lists(st.tuples(st.integers(0, 10 * S), st.sampled_from(["ask", "lease", "changed"])), max_size=30),
)
def test_whatever_is_asked_statistics_take_no_more_than_a_twentieth(cost: int, events: list[tuple[int, str]]) -> None:
    schedule = Schedule()
    times: list[int] = []
    now = 0
    for when, what in sorted(events):
        times += collect(schedule, when, cost, now)
        now = max(now, when)
        match what:
            case "ask":
                schedule.ask(now, 0, 0)
            case "lease":
                schedule.ask(now, 1, 10 * S)
            case "changed":
                schedule.changed(now)
    times += collect(schedule, now + 20 * S, cost, now)
    assert all(later - earlier >= (RESTS + 1) * cost for earlier, later in pairwise(times))
