"""Striking from outside, at a moment that is counted in domain 0's own acts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults.moments import Moment, spin
from xenlike.abi import hypercall as hc
from xenlike.domain.hypercalls import Hypercalls
from xenlike.domain.store_connection import Connection

HYPERCALL = (Hypercalls, "call")
STORE_REQUESTS = (Connection, "_submit")
"""Requests that were sent together and are not answered yet."""


def kill(pid: int | None) -> None:
    """Kills a process that may be gone already."""
    if pid:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Counter:
    """Counts what domain 0 does, and acts after one of those.

    Args:
        patch: undoes it all at the end of the test.
        methods: that count: class and name.
        counts: says whether a call counts, by its arguments; all do by default.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        *methods: tuple[type, str],
        counts: Callable[..., bool] = lambda *_, **__: True,
    ) -> None:
        self.count = 0
        self._counts = counts
        self._plan: dict[int, tuple[int, Callable[[], object]]] = {}
        self._acting = False
        for owner, name in methods:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if not self._acting and self._counts(*args, **kwargs):
                self.count += 1
                if self.count in self._plan:
                    turns, act = self._plan.pop(self.count)
                    self._act(turns, act)
            return result

        return counted

    def _act(self, turns: int, act: Callable[[], object]) -> None:
        # What is done in here is not to be counted.
        self._acting = True
        try:
            spin(turns)
            act()
        finally:
            self._acting = False

    def after(self, more: int, turns: int, act: Callable[[], object]) -> None:
        """Acts after so many more calls, and a spin of so many turns; inside of the call, so nothing comes between."""
        self._plan[self.count + more] = turns, act

    @contextmanager
    def striking(self, moment: Moment, act: Callable[[], object]) -> Iterator[None]:
        """Acts at a moment that is counted from the start of the block, or at its end if so much does not happen."""
        goal = self.count + moment.after
        self.after(moment.after, moment.spin, act)
        yield
        if self._plan.pop(goal, None) is not None:
            act()


def is_birth(calls: Hypercalls, op: int, cmd: int, *_: object, **__: object) -> bool:
    """Tells the hypercalls that create domains."""
    return (op, cmd) == (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_createdomain)
