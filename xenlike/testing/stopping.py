"""Stops some tasks of a trio run as SIGSTOP stops a process: they take no step until they are let go.

What such a task waits for may happen meanwhile; it hears of it when it goes on. A task that trio has picked for the
present round of its scheduler already takes that one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio
from trio._core._run import GLOBAL_RUN_CONTEXT  # the queue of runnable tasks has no public name

if TYPE_CHECKING:
    from collections import deque
    from typing import Self


class Owner(Protocol):
    """Whose tasks are stopped together."""

    def owns(self, task: trio.lowlevel.Task | None) -> bool:
        """Says whether a task is one of them."""
        ...


class Stopper(trio.abc.Instrument):
    """Holds the tasks of those that are stopped, within a `with` inside a trio run."""

    def __init__(self) -> None:
        self._held: dict[Owner, list[trio.lowlevel.Task]] = {}
        self._watching = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_all()
        if self._watching:
            self._watching = False
            trio.lowlevel.remove_instrument(self)

    def holds(self, owner: Owner) -> bool:
        """Says whether its tasks are stopped."""
        return owner in self._held

    def stop(self, owner: Owner) -> None:
        """Stops its tasks; idempotent."""
        if owner in self._held:
            return
        if not self._watching:
            # Only from now on: an instrument costs something at every step.
            self._watching = True
            trio.lowlevel.add_instrument(self)
        queue = _runnable()
        held = self._held[owner] = [task for task in queue if owner.owns(task)]
        for task in held:
            queue.remove(task)

    def go(self, owner: Owner) -> None:
        """Has its tasks go on; idempotent."""
        _runnable().extend(self._held.pop(owner, ()))

    def go_all(self) -> None:
        """Has all go on."""
        for owner in list(self._held):
            self.go(owner)

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Takes a task that would run back out of the queue."""
        for owner, held in self._held.items():
            if owner.owns(task):
                _runnable().remove(task)
                held.append(task)
                return


def _runnable() -> deque[trio.lowlevel.Task]:
    return GLOBAL_RUN_CONTEXT.runner.runq
