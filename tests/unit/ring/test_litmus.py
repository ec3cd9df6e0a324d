"""The race between sleeping and producing on two real CPUs, in C, some hundred thousand times.

What test_ring_wakeups and test_stream_wakeups say of a machine model, asked of this machine: without one of the
fences it loses wake-ups within milliseconds on x86.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.abi.c_compiler import need

CORE = Path(__file__).resolve().parents[3] / "xenlike" / "_core"
SOURCES = ["xl_ring.c", "xl_recorder.c", "xl_stream.c", "xl_event.c", "xl_process.c"]


@pytest.fixture(scope="module")
def litmus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or ""
    need("gcc", bool(compiler))
    program = tmp_path_factory.mktemp("litmus") / "litmus"
    source = Path(__file__).with_name("litmus.c")
    subprocess.run(
        f"{compiler} -std=gnu11 -O2 -Wall -Werror -fno-strict-aliasing -pthread -I{CORE} -o".split()
        + [str(path) for path in (program, source, *(CORE / name for name in SOURCES))],
        check=True,
    )
    return program


@pytest.mark.parametrize("arguments", [["200000"], ["50000", "asymmetric"]], ids=["fences", "asymmetric"])
def test_nobody_sleeps_through_what_nobody_announced(litmus: Path, arguments: list[str]) -> None:
    ran = subprocess.run([litmus, *arguments], capture_output=True, text=True, check=True).stdout
    print(ran)
    if "no membarrier" in ran:
        pytest.skip("this kernel has no membarrier")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU runs no race")
    lost = {name: int(count) for name, count in map(str.split, ran.splitlines())}
    assert set(lost) >= {"xen", "cacheline", "cacheline-tag"}
    assert not any(lost.values()), lost
