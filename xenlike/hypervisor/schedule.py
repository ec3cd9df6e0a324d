"""When statistics are published: pure logic, in nanoseconds of whatever clock its caller has.

Nobody asks: a birth or death is published once it has settled, and nothing else; an idle machine sleeps for ever.
Somebody asks: at once, and then in his period until his lease ends, so that who dies without a word costs little.
Always: a collection is followed by a rest of `RESTS` times what it cost, so that statistics take no more than a
twentieth of a CPU, however many domains there are and whatever they write into their recorders.
"""

from __future__ import annotations

SETTLING_NS = 50_000_000
"""After a birth or death; others often follow."""
RESTS = 19
MAX_LEASES = 8
MIN_PERIOD_NS = 20_000_000
MAX_LEASE_NS = 3600 * 1_000_000_000


class Schedule:
    """Says when to collect the next snapshot."""

    def __init__(self) -> None:
        # Ends of leases by their periods.
        self._leases: dict[int, int] = {}
        self._wanted: int | None = None
        self._began = 0
        self._rested = 0

    def ask(self, now: int, period: int, lease: int) -> None:
        """Wants a snapshot at once, and with a period another one in each until the lease ends.

        A lease of the same period is renewed. Of too many different ones the first to end is given up.
        """
        self._want(now)
        if period <= 0 or lease <= 0:
            return
        period, end = max(period, MIN_PERIOD_NS), now + min(lease, MAX_LEASE_NS)
        self._leases[period] = max(end, self._leases.get(period, 0))
        if len(self._leases) > MAX_LEASES:
            del self._leases[min(self._leases, key=self._leases.__getitem__)]

    def changed(self, now: int) -> None:
        """A domain was born or died."""
        self._want(now + SETTLING_NS)

    def began(self, now: int) -> None:
        """A collection began: what is wanted from now on is the next one."""
        self._began, self._wanted = now, None

    def ended(self, now: int, cost: int) -> None:
        """The collection ended; it took `cost` of processor time."""
        self._rested = now + RESTS * cost

    def period(self, now: int) -> int:
        """The period in which somebody wants snapshots; 0 when nobody does."""
        self._leases = {period: end for period, end in self._leases.items() if end > now}
        return min(self._leases, default=0)

    def due(self, now: int) -> int | None:
        """When the next collection is to begin, which may be past; None when nothing calls for one."""
        regular = [self._began + period for period, end in self._leases.items() if max(now, self._began + period) < end]
        wanted = min(regular if self._wanted is None else [*regular, self._wanted], default=None)
        return None if wanted is None else max(wanted, self._rested)

    def _want(self, when: int) -> None:
        self._wanted = when if self._wanted is None else min(when, self._wanted)
