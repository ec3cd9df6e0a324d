"""`xenlike bench driver`: any driver is measured, and one that cannot be is a sentence. No figure is judged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from xenlike.benchmarks import runner
from xenlike.cli import status
from xenlike.cli.app import app
from xenlike.cli.new_driver_files import make_package

pytestmark = pytest.mark.system

TINY = runner.Plan(samples=1, ring_s=0.001)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runner, "QUICK", TINY)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "dice":
            del sys.modules[name]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path, "dice", batch=True, c=False)


def bench(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", *words, "--quick"])


def test_a_driver_is_measured_beside_echo(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result = bench("driver", str(package), "--json", str(path))
    assert result.exit_code == 0, result.output
    figures = {figure["name"].strip(): figure for figure in json.loads(path.read_text())["figures"]}
    for tasks in (1, 8, 32):
        for what in ("one operation", "control: against itself", "echo, the same", "times as many operations as echo"):
            assert figures[f"{tasks}: {what}"]["median"] > 0
        assert figures[f"{tasks}: one operation"]["p99"] >= figures[f"{tasks}: one operation"]["min"]
        # Of the batch variant an operation is several requests, of which one notification tells.
        assert 0 < figures[f"{tasks}: notifications per 1,000 requests"]["median"] <= 1000
    assert {"dice, 1 task", "dice, 8 tasks", "dice, 32 tasks"} <= figures.keys()
    assert "driver: dice, CRC-32 of granted pages." in result.output


def test_echo_has_no_yardstick_beside_itself() -> None:
    result = bench("driver", "echo")
    assert result.exit_code == 0, result.output
    assert "echo, 32 tasks" in result.output
    assert "times as many" not in result.output


def test_a_driver_whose_answers_are_wrong_is_not_measured(package: Path) -> None:
    backend = package / "dice" / "backend.py"
    backend.write_text(backend.read_text().replace("crc=crc,", "crc=1,"))
    result = bench("driver", str(package))
    assert result.exit_code == status.FAILED
    assert "AssertionError" in result.output
    assert "xenlike: the guest of dice ended (crash); what it said is above" in result.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["driver"], "say which driver: xenlike bench driver NAME"),
        (["idle", "echo"], "idle takes no 'echo'"),
        (["driver", "vbd"], "disks have a benchmark of their own: xenlike bench block"),
        (["driver", "nothing"], "no driver for devices of type 'nothing'"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(words: list[str], why: str) -> None:
    result = bench(*words)
    assert result.exit_code == status.USAGE
    assert f"xenlike: {why}" in result.output


def test_a_driver_without_an_exercise_is_a_sentence(package: Path) -> None:
    protocol = package / "dice" / "protocol.py"
    protocol.write_text(protocol.read_text().replace('    exercise="dice.frontend:exercise",\n', ""))
    result = bench("driver", str(package))
    assert result.exit_code == status.USAGE
    assert "dice names no `exercise`" in result.output
