"""Law: what docs/testing.md shows works, and its report is a real one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.testing import mutants
from xenlike.io.echo import DRIVER
from xenlike.testing import check_driver_sync
from xenlike.testing.law import LAWS
from xenlike.testing.laws import GROUPS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_page_are_a_test_file_that_passes(tmp_path):
    (tmp_path / "test_page.py").write_text("\n\n".join(blocks("python")))
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    plugins = ["-p", "pytest_trio.plugin", "-p", "xenlike.testing.plugin"]
    # The whole check has a test of its own.
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--xenlike-law", "handshake", "--xenlike-seed", "0"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "test_page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


def test_the_report_of_the_page_is_a_real_one():
    driver = replace(DRIVER, backend=f"{mutants.__name__}:NoBounds")
    real = str(check_driver_sync(driver, laws=["hostile.over-limit"])).splitlines()
    shown = blocks("text")[0].splitlines()
    timeless = re.compile(r" in [\d.]+ s$")
    for line in shown:
        if line.strip() != "...":
            assert timeless.sub("", line) in [timeless.sub("", other) for other in real]


def test_the_hang_of_the_page_is_a_real_one():
    driver = replace(DRIVER, backend=f"{mutants.__name__}:KicksFirst")
    assert blocks("text")[1] in str(check_driver_sync(driver, laws=["wakeups.told"]))


def test_the_groups_and_the_number_of_laws_are_those_of_the_page():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(GROUPS)
    assert f"one of {len(LAWS)} laws" in PAGE
