"""Tasks of a guest that use a device all the time, for as long as a law needs them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from xenlike.errors import NoSuchDevice, PeerGone
from xenlike.testing.law import Broken
from xenlike.testing.running import limited
from xenlike.testing.waiting import waiting

if TYPE_CHECKING:
    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Plugged

TASKS = 6
PAUSE_S = 0.01


class Load:
    """Uses a device from several tasks of its guest, which stop and die with it.

    Args:
        case: whose law it is.
        device: a connected device.
        tasks: how many.

    Attributes:
        done: operations with a right answer.
        gone: operations that ended with `PeerGone`.
        ended: tasks that were told that the device was taken away.
        problem: the first answer that was wrong, and the like.
    """

    def __init__(self, case: Case, device: Plugged, tasks: int = TASKS) -> None:
        self.done = self.gone = self.ended = 0
        self.problem: Broken | None = None
        self._case = case
        self._frontend = device.frontend
        self._machine = device.machine
        self._stopping = False
        self._left = tasks
        self._changed = trio.lowlevel.ParkingLot()
        for number in range(tasks):
            device.front.spawn(self._use, random.Random(f"{case.name} {case.seed} {number}"))

    async def _use(self, dice: random.Random) -> None:
        exercise = self._case.kit.exercise
        try:
            while not self._stopping:
                try:
                    await self._frontend.wait_connected()
                    await exercise(self._frontend, dice)
                    self.done += 1
                except NoSuchDevice:
                    self.ended += 1
                    return
                except PeerGone:
                    self.gone += 1
                    await self._wait_for_another()
                except AssertionError as error:
                    self._complain(f"an operation under load got a wrong answer {error}".rstrip())
                    return
                except Exception as error:
                    self._complain(f"an operation under load raised {type(error).__name__}: {error}")
                    return
                self._changed.unpark_all()
                # An operation that awaits nothing must not keep everybody else from running.
                await trio.lowlevel.checkpoint()
        finally:
            self._left -= 1
            self._changed.unpark_all()

    async def _wait_for_another(self) -> None:
        """Waits for the next backend, for an operation that does not do so itself."""
        try:
            with trio.move_on_after(PAUSE_S):
                await self._frontend.wait_connected()
        except PeerGone:
            await trio.sleep(PAUSE_S)
        except NoSuchDevice:
            pass  # the next operation is told

    def _complain(self, text: str) -> None:
        self.problem = self.problem or Broken(text)

    def check(self) -> None:
        """Raises what went wrong so far."""
        if self.problem is not None:
            raise self.problem

    async def more(self, count: int) -> None:
        """Waits until so many more operations have been answered."""
        goal = self.done + count
        with limited(steps=50_000) as scope:
            while self.done < goal and self._left:
                self.check()
                await self._changed.park()
        self.check()
        if scope.cancelled_caught:
            raise Broken("; ".join(["operations under load are never done", *waiting(self._machine)]))

    async def rounds(self, count: int) -> None:
        """Lets so many rounds of the scheduler pass."""
        for _ in range(count):
            await trio.lowlevel.checkpoint()

    def stop(self) -> None:
        """Has the tasks end with the operation that they are at."""
        self._stopping = True

    async def finished(self) -> None:
        """Waits until all tasks have ended; `Broken` if one of them hangs."""
        with limited() as scope:
            while self._left:
                await self._changed.park()
        self.check()
        if scope.cancelled_caught:
            raise Broken("; ".join([f"tasks of the guest hang in an operation: {self._left}", *waiting(self._machine)]))
