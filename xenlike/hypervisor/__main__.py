"""The hypervisor process: `python -m xenlike.hypervisor FD LOCK_FD REAPER_FD STORE_DOMID PARENT_PID [SEGMENT]`.

Started by the toolstack with domain 0's hypercall socket. It keeps two descriptors only for what their
closing tells when it dies, however it dies: the machine's lock, and the pipe its reaper waits on. SEGMENT is the
name under which it publishes statistics.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys

from xenlike import _core
from xenlike.hypervisor.loop import Loop


def main(arguments: list[str]) -> None:
    """Runs the hypervisor until domain 0 is gone."""
    socket_fd, _lock_fd, _reaper_fd, store_domid, parent_pid = (int(word) for word in arguments[:5])
    statistics = arguments[5] if len(arguments) > 5 else ""
    logging.basicConfig(format="xenlike hypervisor: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _core.set_dumpable(False)
    _core.set_child_subreaper(True)
    with open("/proc/self/comm", "w") as comm:
        comm.write("xl-hypervisor")
    dom0 = socket.socket(fileno=socket_fd)
    for fd in (socket_fd, _lock_fd, _reaper_fd):
        os.set_inheritable(fd, False)
    try:
        loop = Loop(dom0, store_domid, parent_pid, statistics)
    except ProcessLookupError:
        # Domain 0 died while this process started.
        return
    gc.freeze()
    loop.run()


if __name__ == "__main__":
    main(sys.argv[1:])
