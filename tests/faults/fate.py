"""Deaths that a process is told of beforehand, at places in its own code.

A plan is a file with one death a line. Each life of a process takes the first line, so that one that is started again
dies the next death; when there are none left it lives. Beside the plan is a file of all lives.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from tests.faults.programs import die


def death(place: str, events: int, turns: int) -> str:
    """Returns a line of a plan: at which place, at the how many-th event there, after how many turns of a loop."""
    return json.dumps([place, events, turns]) + "\n"


def nr_lives(plan: Path) -> int:
    """Counts the lives so far."""
    lives = _lives_of(plan)
    return len(lives.read_text().splitlines()) if lives.exists() else 0


def _lives_of(plan: Path) -> Path:
    return plan.with_suffix(".lives")


class Fate:
    """The death that this process is to die."""

    def __init__(self, plan: Path) -> None:
        first, _, rest = plan.read_text().partition("\n")
        plan.write_text(rest)
        with _lives_of(plan).open("a") as lives:
            lives.write(f"{first}\n")
        self._place: str
        self._left: int
        self._turns: int
        self._place, self._left, self._turns = json.loads(first) if first else ("", 0, 0)

    def pass_by(self, place: str, events: int = 1) -> None:
        """Dies here if this is the place, and so many events have come."""
        if place == self._place:
            self._left -= events
            if self._left <= 0:
                die(self._turns)

    def pass_aside(self, events: int) -> None:
        """Dies a little later, wherever that is."""
        if self._place == "aside" and self._left > 0:
            self._left -= events
            if self._left <= 0:
                threading.Thread(target=die, args=[self._turns]).start()
