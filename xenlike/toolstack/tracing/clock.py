"""Times of a trace: a recorder counts the CPU's ticks or nanoseconds, people want CLOCK_MONOTONIC."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from xenlike import _core
from xenlike.abi.recorder import RecorderHead

_LOOKS = 4
_SHORTEST_NS = 1_000_000
"""A rate taken over less than this is mostly error."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A line through two moments that whoever reads has seen itself; a domain's own word for them is not asked.

    All CPUs' ticks run alike (a recorder says 0, nanoseconds, where they do not), so one clock does for all domains.

    Attributes:
        ticks: the first moment, by the CPU's ticks.
        ns: the same by CLOCK_MONOTONIC.
        now_ticks: the second one.
        now_ns: likewise.
    """

    ticks: int
    ns: int
    now_ticks: int
    now_ns: int

    @classmethod
    def since(cls, ticks: int, ns: int) -> Clock:
        """Returns the clock from a moment that was noted before until now."""
        return cls(ticks, ns, *_now())

    @classmethod
    def of(cls, head: RecorderHead) -> Clock:
        """Returns the clock from a recorder's beginning, which must be the reader's own or be trusted, until now."""
        if head.clock == 0:
            return cls.since(*_now())
        return cls.since(head.ticks, head.ns)

    def to_ns(self, time: int, clock: int) -> int:
        """Returns a record's time by CLOCK_MONOTONIC, in ns, and not later than the second moment."""
        if clock == 0:
            return min(time, self.now_ns)
        if time >= self.now_ticks:
            return self.now_ns
        spent = self.now_ticks - self.ticks
        if spent <= 0 or self.now_ns - self.ns < _SHORTEST_NS:
            return max(self.now_ns - (self.now_ticks - time) // 3, 0)
        return max(self.now_ns - (self.now_ticks - time) * (self.now_ns - self.ns) // spent, 0)


def _now() -> tuple[int, int]:
    """One moment by both clocks: of a few looks the one that was interrupted least."""
    looks = [_core.trace_clock(1) for _ in range(_LOOKS + 1)]
    gaps = [later[1] - sooner[1] for sooner, later in pairwise(looks)]
    return looks[gaps.index(min(gaps))]
