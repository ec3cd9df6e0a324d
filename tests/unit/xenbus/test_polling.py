"""What spins are counted for which ring."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xenlike._core import SPINS_HIT, SPINS_MISSED
from xenlike.errors import ProtocolError
from xenlike.xenbus.polling import Polling


class Ring:
    """One that has so much work, or is broken."""

    def __init__(self, work: int = 0, *, broken: bool = False) -> None:
        self.work = work
        self.broken = broken
        self.counters = [0] * 8

    @property
    def spins(self) -> tuple[int, int]:
        """How many brought work, and how many none."""
        return self.counters[SPINS_HIT], self.counters[SPINS_MISSED]

    @property
    def available(self) -> int:
        if self.broken:
            raise ProtocolError("broken", 1)
        return self.work


class Spinner:
    """Each spin goes as told: `hit`, `miss`, or `left out`."""

    def __init__(self, outcomes: list[str]) -> None:
        self.outcomes: Iterator[str] = iter(outcomes)
        self.missed = 0

    def spin(self, rings: object) -> bool:
        outcome = next(self.outcomes)
        self.missed += outcome == "miss"
        return outcome == "hit"


@pytest.fixture
def polling() -> Polling:
    return Polling()


async def test_a_spin_counts_once_and_one_that_was_left_out_not_at_all(polling: Polling) -> None:
    polling._spinner = Spinner(["miss", "left out", "left out", "hit", "miss"])  # type: ignore[assignment]
    ring = Ring(2)
    found = [polling.spin(ring) for _ in range(5)]  # type: ignore[arg-type]
    assert found == [False, False, False, True, False]
    assert ring.spins == (1, 2)


async def test_what_another_ring_got_is_nobodys_miss(polling: Polling) -> None:
    polling._spinner = Spinner(["hit", "miss", "left out"])  # type: ignore[assignment]
    mine, other = Ring(), Ring()
    assert not polling.spin(mine)  # type: ignore[arg-type]
    assert not polling.spin(other)  # type: ignore[arg-type]
    assert not polling.spin(mine)  # type: ignore[arg-type]
    assert (mine.spins, other.spins) == ((0, 0), (0, 1))


async def test_a_broken_ring_is_work(polling: Polling) -> None:
    polling._spinner = Spinner(["hit"])  # type: ignore[assignment]
    ring = Ring(broken=True)
    assert polling.spin(ring)  # type: ignore[arg-type]
    assert ring.spins == (1, 0)
