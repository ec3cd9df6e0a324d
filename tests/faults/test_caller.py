"""The caller itself is killed, at any moment from before its machine is there to its end: all of that is gone."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.faults.moments import AT_LEAST, Moment, blaming, moments
from tests.faults.room import PATIENCE_S, Room

SIDE_BY_SIDE = 2
REPORTS = 6
"""A guest that has 100 operations to do flushes about five times, and says so."""


class Nest:
    """A process that runs cases; see `nest`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._received = b""

    async def run(self, **case: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(json.dumps(case).encode() + b"\n")
        while b"\n" not in self._received:
            data = await self._process.stdout.receive_some()
            assert data, "the nest has ended"
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def open_nest() -> AsyncIterator[Nest]:
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "tests.faults.nest"]
        run = functools.partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = await nursery.start(run)
        yield Nest(process)
        await process.stdin.aclose()


async def test_the_caller_is_killed(room):
    """Before there is a machine, while it starts, at work, while it ends; with its reaper, and without."""
    drawn = moments("caller", 1000, count=AT_LEAST + 4)
    with trio.fail_after(PATIENCE_S + 20):
        async with trio.open_nursery() as nursery:
            for side in range(SIDE_BY_SIDE):
                nursery.start_soon(kill_callers, room, side, drawn[side::SIDE_BY_SIDE])


async def kill_callers(room: Room, side: int, drawn: list[Moment]) -> None:
    root = room.folder / f"run{side}"
    image = room.image(side, 6)

    async with open_nest() as nest:
        common = {"do": "caller", "root": str(root), "image": [str(image.path), image.seed]}
        answer = await nest.run(**common)
        assert answer["error"] is None
        acts = answer["acts"]
        for index, moment in enumerate(drawn):
            with blaming(moment):
                when: dict[str, Any] = {"acts": 1 + moment.after * acts // 1000}
                if index % 2:
                    when = {"lines": 1 + moment.after % REPORTS, "reaper": index % 4 == 1}
                answer = await nest.run(**common, spin=moment.spin, **when)
                assert answer["error"] is None, f"{when}: {answer['error']}"
                image.check()


async def test_the_next_start_cleans_up_after_a_start_that_was_not_one(room):
    """Killed between the making of its folders and of its lock, a caller leaves no lock to look at."""
    (room.runtime / "first" / "xenstored").mkdir(parents=True)
    with trio.fail_after(PATIENCE_S):
        async with room.machine("second"):
            assert not (room.runtime / "first").exists()
