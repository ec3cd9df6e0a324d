"""How queues wait: one spin over all rings of the domain, and patience with peers that cry wolf."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from xenlike._core import SPINS_HIT, SPINS_MISSED, SPURIOUS
from xenlike.errors import ProtocolError
from xenlike.ring import Spinner

if TYPE_CHECKING:
    from xenlike.ring import RingEnd, SpinnerStatistics

_current: trio.lowlevel.RunVar[Polling] = trio.lowlevel.RunVar("xenlike.xenbus.polling")


class Polling:
    """The rings of one domain, which is one trio run, and its spinner."""

    def __init__(self) -> None:
        self._rings: tuple[RingEnd, ...] = ()
        self._spinner = Spinner()
        self._missed = 0

    @staticmethod
    def current() -> Polling:
        """Returns the one of this trio run."""
        try:
            return _current.get()
        except LookupError:
            polling = Polling()
            _current.set(polling)
            return polling

    def add(self, ring: RingEnd) -> None:
        """Has the ring looked at in every spin, until `remove`."""
        self._rings = (*self._rings, ring)

    def remove(self, ring: RingEnd) -> None:
        """Forgets the ring; to be called before it is closed."""
        self._rings = tuple(other for other in self._rings if other is not ring)

    def spin(self, ring: RingEnd) -> bool:
        """Waits a little for work, if nobody else could use the time; not a checkpoint.

        Args:
            ring: the caller's own. Its counters tell how many spins that its task began were followed by work, and
                how many by none; ones that were left out do not count.

        Returns:
            True if the caller's ring has work. False too when another one has: sleep, so that its task runs.
        """
        # Tasks of this scheduling round that have not run yet do not count as runnable. Who calls this
        # has been through a checkpoint before, and delays them by one spin at most.
        if trio.lowlevel.current_statistics().tasks_runnable:
            return False
        if self._spinner.spin(self._rings):
            try:
                found = ring.available > 0
            except ProtocolError:
                found = True
            ring.counters[SPINS_HIT] += found
            return found
        # one that was left out has missed nothing
        missed = self._spinner.missed
        ring.counters[SPINS_MISSED] += missed != self._missed
        self._missed = missed
        return False

    def statistics(self) -> SpinnerStatistics:
        """Returns the spinner's counters."""
        return self._spinner.statistics()


class Patience:
    """Counts wakes that brought nothing, and says how long to ignore their author.

    A single one is in the nature of the game: an entry is seen while its notification is still on the
    way. A streak of them is a broken or hostile peer, whose own requests are all that it delays. As
    Linux's `XEN_EOI_FLAG_SPURIOUS`.

    Args:
        counters: of the ring.
    """

    FREE = 4
    FIRST_S = 0.000_2
    MOST_S = 0.1

    def __init__(self, counters: memoryview) -> None:
        self._counters = counters
        self._streak = 0

    def useful(self) -> None:
        """A wake brought something."""
        self._streak = 0

    def useless(self) -> float:
        """A wake brought nothing; returns how many seconds to sleep, which is mostly 0."""
        self._counters[SPURIOUS] += 1
        self._streak += 1
        over = self._streak - self.FREE
        return 0.0 if over <= 0 else min(self.FIRST_S * (1 << min(over - 1, 20)), self.MOST_S)
