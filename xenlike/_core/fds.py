"""Messages with descriptors over Unix sockets.

Here because `socket.recv_fds` of Python 3.11 drops its flags, and with them close-on-exec and non-blocking.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence


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
    """
    fds = array.array("i")
    space = socket.CMSG_SPACE(max_fds * fds.itemsize) if max_fds else 0
    data, ancillary, _, _ = sock.recvmsg(max_bytes, space, flags | socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)
