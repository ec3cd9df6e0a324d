"""Numbers of Xen's `xen.h`, `version.h` and `errno.h`: hypercalls, domids, virtual interrupts."""

from __future__ import annotations

from typing import Final

DOMID_FIRST_RESERVED: Final = 0x7FF0
DOMID_SELF: Final = 0x7FF0
DOMID_IO: Final = 0x7FF1
DOMID_XEN: Final = 0x7FF2
DOMID_COW: Final = 0x7FF3
DOMID_INVALID: Final = 0x7FF4
DOMID_IDLE: Final = 0x7FFF
DOMID_MASK: Final = 0x7FFF

VIRQ_TIMER: Final = 0
VIRQ_DEBUG: Final = 1
VIRQ_CONSOLE: Final = 2
VIRQ_DOM_EXC: Final = 3
VIRQ_TBUF: Final = 4
VIRQ_DEBUGGER: Final = 6
VIRQ_XENOPROF: Final = 7
VIRQ_CON_RING: Final = 8
VIRQ_PCPU_STATE: Final = 9
VIRQ_MEM_EVENT: Final = 10
VIRQ_ARGO: Final = 11
VIRQ_ENOMEM: Final = 12
VIRQ_XENPMU: Final = 13
VIRQ_ARCH_0: Final = 16
NR_VIRQS: Final = 24

XENVER_version: Final = 0
XENVER_extraversion: Final = 1
XENVER_capabilities: Final = 3
XENVER_get_features: Final = 6
XENVER_pagesize: Final = 7

CONSOLEIO_write: Final = 0
CONSOLEIO_read: Final = 1

XEN_VERSION: Final = (4, 17)
"""The release whose public headers the declarations follow."""

XEN_ERRNO: Final = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EIO": 5, "ENXIO": 6, "E2BIG": 7, "ENOEXEC": 8, "EBADF": 9,
    "ECHILD": 10, "EAGAIN": 11, "EWOULDBLOCK": 11, "ENOMEM": 12, "EACCES": 13, "EFAULT": 14,
    "EBUSY": 16, "EEXIST": 17, "EXDEV": 18, "ENODEV": 19, "ENOTDIR": 20, "EISDIR": 21, "EINVAL": 22,
    "ENFILE": 23, "EMFILE": 24, "ENOSPC": 28, "EROFS": 30, "EMLINK": 31, "EDOM": 33, "ERANGE": 34,
    "EDEADLK": 35, "EDEADLOCK": 35, "ENAMETOOLONG": 36, "ENOLCK": 37, "ENOSYS": 38, "ENOTEMPTY": 39,
    "ENODATA": 61, "ETIME": 62, "EBADMSG": 74, "EOVERFLOW": 75, "EILSEQ": 84, "ENOTSOCK": 88,
    "EMSGSIZE": 90, "EOPNOTSUPP": 95, "EADDRINUSE": 98, "EADDRNOTAVAIL": 99, "ENOBUFS": 105,
    "EISCONN": 106, "ENOTCONN": 107, "ETIMEDOUT": 110, "ECONNREFUSED": 111,
}  # fmt: skip
"""Xen's errno numbers by name (`errno.h`); equal to Linux's on x86."""
