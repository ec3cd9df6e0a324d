"""Tells of saved Python files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import trio
from watchfiles import watch

DEBOUNCE_MS = 100
"""Saves that follow one another more quickly are one: an editor writes a file, renames it, and touches its folder."""
STEP_MS = 20


async def watch_saves(
    folders: Iterable[Path],
    saved: Callable[[set[Path]], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Calls `saved` with the Python files that were written, made or removed, until cancelled.

    Args:
        folders: where to look; not below them.
        saved: called in this task's event loop.
        task_status: `started` at once; the watch itself is a moment later.
    """
    stop = threading.Event()

    def look() -> None:
        changes = watch(
            *folders,
            watch_filter=lambda _, path: path.endswith(".py"),
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            stop_event=stop,
            rust_timeout=STEP_MS * 10,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
        )
        for changed in changes:
            if changed:
                trio.from_thread.run_sync(saved, {Path(path) for _, path in changed})

    async def stop_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stop.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_cancelled)
        task_status.started()
        # It is not left behind: it sees the event within a step.
        await trio.to_thread.run_sync(look)
