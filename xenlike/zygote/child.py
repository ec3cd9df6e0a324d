"""What the zygote and its children have in common: the request for a domain, and becoming that domain."""

from __future__ import annotations

import gc
import os
import struct
import sys
from typing import NoReturn

REQUEST = struct.Struct("<H62s")
"""Domid and name of a domain; its hypercall socket comes with it, and maybe where its descriptors 1 and 2 go."""


def name_process(name: bytes) -> None:
    """Sets the name that `ps` and `top` show."""
    with open("/proc/self/comm", "wb") as comm:
        comm.write(name[:15])


def be_domain(request: bytes, fds: list[int]) -> NoReturn:
    """Is the requested domain from here on, and ends with it.

    Args:
        request: a `REQUEST`; it is for the process's name only.
        fds: what came with it.
    """
    status = 1
    try:
        domid, name = REQUEST.unpack(request)
        name_process(b"xl-d%d-%s" % (domid, name.rstrip(b"\0")))
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
