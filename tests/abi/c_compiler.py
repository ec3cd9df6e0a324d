"""Compiles and runs small C programs for the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HEADERS = Path("/usr/include/xen")


def need(what: str, present: bool) -> None:
    """Skips where a tool is missing on a developer's machine, and fails where it must be there."""
    if not present:
        if os.environ.get("CI"):
            pytest.fail(f"{what} is missing; apt.txt names its package")
        pytest.skip(f"{what} is missing")


def compile_and_run(source: str, folder: Path, *flags: str) -> str:
    """Returns what the program prints; a diagnostic of the compiler is a failure."""
    compiler = shutil.which("gcc") or ""
    need("gcc", bool(compiler))
    program, text = folder / "program", folder / "program.c"
    text.write_text(source, encoding="utf-8")
    command = [compiler, "-std=gnu11", "-Wall", "-Werror", *flags, "-o", str(program), str(text)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout
