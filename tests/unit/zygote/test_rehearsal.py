"""The rehearsal plays what it says, to its end, and leaves nothing behind."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
from pathlib import Path

import pytest
import trio

from xenlike.zygote import rehearsal, spare


async def test_the_frontend_gets_as_far_as_a_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with rehearsal.Stage.opened() as stage, trio.fail_after(30):
        await rehearsal.play(stage)
    assert stage.daemon.nodes[f"{rehearsal.FRONT}/state"] == "4"
    moves = [record.getMessage().partition(": ")[2] for record in caplog.records if " -> " in record.getMessage()]
    assert moves == ["Unknown -> Initialising", "Initialising -> Initialised", "Initialised -> Connected"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_play_that_gets_stuck_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "PATIENCE_S", 0.01)
    monkeypatch.setattr(rehearsal, "OFFER", {"state": "1"})
    with rehearsal.Stage.opened() as stage, trio.fail_after(30):
        await rehearsal.play(stage)
    assert stage.daemon.nodes[f"{rehearsal.FRONT}/state"] == "1"


def state() -> dict[str, object]:
    """What a process would hand on to the domain that it becomes."""
    gc.collect()
    return {
        "descriptors": os.listdir("/proc/self/fd"),
        "mappings": [line for line in Path("/proc/self/maps").read_text().splitlines() if "stage" in line],
        "threads": os.listdir("/proc/self/task"),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "random": random.getstate(),
        "loggers": [(logger.level, list(logger.handlers)) for logger in (logging.root, logging.getLogger("xenlike"))],
        "output": (sys.stdout, sys.stderr, sys.excepthook),
    }


def test_nothing_is_left() -> None:
    spare.rehearse(1)
    before = state()
    spare.rehearse(2)
    assert state() == before
    with pytest.raises(RuntimeError):
        trio.lowlevel.current_trio_token()


def test_one_that_fails_is_told_and_no_harm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(rehearsal, "play")
    before = state()
    spare.rehearse(1)
    assert "rehearsal" in capsys.readouterr().err
    assert {**state(), "output": None} == {**before, "output": None}
