"""When to strike. A moment is counted, not timed: after so many events, and then so many empty turns of a loop.

`XENLIKE_FAULT_SEED=7 pytest tests/faults` looks at other moments than the usual ones; whatever fails says with which
seed it did, and at which moment.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SEED = int(os.environ.get("XENLIKE_FAULT_SEED", "1"))
AT_LEAST = 20
"""Moments of each kind of death."""


@dataclass(frozen=True)
class Moment:
    """One death.

    Attributes:
        name: of the seed it was drawn with.
        after: how many events come first.
        spin: empty turns after the last of them.
    """

    name: str
    after: int
    spin: int

    def random(self, purpose: str = "") -> random.Random:
        """Returns a source for whatever else is to be drawn at this moment; the same for the same purpose."""
        return random.Random(f"{self.name}/{purpose}")

    @property
    def number(self) -> int:
        """Returns a number that stands for it, such as for the contents of a disk."""
        return self.random("number").getrandbits(48)


def moments(victim: str, last: int, *, count: int = AT_LEAST, longest_spin: int = 20_000) -> list[Moment]:
    """Draws moments.

    Args:
        victim: what dies.
        last: the number of events after which the latest of them comes.
        count: how many.
        longest_spin: a thousand turns are some 20 us.
    """
    drawn = []
    for index in range(count):
        name = f"{SEED}/{victim}/{index}"
        source = random.Random(name)
        # Half of them strike at once: what comes right after an event deserves most of the attention.
        drawn.append(Moment(name, source.randint(1, last), source.choice((0, source.randint(0, longest_spin)))))
    return drawn


def spin(turns: int) -> None:
    """Lets others go on for a moment whose length is a number of turns."""
    for _ in range(turns):
        pass


@contextmanager
def blaming(moment: Moment) -> Iterator[None]:
    """Says of whatever fails in the block at which moment it did."""
    try:
        yield
    except Exception as error:
        error.add_note(f"at moment {moment}; repeat with XENLIKE_FAULT_SEED={SEED}")
        raise
