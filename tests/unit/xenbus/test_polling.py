"""What spins are counted for which ring."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xenlike.errors import ProtocolError
from xenlike.xenbus.polling import Polling, Spins


class Ring:
    """One that has so much work, or is broken."""

    def __init__(self, work: int = 0, *, broken: bool = False) -> None:
        self.work = work
        self.broken = broken

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
    spins = Spins()
    found = [polling.spin(Ring(2), spins) for _ in range(5)]  # type: ignore[arg-type]
    assert found == [False, False, False, True, False]
    assert spins == Spins(hit=1, missed=2)


async def test_what_another_ring_got_is_nobodys_miss(polling: Polling) -> None:
    polling._spinner = Spinner(["hit", "miss", "left out"])  # type: ignore[assignment]
    mine, other = Spins(), Spins()
    assert not polling.spin(Ring(), mine)  # type: ignore[arg-type]
    assert not polling.spin(Ring(), other)  # type: ignore[arg-type]
    assert not polling.spin(Ring(), mine)  # type: ignore[arg-type]
    assert (mine, other) == (Spins(), Spins(missed=1))


async def test_a_broken_ring_is_work(polling: Polling) -> None:
    polling._spinner = Spinner(["hit"])  # type: ignore[assignment]
    spins = Spins()
    assert polling.spin(Ring(broken=True), spins)  # type: ignore[arg-type]
    assert spins.hit == 1
