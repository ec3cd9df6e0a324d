"""The zygote process: `python -m xenlike.zygote FD`, FD being a socket to the hypervisor.

    hypervisor                      zygote                     domain
                            <-      ready
    (domid, name) + socket  ->
                                    fork              ->       bootstrap (the hypervisor holds the reply)
                            <-      (domid, pid)
    reply to the bootstrap  ------------------------------->   death signal set, parent checked, entry

The child is an orphan from its first moment, and so the hypervisor's (see `_core.fork_orphan`).
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import struct
import sys

from xenlike import _core
from xenlike._core.fds import recv_message

REQUEST = struct.Struct("<H62s")
REPORT = struct.Struct("<Hxxi")
READY = -1

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
    _name_process(b"xl-zygote")
    # The heap is shared with every child for as long as nobody writes to it; a collection would.
    gc.collect()
    gc.disable()
    gc.freeze()
    hypervisor.send(REPORT.pack(0, READY))
    while True:
        message, fds = recv_message(hypervisor, REQUEST.size, 2)
        if not message:
            return
        domid, name = REQUEST.unpack(message)
        pid = fork_domain(hypervisor, domid, name.rstrip(b"\0"), fds)
        for received in fds:
            os.close(received)
        hypervisor.send(REPORT.pack(domid, pid))


def fork_domain(hypervisor: socket.socket, domid: int, name: bytes, fds: list[int]) -> int:
    """Forks one domain.

    Args:
        hypervisor: closed in the child.
        domid: for the process's name only.
        name: likewise.
        fds: the domain's hypercall socket, and maybe where its descriptors 1 and 2 go.

    Returns:
        The domain's pid, by now a child of the hypervisor; 0 when the fork failed.
    """
    try:
        pid = _core.fork_orphan()
    except OSError:
        return 0
    if pid == 0:
        hypervisor.close()
        _be_domain(domid, name, fds)
    return pid


def _be_domain(domid: int, name: bytes, fds: list[int]) -> None:
    status = 1
    try:
        _name_process(b"xl-d%d-%s" % (domid, name))
        if len(fds) > 1:
            os.dup2(fds[1], 1)
            os.dup2(fds[1], 2)
            os.close(fds[1])
        gc.enable()
        from xenlike.domain.runtime import run_domain

        status = run_domain(fds[0])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # Nothing of the zygote's is to be run at exit in its name.
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _name_process(name: bytes) -> None:
    with open("/proc/self/comm", "wb") as comm:
        comm.write(name[:15])


if __name__ == "__main__":
    main(int(sys.argv[1]))
