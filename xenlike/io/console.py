"""The console: two byte rings in one page, no requests (Xen's `io/console.h`).

A domain's first console has no handshake: its page is granted at reference 0 to the console's domain
and its port is named in the start info. `out` carries what the domain prints, `in` what is typed.
Indices are free-running; a writer stores bytes, then its `*_prod`, then notifies; a reader that made
room notifies as well. A writer that finds the ring full waits, or drops: the console never blocks
the machine.
"""

from __future__ import annotations

from xenlike.abi.console import (
    IN_OFFSET,
    OUT_OFFSET,
    XENCONS_IN_SIZE,
    XENCONS_OUT_SIZE,
    XenconsInterface,
)

__all__ = ["IN_OFFSET", "OUT_OFFSET", "XENCONS_IN_SIZE", "XENCONS_OUT_SIZE", "XenconsInterface"]
