"""The rehearsal plays what it says, to its end, and leaves nothing behind."""

from __future__ import annotations

import gc
import logging
import os

import pytest
import trio

from xenlike.zygote import rehearsal, spare


def descriptors() -> list[str]:
    gc.collect()
    return os.listdir("/proc/self/fd")


async def test_the_frontend_gets_as_far_as_a_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with rehearsal.Stage.opened() as stage, trio.fail_after(30):
        await rehearsal.play(stage)
    assert stage.store.nodes[f"{rehearsal.FRONT}/state"] == "4"
    moves = [record.getMessage().partition(": ")[2] for record in caplog.records if " -> " in record.getMessage()]
    assert moves == ["Unknown -> Initialising", "Initialising -> Initialised", "Initialised -> Connected"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_play_that_gets_stuck_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "PATIENCE_S", 0.01)
    monkeypatch.setattr(rehearsal, "OFFER", {"state": "1"})
    with rehearsal.Stage.opened() as stage, trio.fail_after(30):
        await rehearsal.play(stage)
    assert stage.store.nodes[f"{rehearsal.FRONT}/state"] == "1"


def test_nothing_is_left() -> None:
    before = descriptors()
    spare.rehearse()
    assert descriptors() == before
