"""`sched_op`: how a domain stops, and why (Xen's `sched.h`)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import domid_t, u32

SCHEDOP_yield: Final = 0
SCHEDOP_block: Final = 1
SCHEDOP_shutdown: Final = 2
SCHEDOP_poll: Final = 3
SCHEDOP_remote_shutdown: Final = 4
SCHEDOP_shutdown_code: Final = 5
SCHEDOP_watchdog: Final = 6

SHUTDOWN_poweroff: Final = 0
SHUTDOWN_reboot: Final = 1
SHUTDOWN_suspend: Final = 2
SHUTDOWN_crash: Final = 3
SHUTDOWN_watchdog: Final = 4
SHUTDOWN_soft_reset: Final = 5
SHUTDOWN_MAX: Final = 5


class ShutdownReason(IntEnum):
    """Why a domain stopped: Xen's `SHUTDOWN_*` under the names that `control/shutdown` uses."""

    poweroff = 0
    reboot = 1
    suspend = 2
    crash = 3
    watchdog = 4
    soft_reset = 5


class SchedShutdown(Struct, c="sched_shutdown", typedef="sched_shutdown_t"):
    """Argument of `SCHEDOP_shutdown`."""

    reason: u32 = field("SHUTDOWN_*")


class SchedRemoteShutdown(Struct, c="sched_remote_shutdown", typedef="sched_remote_shutdown_t"):
    """Argument of `SCHEDOP_remote_shutdown`, for privileged domains."""

    domain_id: domid_t = field("whom to stop")
    reason: u32 = field("SHUTDOWN_*")


class SchedWatchdog(Struct, c="sched_watchdog", typedef="sched_watchdog_t"):
    """Argument of `SCHEDOP_watchdog`."""

    id: u32 = field("0 to make one")
    timeout: u32 = field("0 to end it", unit="s")
