"""Messages with descriptors over Unix sockets.

Here because `socket.recv_fds` of Python 3.11 drops its flags, and with them close-on-exec and non-blocking.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Sequence


class DescriptorsLost(OSError):
    """A message came without all of its descriptors: this process has as many as it may (EMFILE).

    Args:
        data: the message, which is whole. Those of its descriptors that came are closed.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(errno.EMFILE, "this process has too many open files to take those that came with a message")
        self.data = data


def send_message(sock: socket.socket, data: bytes, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Sends one message, with duplicates of descriptors; never raises a signal."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary, flags | socket.MSG_NOSIGNAL)


def recv_message(sock: socket.socket, max_bytes: int, max_fds: int = 0, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receives one message.

    Args:
        sock: a Unix socket.
        max_bytes: the rest of a longer message is lost.
        max_fds: the kernel closes what comes beyond; with 0 nobody can make this process hold one.
        flags: such as `MSG_DONTWAIT`.

    Returns:
        The data, empty at the end; the descriptors, close-on-exec, now the caller's.

    Raises:
        DescriptorsLost: some of them could not be taken.
        OSError: as `recvmsg`.
    """
    fds = array.array("i")
    space = socket.CMSG_SPACE(max_fds * fds.itemsize) if max_fds else 0
    data, ancillary, came, _ = sock.recvmsg(max_bytes, space, flags | socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if max_fds and came & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise DescriptorsLost(data)
    return data, list(fds)
