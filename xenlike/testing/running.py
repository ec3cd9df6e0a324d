"""A trio run of its own for one check: nobody waits for a clock, and a seed decides who runs when.

Time passes only when every task sleeps, and then at once, so a hang is found as soon as nothing moves any more, not
after half a minute. A task that never sleeps is found by counting steps.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import trio
import trio.testing
from trio._core import _run  # its dice have no public name; Hypothesis seeds them in the same way

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

MOST_STEPS = 60_000
"""Steps of all tasks together that one check may take."""
# Longer than the 0 of those who wait until all are blocked: they come before the clock.
_CUSHION_S = 1e-6
_REAL_S = 0.005


class Runaway(AssertionError):
    """Tasks kept each other busy for ever, or one itself."""


class Steps(trio.abc.Instrument):
    """Counts steps, and ends what takes too many; made by `limited`."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.scope = trio.CancelScope()
        self.busiest: dict[str, int] = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Counts one."""
        self.left -= 1
        if self.left < 1000:
            self.busiest[task.name] = self.busiest.get(task.name, 0) + 1
        if self.left <= 0:
            self.scope.cancel()

    @property
    def cancelled_caught(self) -> bool:
        """Whether it was ended."""
        return self.scope.cancelled_caught

    def names(self) -> str:
        """Returns the tasks that took most of the last steps."""
        names = sorted(self.busiest, key=lambda name: -self.busiest[name])[:3]
        return ", ".join(name.rpartition("xenlike.")[2] for name in names)


@contextmanager
def limited(seconds: float = 100.0, steps: int = 6_000) -> Iterator[Steps]:
    """Cancels what waits in vain: after a time if everybody sleeps, after so many steps of all tasks if others do not.

    Yields what counts the steps; its `cancelled_caught` says afterwards whether that was so.
    """
    counter = Steps(steps)
    trio.lowlevel.add_instrument(counter)
    try:
        with counter.scope as scope:
            scope.deadline = trio.current_time() + seconds
            yield counter
    finally:
        trio.lowlevel.remove_instrument(counter)


@contextmanager
def dealt(seed: int) -> Iterator[None]:
    """Has a seed decide in which order runnable tasks run, so that a run can be repeated."""
    state, ordered = _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    _run._r.seed(seed)
    vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    try:
        yield
    finally:
        _run._r.setstate(state)
        vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = ordered


async def _turn(clock: trio.testing.MockClock, stuck: list[str]) -> None:
    """Turns the clock to the next deadline whenever all tasks sleep; without one, they sleep for ever."""
    threads = trio.to_thread.current_default_thread_limiter()
    while True:
        await trio.testing.wait_all_tasks_blocked(_CUSHION_S)
        if threads.borrowed_tokens:
            # A thread works, in real time.
            await trio.testing.wait_all_tasks_blocked(_REAL_S)
            continue
        left = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if left < math.inf:
            clock.jump(max(left, 0.0))
        else:
            stuck += _unshield()


def _scopes(task: trio.lowlevel.Task) -> list[trio.CancelScope]:
    """Returns the cancel scopes around a task, the innermost first."""
    scopes: list[trio.CancelScope] = []
    status: _run.CancelStatus | None = task._cancel_status
    while status is not None:
        scopes.append(status._scope)
        status = status._parent
    return scopes


def _unshield() -> list[str]:
    """Opens the shields behind which tasks sleep for ever; returns the names of those that were to end."""
    names: list[str] = []
    for task in list(_run.GLOBAL_RUN_CONTEXT.runner.tasks):
        scopes, cancelled = _scopes(task), False
        for number, scope in enumerate(scopes):
            cancelled = cancelled or (scope.cancel_called and any(inner.shield for inner in scopes[: number + 1]))
        if cancelled:
            names.append(task.name)
            for scope in scopes:
                scope.shield = False
    return names


def run_apart(check: Callable[[], Awaitable[T]], seed: int, *, most_steps: int = MOST_STEPS) -> T:
    """Runs an async function in a trio run of its own, in this thread.

    Args:
        check: what to run; gives itself a deadline.
        seed: decides in which order tasks run.
        most_steps: after so many steps it is a runaway.

    Raises:
        Runaway: it does not end by itself: tasks run for ever, or sleep for ever behind a shield against cancellation.
            Otherwise whatever the function raises, in an exception group.
    """
    steps = Steps(most_steps)
    clock = trio.testing.MockClock()
    stuck: list[str] = []

    async def main() -> T:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_turn, clock, stuck)
            with steps.scope:
                result = await check()
            nursery.cancel_scope.cancel()
        if steps.cancelled_caught:
            raise Runaway(f"after {most_steps} steps tasks still run round in circles, most of all {steps.names()}")
        return result

    with dealt(seed):
        result = trio.run(main, clock=clock, instruments=[steps])
    if stuck:
        names = ", ".join(sorted({name.rpartition(".")[2] for name in stuck}))
        raise Runaway(f"tasks were cancelled, and sleep for ever behind a shield: {names}")
    return result
