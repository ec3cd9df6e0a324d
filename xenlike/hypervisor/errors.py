"""How a hypercall is refused inside the hypervisor."""

from __future__ import annotations

import os


class Refused(Exception):
    """The hypercall ends with `-errno`; the caller's domain goes on.

    Args:
        errno: positive errno, Xen's numbers.
    """

    def __init__(self, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.errno = errno
