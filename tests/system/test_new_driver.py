"""Law: what `xenlike new-driver` makes passes its own tests at once, where it lies, without being installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xenlike.cli.new_driver_files import make_package

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dice", {"batch": False, "c": True}),
        ("abcdefghij_abcdefghij_abcdefghi", {"batch": True, "c": False}),
    ],
)
def test_its_tests_pass_as_it_is(tmp_path: Path, runtime_dir: Path, name: str, options: dict[str, bool]) -> None:
    package = make_package(tmp_path, name, **options)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["XENLIKE_RUNTIME_DIR"] = str(runtime_dir)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "failed" not in result.stdout
    assert not runtime_dir.exists() or list(runtime_dir.rglob("*")) == []
