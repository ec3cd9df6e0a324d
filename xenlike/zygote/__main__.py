"""The zygote process: `python -m xenlike.zygote FD`, FD being a socket to the hypervisor.

    hypervisor                      zygote                     domain
                            <-      ready
    (domid, name) + socket  ->
                                    fork              ->       bootstrap (the hypervisor holds the reply)
                            <-      (domid, pid)
    reply to the bootstrap  ------------------------------->   death signal set, parent checked, entry

The child is an orphan from its first moment, and so the hypervisor's (see `_core.fork_orphan`). When nothing was
asked for during a moment, the next child is forked ahead of its request; see `spare`. Before the first of them the
zygote itself plays a domain's first moments, so that all children begin with code that was run before.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys

from xenlike import _core
from xenlike._core.fds import recv_message
from xenlike.zygote.child import REQUEST, be_domain, name_process
from xenlike.zygote.spare import Spare, rehearse

REPORT = struct.Struct("<Hxxi")
READY = -1
# So long nothing is asked for before a spare is made: whoever was asked for last has started by then.
IDLE_MS = 50
# What runs eight times is rewritten by the interpreter for what it has seen.
ROUNDS = 3

# What every Python domain uses. Frontends and backends are resolved late, so that a guest holds no
# backend code; the exception is what nearly every guest opens first.
WARM = ("xenlike.domain.runtime", "xenlike.xenbus.service", "xenlike.frontends.block")


def main(fd: int) -> None:
    """Forks domains until the hypervisor hangs up."""
    _core.set_pdeathsig(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    hypervisor = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    for name in WARM:
        importlib.import_module(name)
    from xenlike.xenbus.registry import driver_types

    driver_types()
    name_process(b"xl-zygote")
    # The heap is shared with every child for as long as nobody writes to it; a collection would.
    gc.collect()
    gc.disable()
    gc.freeze()
    hypervisor.send(REPORT.pack(0, READY))
    asked = select.poll()
    asked.register(hypervisor, select.POLLIN)
    spare: Spare | None = None
    rehearsed = False
    while True:
        if spare is None and not asked.poll(IDLE_MS):
            if not rehearsed:
                rehearsed = True
                rehearse(ROUNDS)
            spare = Spare.make(hypervisor)
        request, fds = recv_message(hypervisor, REQUEST.size, 2)
        if not request:
            return
        pid = spare.become(request, fds) if spare is not None else 0
        spare = None
        pid = pid or fork_domain(hypervisor, request, fds)
        for received in fds:
            os.close(received)
        hypervisor.send(REPORT.pack(REQUEST.unpack(request)[0], pid))


def fork_domain(hypervisor: socket.socket, request: bytes, fds: list[int]) -> int:
    """Forks one domain.

    Args:
        hypervisor: closed in the child.
        request: says which.
        fds: what came with it.

    Returns:
        The domain's pid, by now a child of the hypervisor; 0 when the fork failed.
    """
    try:
        pid = _core.fork_orphan()
    except OSError:
        return 0
    if pid == 0:
        hypervisor.close()
        be_domain(request, fds)
    return pid


if __name__ == "__main__":
    main(int(sys.argv[1]))
