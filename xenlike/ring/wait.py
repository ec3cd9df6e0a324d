"""Adaptive waiting: one spin over all rings of a domain before it arms them and sleeps.

Spin only when no task of the domain is runnable. The spin runs in C with the GIL released and yields the CPU in
its loop; how long it is follows from how often spinning has paid, and where it does not pay it is not done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NS = 100_000


class Spinner(_core.SpinnerCore):
    """Decides how long to spin, from what earlier spins have brought; one per domain."""

    __slots__ = ()

    def spin(self, rings: Sequence[_core.RingEnd], budget_ns: int = MOST_NS) -> bool:
        """Waits a little for work on any of the rings; not a checkpoint, and not cancellable.

        Args:
            rings: open rings of this domain, in any order. Best passed as the same tuple every time.
            budget_ns: never longer than this; 0 only looks.

        Returns:
            True if one of them has work, or is broken: pop.
        """
        if rings is not self._rings and tuple(rings) != self._rings:
            self._select(rings)
        return self._spin(budget_ns)
