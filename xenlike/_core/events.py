"""Notify and clear an event channel, whose carrier is a non-blocking pipe per direction.

One byte or many mean "pending", an empty pipe "clear", end of file "the peer is gone".
"""

from __future__ import annotations

import os

from xenlike._core import lib

_HANG_UP = 2


def notify(fd: int) -> bool:
    """Makes the channel pending; never blocks.

    Args:
        fd: the write end; must be non-blocking.

    Returns:
        True if the event is pending now, also when it was before; False if the peer closed its end or died.

    Raises:
        OSError: `fd` is not a writable descriptor.
    """
    result: int = lib.xl_notify(fd)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result == 1


def drain(fd: int) -> bool:
    """Clears the channel; never blocks.

    Args:
        fd: the read end; must be non-blocking.

    Returns:
        True if the peer closed its end or died. Events sent before that may come with an earlier call:
        look at the rings after every drain, whatever it returns.

    Raises:
        OSError: `fd` is not a readable descriptor.
    """
    result: int = lib.xl_drain(fd)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return bool(result & _HANG_UP)
