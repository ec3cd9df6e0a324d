"""Random scripts against Xen's own C xenstored 4.17: every answer and every event is the same.

What is not compared, and why, is in docs/xenstore.md. `XENLIKE_ORACLE_STEPS=100000` makes the scripts longer.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import pytest

from tests.interop.xenstore.scripts import Ours, Step, Theirs, Writer, compare
from xenlike.abi import xs_wire as xs

pytestmark = pytest.mark.interop

STEPS = int(os.environ.get("XENLIKE_ORACLE_STEPS", "600"))


def play(steps: list[Step]) -> tuple[int, str] | None:
    """Runs a script in both; returns the number of the first step that differs, and how."""
    with tempfile.TemporaryDirectory() as directory:
        theirs, ours = Theirs(Path(directory)), Ours()
        try:
            for number, step in enumerate(steps):
                doomed = ours.is_doomed(step)
                seen, expected = ours.run(step), theirs.run(step)
                # What it sees is a mixture of two times; that it must start again is what counts.
                if doomed and step.kind != xs.XS_TRANSACTION_END:
                    expected = (seen[0], expected[1])
                difference = compare(step, seen, expected)
                if difference:
                    return number, difference
        finally:
            theirs.close()
    return None


def reduced(steps: list[Step], kind: str) -> list[Step]:
    """Returns a shorter script that ends with a difference of the same kind."""
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            shorter = steps[:at] + steps[at + size :]
            try:
                outcome = play(shorter)
            except (LookupError, AssertionError, OSError):
                # A client that is used was not made.
                outcome = None
            if outcome is not None and outcome[0] == len(shorter) - 1 and outcome[1].startswith(kind):
                steps = shorter
            else:
                at += size
        size //= 2
    return steps


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.timeout(max(120, STEPS // 50))
def test_random_scripts(seed):
    steps = list(itertools.islice(Writer(seed).steps(), STEPS))
    outcome = play(steps)
    if outcome is not None:
        number, difference = outcome
        script = reduced(steps[: number + 1], difference.split()[0])
        lines = "\n".join(map(str, script))
        pytest.fail(f"seed {seed}, step {number}: {difference}\nthe same in short:\n{lines}")
