"""The core built with AddressSanitizer and UndefinedBehaviorSanitizer lives through the core's own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.abi.c_compiler import need
from tests.core.effort import SANITIZED

ROOT = Path(__file__).resolve().parents[2]
TESTS = ["tests/core", "tests/unit/ring"]


@pytest.mark.slow
@pytest.mark.timeout(600)  # the suite inside has guards of its own
@pytest.mark.skipif(SANITIZED in os.environ, reason="this is the run inside")
def test_the_core_is_clean_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or ""
    need("gcc", bool(compiler))
    runtime = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    need("libasan of gcc", os.path.isabs(runtime))

    # A tree of its own, so that the build in the source tree stays as it is.
    for name in ("xenlike", "frontends", "backends", "benchmarks", "tests"):
        shutil.copytree(
            ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=tmp_path,
        env=os.environ | {"XENLIKE_SANITIZE": "address,undefined", "PYTHONWARNINGS": "ignore"},
        check=True,
        capture_output=True,
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS],
        cwd=tmp_path,
        env=os.environ
        | {
            SANITIZED: "1",
            "LD_PRELOAD": runtime,
            "PYTHONPATH": str(tmp_path),
            "PYTHONMALLOC": "malloc",  # so that an overrun of a bytes object is seen too
            # Python keeps what it has until the end; leaks are not looked for.
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    used = subprocess.run(
        [sys.executable, "-c", "import xenlike._core._xl as core; print(core.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"LD_PRELOAD": runtime, "PYTHONPATH": str(tmp_path), "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert used.startswith(str(tmp_path)), "another build was tested"
