"""Tools on a Unix socket: the client of every program of Xen's that is not a guest."""

from __future__ import annotations

import errno
import logging
import select
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from xenlike.xenstored.connection import Connection

if TYPE_CHECKING:
    from xenlike.errors import ProtocolError
    from xenlike.xenstored.server import Server

__all__ = ["Listener", "SocketConnection"]

logger = logging.getLogger(__name__)

_CHUNK = 1 << 16
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class SocketConnection(Connection):
    """One accepted socket. It counts as domain 0, as the one who may open it does."""

    level_triggered = True

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(server, 0, True, f"socket {sock.fileno()}")
        sock.setblocking(False)
        self._socket = sock
        self._ended = False
        self._blocked = False
        self._mask = select.EPOLLIN
        server.register(sock.fileno(), self._mask, self._ready)

    def receive(self) -> bytes:
        """Takes what has come; notes the end."""
        if self._ended:
            return b""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            logger.debug("%s: %s", self.name, error)
            data = b""
        if not data:
            # What it asked before it left is answered yet, if it listens.
            self._ended = True
            self.wake()
        return data

    def transmit(self, data: bytes) -> int:
        """Sends what the socket takes."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            logger.debug("%s: %s", self.name, error)
            self.close()
            return 0
        self._blocked = sent < len(data)
        return sent

    def flush(self) -> None:
        """Sends what waits; the last thing that a client which has left gets."""
        super().flush()
        if self._ended:
            self.close()
        if self._blocked or self._mask != select.EPOLLIN:
            self._watch()

    def pause(self, paused: bool) -> None:
        """Stops reading from the client, or goes on."""
        super().pause(paused)
        self._watch()

    def fail(self, error: ProtocolError) -> None:
        """Closes: there is no way to find the next message."""
        self.close()

    def close(self) -> None:
        """Ends the connection, its watches and its transactions; idempotent."""
        if self.is_closed():
            return
        self._over = True
        self.server.store.forget(self.session)
        self.outbox.clear()
        self.server.unregister(self._socket.fileno())
        self._socket.close()
        self.server.closed(self)

    def _ready(self, mask: int) -> None:
        if mask == select.EPOLLIN:
            self.serve()
            return
        if mask & select.EPOLLOUT:
            self._blocked = False
            self.wake()
        if self.paused and mask & (select.EPOLLHUP | select.EPOLLERR):
            self.close()
        elif mask & ~select.EPOLLOUT:
            self.serve()

    def _watch(self) -> None:
        mask = (0 if self.paused else select.EPOLLIN) | (select.EPOLLOUT if self._blocked else 0)
        if mask != self._mask and not self.is_closed():
            self._mask = mask
            self.server.modify(self._socket.fileno(), mask)


class Listener:
    """A listening socket.

    Args:
        server: whose loop it lives in.
        sock: taken over.
        admits: says whether a process may connect, by its pid.
    """

    def __init__(self, server: Server, sock: socket.socket, admits: Callable[[int], bool]) -> None:
        sock.setblocking(False)
        self._admits = admits
        self._server = server
        self._socket = sock
        self._resting = False
        server.register(sock.fileno(), select.EPOLLIN, self._ready)

    def _ready(self, mask: int) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    # Being told again and again would cost a CPU; a connection that closes tells.
                    logger.warning("no descriptor for another connection: %s", error)
                    self._resting = True
                    self._server.modify(self._socket.fileno(), 0)
                else:
                    logger.debug("accept: %s", error)
                return
            pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
            if not self._admits(pid):
                logger.warning("process %d may not use the store's socket", pid)
                sock.close()
                continue
            self._server.opened(SocketConnection(self._server, sock))

    def resume(self) -> None:
        """Accepts again, after a descriptor was freed."""
        if self._resting:
            self._resting = False
            self._server.modify(self._socket.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """Accepts no more."""
        self._server.unregister(self._socket.fileno())
        self._socket.close()
