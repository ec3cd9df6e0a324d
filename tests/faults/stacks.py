"""Where every task of a process is, on request: what a hang is looked at with."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType

import trio


def tell_on_signal() -> None:
    """Prints the stacks of all tasks to descriptor 2 on SIGUSR1."""
    signal.signal(signal.SIGUSR1, lambda *_: os.write(2, stacks().encode()) and None)


def stacks() -> str:
    """Returns the stack of every task here, without trio's own frames."""
    root = trio.lowlevel.current_root_task()
    lines = []
    for task in _below(root) if root is not None else ():
        lines.append(f"task {task.name}\n")
        summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in _frames(task.coro))
        lines += [
            f"    {frame.filename}:{frame.lineno} {frame.line}\n" for frame in summary if "/trio/" not in frame.filename
        ]
    return "".join(lines)


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _below(child)


def _frames(coroutine: object) -> Iterator[FrameType]:
    while True:
        if isinstance(coroutine, CoroutineType):
            frame, coroutine = coroutine.cr_frame, coroutine.cr_await
        elif isinstance(coroutine, AsyncGeneratorType):
            frame, coroutine = coroutine.ag_frame, coroutine.ag_await
        else:
            return
        if frame is not None:
            yield frame
