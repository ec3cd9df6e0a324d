"""The rings' protocols, explored exhaustively by spin on a machine with store buffers; and each part is needed.

`machine.pml` says what the machine may do, the other models what is checked. A model that finds nothing wrong is
worth as much as what it does find: so each is also run with one part of the protocol taken away, and must fail in
the way that this part prevents.

By hand, in a folder to throw away:

    spin -a -DNO_ARM_FENCE=1 .../ring.pml && gcc -O1 -DSAFETY -o pan pan.c && ./pan -m200000
    spin -t -p -g .../ring.pml        # the way to the error, step by step
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.abi.c_compiler import need

HERE = Path(__file__).resolve().parent

#: The first end of a ring (front, producer) and the second (back, consumer).
ENDS = (0, 1)

LOST_WAKEUP = "invalid end state"
WRONG_ENTRY = "assertion violated"

#: RELAXED machines do all that TSO machines do, and more.
WHOLE = [
    ("ring", "-DRELAXED"),
    ("ring", "-DRELAXED -DASYMMETRIC"),
    ("ring", "-DRELAXED -DTAG"),
    ("oneway", "-DRELAXED"),
    ("oneway", "-DRELAXED -DASYMMETRIC"),
    ("stream", "-DRELAXED -DBYTES=5"),
]

#: What is taken away, and what goes wrong then; on a TSO machine already, where not said otherwise.
BROKEN = [
    *(
        (model, f"{flags}={end}", LOST_WAKEUP)
        for model in ("ring", "oneway")
        for flags in ("-DNO_KICK_FENCE", "-DNO_ARM_FENCE", "-DASYMMETRIC -DNO_GRACE")
        for end in ENDS
    ),
    *(("ring", f"-DNO_SECOND_LOOK={end}", LOST_WAKEUP) for end in ENDS),
    *((model, "-DNO_RELEASE -DRELAXED", WRONG_ENTRY) for model in ("ring", "oneway", "stream")),
    *((model, "-DNO_ACQUIRE", WRONG_ENTRY) for model in ("ring", "oneway", "stream")),
    *((model, "-DEARLY_INDEX", WRONG_ENTRY) for model in ("oneway", "stream")),
    ("ring", "-DNO_ROOM_CHECK", WRONG_ENTRY),
    ("ring", "-DTAG -DNO_KICK_FENCE=0", LOST_WAKEUP),
    ("ring", "-DTAG -DASYMMETRIC -DNO_GRACE=1", LOST_WAKEUP),
    ("ring", "-DTAG -DNO_RELEASE -DRELAXED", WRONG_ENTRY),
    ("ring", "-DTAG -DNO_ACQUIRE", WRONG_ENTRY),
    ("oneway", "-DNO_KICK_FOR_SPACE", LOST_WAKEUP),
    ("stream", "-DNO_WRITE_FENCE", LOST_WAKEUP),
    ("stream", "-DNO_READ_FENCE", LOST_WAKEUP),
    ("stream", "-DWRITE_ONCE", LOST_WAKEUP),
    ("stream", "-DREAD_ONCE", LOST_WAKEUP),
]


def explore(model: str, flags: str, folder: Path, optimize: str) -> str:
    """Returns pan's report on all interleavings of a model, or on those until its first error."""
    spin, compiler = shutil.which("spin") or "", shutil.which("gcc") or ""
    need("spin", bool(spin))
    need("gcc", bool(compiler))
    made = subprocess.run(
        [spin, "-a", *flags.split(), HERE / f"{model}.pml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    # SAFETY: no search for cycles, which an end that polls makes without harm.
    subprocess.run([compiler, optimize, "-w", "-DSAFETY", "-o", "pan", "pan.c"], cwd=folder, check=True)
    report = subprocess.run(
        [folder / "pan", "-m200000", "-w23", "-n"], cwd=folder, capture_output=True, text=True, check=False
    ).stdout
    assert "max search depth too small" not in report, report
    return report


@pytest.mark.parametrize(("model", "flags"), WHOLE)
def test_no_interleaving_loses_a_wakeup_or_an_entry(model: str, flags: str, tmp_path: Path) -> None:
    report = explore(model, flags, tmp_path, "-O0")  # the compiler would take longer than it saves
    assert "errors: 0" in report, report
    assert "Search not completed" not in report, report
    states = re.search(r"(\d+) states, stored", report)
    assert states, report
    assert int(states[1]) > 50_000, "the model has lost most of its behaviour"


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-DREQUESTS=4", "-DRELAXED -DTAG -DASYMMETRIC"])
def test_what_takes_longer(flags: str, tmp_path: Path) -> None:
    assert "errors: 0" in explore("ring", flags, tmp_path, "-O1")


@pytest.mark.parametrize(("model", "flags", "error"), BROKEN)
def test_each_part_of_the_protocol_is_needed(model: str, flags: str, error: str, tmp_path: Path) -> None:
    report = explore(model, flags, tmp_path, "-O0")
    assert "errors: 1" in report, report
    assert error in report.splitlines()[0], report
