"""Spinning pays or is not done. The policy is tested without a clock, the loop without a limit on its time."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.processes import child
from xenlike.ring import CACHELINE, XEN, BackRing, FrontRing, Spinner
from xenlike.ring.wait import MOST_NS


def pair(memory: bytearray) -> tuple[FrontRing, BackRing]:
    return FrontRing(memory, XEN, 64, 64), BackRing(memory, XEN, 64, 64)


def test_work_at_the_first_look_is_no_spin() -> None:
    front, back = pair(bytearray(4096))
    front.push(bytes(64))
    spinner = Spinner()
    assert spinner.spin((front, back))
    statistics = spinner.statistics()
    assert (statistics.ready, statistics.hits, statistics.misses, statistics.spun_ns) == (1, 0, 0, 0)


def test_a_budget_of_zero_only_looks() -> None:
    front, back = pair(bytearray(4096))
    spinner = Spinner()
    assert not spinner.spin((front, back), 0)
    assert not spinner.spin((), 0)
    assert (spinner.statistics().misses, spinner.statistics().spun_ns) == (0, 0)
    front.push(bytes(64))
    assert spinner.spin([front, back], 0)


def test_a_broken_or_closed_ring_ends_the_spin() -> None:
    memory = bytearray(4096)
    front, back = pair(memory)
    memory[8] = 200
    assert Spinner().spin((front,), 0)
    back.close()
    assert Spinner().spin((back,), 0)


def test_spinning_that_never_pays_stops() -> None:
    front, _ = pair(bytearray(4096))
    spinner = Spinner()
    for _ in range(300):
        assert not spinner.spin((front,))
    statistics = spinner.statistics()
    assert statistics.misses < 20
    assert statistics.skipped > 270
    assert statistics.hits == statistics.ready == 0


def misses_until_off(spinner: Spinner) -> int:
    for count in range(1000):
        length = spinner._plan(MOST_NS)
        if not length:
            return count
        spinner._learn(hit=False, spent_ns=length)
    raise AssertionError("spins for ever")


def test_useless_spinning_costs_less_and_less() -> None:
    spinner = Spinner()
    assert misses_until_off(spinner) < 10
    gaps = []
    for _ in range(8):
        gap = 1
        while not (length := spinner._plan(MOST_NS)):
            gap += 1
        gaps.append(gap)
        spinner._learn(hit=False, spent_ns=length)
        assert not spinner._plan(MOST_NS)
    assert gaps == sorted(gaps)
    assert gaps[0] < 32
    assert gaps[-1] > 500


def test_one_successful_trial_turns_spinning_on_again() -> None:
    spinner = Spinner()
    misses_until_off(spinner)
    while not spinner._plan(MOST_NS):
        pass
    spinner._learn(hit=True, spent_ns=1500)
    assert spinner._plan(MOST_NS) > 1500


def test_the_length_follows_the_time_of_the_hits() -> None:
    spinner = Spinner()
    for _ in range(100):
        spinner._learn(hit=True, spent_ns=8000)
    assert 16_000 <= spinner._plan(MOST_NS) < 20_000
    for _ in range(100):
        spinner._learn(hit=True, spent_ns=500)
    assert spinner._plan(MOST_NS) == 2000
    # A late hit counts at once.
    spinner._learn(hit=True, spent_ns=9000)
    assert spinner._plan(MOST_NS) == 18_000


def test_a_miss_makes_the_next_spin_longer_as_long_as_it_pays() -> None:
    spinner = Spinner()
    for _ in range(50):
        spinner._learn(hit=True, spent_ns=3000)
    before = spinner._plan(MOST_NS)
    spinner._learn(hit=False, spent_ns=before)
    assert spinner._plan(MOST_NS) > before


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=200)
)
def test_no_history_makes_a_spin_longer_than_its_limit(history: list[tuple[bool, int, int]]) -> None:
    spinner = Spinner()
    for hit, spent, limit in history:
        assert 0 <= spinner._plan(limit) <= min(limit, 1_000_000)
        spinner._learn(hit, spent)
        assert 0 <= spinner.statistics().hit_rate <= 1


@pytest.mark.parametrize("layout", [XEN, CACHELINE])
def test_work_from_another_process_ends_a_spin(layout: str) -> None:
    """Ping-pong with nothing but spinning; how often it had to look again is not judged."""
    import mmap

    memory = mmap.mmap(-1, 4096)
    rounds = 500
    front = FrontRing(memory, layout, 64, 64)

    def wait(spinner: Spinner, ring: FrontRing | BackRing) -> None:
        while not spinner.spin((ring,)):
            os.sched_yield()

    def echo() -> None:
        back, spinner, entry = BackRing(memory, layout, 64, 64), Spinner(), bytearray(64)
        for _ in range(rounds):
            wait(spinner, back)
            assert back.pop(entry) == 1
            back.push(entry)

    spinner, entry = Spinner(), bytearray(64)
    with child(echo):
        for number in range(rounds):
            front.push(number.to_bytes(64, "little"))
            wait(spinner, front)
            assert front.pop(entry) == 1
            assert int.from_bytes(entry, "little") == number
    statistics = spinner.statistics()
    assert statistics.ready + statistics.hits == rounds
