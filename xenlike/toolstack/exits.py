"""How domains end, in words."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from xenlike.abi.hypercall import XENLIKE_EXIT_UNKNOWN, GetDomainInfo
from xenlike.abi.sched import ShutdownReason


@dataclass(frozen=True, slots=True)
class Exit:
    """How a domain ended.

    Attributes:
        reason: Xen's word: `poweroff`, `reboot`, `suspend`, `crash`, `watchdog`, `soft_reset`; or `destroyed` when
            the toolstack ended it.
        code: the process's exit status, if it exited by itself without saying a reason.
        signal: what killed it, if something did.
    """

    reason: str
    code: int | None = None
    signal: int | None = None

    @property
    def ok(self) -> bool:
        """True unless it crashed."""
        return self.reason != "crash"

    def __str__(self) -> str:
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = f"signal {self.signal}"
            return f"{self.reason} (killed by {name})"
        if self.code:
            return f"{self.reason} (exit status {self.code})"
        return self.reason


DESTROYED = Exit("destroyed")


def exit_of(info: GetDomainInfo) -> Exit:
    """Reads a dead domain's record."""
    if info.was_shut_down:
        return Exit(ShutdownReason(info.shutdown_reason).name)
    if info.exit_code == XENLIKE_EXIT_UNKNOWN:
        # An adopted process that hung up without a reason.
        return Exit("crash")
    if info.exit_code < 0:
        return Exit("crash", signal=-info.exit_code)
    return Exit("crash" if info.exit_code else "poweroff", code=info.exit_code)
