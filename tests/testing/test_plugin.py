"""Laws of the pytest plugin: it gives fixtures to those who ask, and costs nobody else anything."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "xenlike.testing.plugin"


@pytest.fixture
def run(tmp_path):
    """Runs pytest on a file, in a process of its own that loads this plugin and pytest-trio only."""

    def run(source, *args):
        (tmp_path / "test_it.py").write_text(source)
        (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
        command = [sys.executable, "-m", "pytest", "-p", "pytest_trio.plugin", "-p", PLUGIN, "-q", *args, "test_it.py"]
        environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_it_is_an_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"xenlike": PLUGIN}


def test_it_imports_neither_trio_nor_xenlike_before_it_is_used(tmp_path):
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    script = (
        "import sys, pytest\n"
        f"code = pytest.main(['-q', '-p', '{PLUGIN}', 'test_nothing.py'])\n"
        "heavy = [name for name in sys.modules if name == 'trio' or name.startswith('xenlike.')]\n"
        "print(code, heavy)\n"
    )
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"0 ['xenlike.testing', '{PLUGIN}']", done.stdout + done.stderr


GOOD_AND_BAD = """
from dataclasses import replace
import pytest
from xenlike.io.echo import DRIVER
from xenlike.backends.echo import EchoBack
from xenlike.io.echo import EchoResponse

class NoBounds(EchoBack):
    async def handle(self, request):
        page = self.foreign.page(request.gref)
        page[: request.size] = bytes(page[: request.size]).upper()
        return EchoResponse(size=request.size)

BAD = replace(DRIVER, backend=f"{__file__}:NoBounds")

def test_good(check_driver):
    report = check_driver(DRIVER, laws=["hostile.over-limit", "suspend.under-load"])
    print("seeds", [outcome.seeds for outcome in report.outcomes])

def test_bad(check_driver):
    check_driver(BAD, laws=["hostile.over-limit"])

async def test_async(check_driver):
    check_driver(DRIVER, laws=["handshake.order"])
"""


def test_a_broken_law_fails_a_test_with_the_report(run):
    done = run(GOOD_AND_BAD, "-s")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert "BROKEN  hostile.over-limit" in done.stdout
    assert "size = 4097 is over its limit max-size = 4096" in done.stdout
    assert "seeds [[0], [0, 1, 2, 3, 4, 5, 6, 7]]" in done.stdout
    # The report is the message: no frame of ours is above it.
    assert "conformance.py" not in done.stdout


def test_options_choose_seeds_and_laws(run):
    done = run(GOOD_AND_BAD, "-s", "-k", "good", "--xenlike-seed", "7", "--xenlike-seed", "9")
    assert "seeds [[7], [7, 9]]" in done.stdout, done.stdout + done.stderr
    done = run(GOOD_AND_BAD, "-s", "-k", "bad", "--xenlike-law", "handshake.repeated")
    assert "1 passed" in done.stdout


def test_a_failure_shows_what_was_written_to_the_store(run):
    done = run(
        "async def test_it(loopback):\n"
        "    async with loopback() as machine:\n"
        "        device = await machine.attach('echo')\n"
        "        assert await device.frontend.upper(b'x') == b'Y'\n"
    )
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "xenlike loopback machine" in done.stdout
    assert "store  d2/device/echo/0/state = 4 (Connected)" in done.stdout
