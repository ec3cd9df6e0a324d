"""Two processes over rings for seconds or minutes: batches, sleeps, wraps, kills and new rings, every entry verified.

3 s by default, 30 s where `CI` is set; `XENLIKE_STRESS_S=600` runs it for ten minutes. The seed is printed, and
`XENLIKE_STRESS_SEED` takes it again: the same games, though not the same interleavings.

It can tell: without any one of the fences, or without the membarrier, an end overslept within 20 s on two CPUs.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.abi.c_compiler import need

CORE = Path(__file__).resolve().parents[3] / "xenlike" / "_core"
SOURCES = ["xl_ring.c", "xl_recorder.c", "xl_stream.c", "xl_event.c", "xl_process.c"]

SECONDS = int(os.environ.get("XENLIKE_STRESS_S") or (30 if os.environ.get("CI") else 3))
SEED = int(os.environ.get("XENLIKE_STRESS_SEED") or random.randrange(1 << 32))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
def test_every_entry_arrives_once_whoever_dies(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or ""
    need("gcc", bool(compiler))
    program = tmp_path / "stress"
    flags = "-std=gnu11 -O2 -g -Wall -Wextra -Werror -fno-strict-aliasing"
    sources = [Path(__file__).with_name("stress.c"), *(CORE / name for name in SOURCES)]
    subprocess.run([compiler, *flags.split(), f"-I{CORE}", "-o", program, *sources], check=True)

    ran = subprocess.run([program, str(SECONDS), str(SEED)], capture_output=True, text=True, check=False)
    print(f"seed {SEED}\n{ran.stdout}")
    assert ran.returncode == 0, f"seed {SEED}: {ran.stderr}"
    happened = {name: int(count) for name, count in map(str.split, ran.stdout.splitlines())}
    assert set(happened) == {"games", "lives", "kills", "sleeps", "late", "wraps", "moved"}
    assert all(happened.values()), f"seed {SEED}: {happened}"
