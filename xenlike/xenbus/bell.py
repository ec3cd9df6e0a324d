"""A wake-up that is never lost and never queued: what a device's control task sleeps on."""

from __future__ import annotations

import trio


class Bell:
    """Many ring, one listens; ringing twice before anyone listens is ringing once.

    Whoever is woken looks at everything again, so a bell carries no message: the state it announces
    is in the store or in the ring, where it cannot be out of date.
    """

    __slots__ = ("_rung", "_sleeper")

    def __init__(self) -> None:
        self._rung = False
        self._sleeper: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """Wakes the listener, now or when it next waits."""
        self._rung = True
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    async def wait(self) -> None:
        """Waits until the bell has been rung since the last `wait`; a checkpoint.

        Raises:
            RuntimeError: another task waits already.
        """
        if self._sleeper is not None:
            raise RuntimeError("a bell has one listener")
        if self._rung:
            await trio.lowlevel.checkpoint()
        else:
            self._sleeper = trio.lowlevel.current_task()

            def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                self._sleeper = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        self._rung = False
