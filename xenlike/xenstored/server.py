"""The loop: one thread, one epoll, no timer. It sleeps until a descriptor has something to say.

A turn handles what every ready client sent, writes the log once, and only then sends the answers and
events: whoever has an answer knows that a daemon killed right now will still know of the change.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable

from xenlike.xenstored.connection import Connection
from xenlike.xenstored.log import Log
from xenlike.xenstored.rings import Channel, RingHost
from xenlike.xenstored.rules import Quotas
from xenlike.xenstored.sockets import Listener, SocketConnection
from xenlike.xenstored.store import Store

__all__ = ["Server"]

logger = logging.getLogger(__name__)


class Server:
    """A store and its clients.

    Args:
        quotas: limits of unprivileged domains.
        exists: says whether there is a domain; see `Store`.
    """

    def __init__(self, quotas: Quotas | None = None, exists: Callable[[int], bool] | None = None) -> None:
        self.store = Store(quotas, exists=exists)
        self.dirty: list[Connection] = []
        self.again: list[Connection] = []
        # Domains that hold too much to be served.
        self.stalled: set[Connection] = set()
        self._poll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._log: Log | None = None
        self._rings: RingHost | None = None
        self._listeners: list[Listener] = []
        self._sockets: set[SocketConnection] = set()

    # --- what to serve ---

    def use_rings(
        self,
        map_page: Callable[[int], tuple[memoryview, Callable[[], None]]],
        bind: Callable[[int, int], Channel],
    ) -> None:
        """Serves domains too; see `RingHost`. To be called before `use_log`."""
        self._rings = RingHost(self, map_page, bind)
        self.store.rings = self._rings

    def use_log(self, fd: int) -> None:
        """Builds the store from what the log says, and keeps it up to date from then on.

        Args:
            fd: the log, which the caller keeps open.

        Raises:
            ValueError: it is not a store's log.
        """
        log = Log(fd)
        introduced = self.store.replay(log.entries())
        self.store.keep_log(log.append)
        self._log = log
        if self._rings is None:
            return
        self._rings.restoring = True
        for record in introduced:
            self.store.restore(record)
        self._rings.restoring = False

    def listen(self, sock: socket.socket, admits: Callable[[int], bool] = lambda pid: True) -> None:
        """Serves who connects to a listening socket, as domain 0.

        Args:
            sock: taken over.
            admits: says whether a process may, by its pid.
        """
        self._listeners.append(Listener(self, sock, admits))

    def mourn_on(self, channel: Channel, states: Callable[[], Callable[[int], str | None]]) -> None:
        """Looks after dead domains whenever a channel says so, and once now.

        Args:
            channel: VIRQ_DOM_EXC.
            states: returns a function that tells a domain's state, as `Store.mourn` wants it.
        """

        def ready(mask: int) -> None:
            if channel.drain():
                self.unregister(channel.rx_fd)
            self.store.mourn(states())

        self.register(channel.rx_fd, select.EPOLLIN, ready)
        self.store.mourn(states())

    def introduce(self, domid: int, port: int) -> None:
        """Serves a domain that is known from the start, unless the log knew it already.

        Raises:
            Refused: its ring cannot be mapped or its port not be bound.
        """
        known = self.store.domains.get(domid)
        if known is None or known.port != port or not known.is_attached:
            self.store.introduce(domid, 0, port)
            self.store.publish()

    # --- the loop ---

    def run(self) -> None:
        """Serves until an exception ends it.

        Raises:
            OSError: the log cannot be written; what was not logged was not answered.
        """
        self._end_turn()
        poll, find = self._poll.poll, self._callbacks.get
        while True:
            for fd, mask in poll(0 if self.again else -1):
                callback = find(fd)
                if callback is not None:
                    callback(mask)
            self._end_turn()

    def _end_turn(self) -> None:
        if self.again:
            again, self.again = self.again, []
            for connection in again:
                connection.serve()
        log = self._log
        if log is not None and log.flush() and log.wants_compaction:
            try:
                log.compact(self.store.snapshot())
            except OSError as error:
                logger.warning("log cannot be compacted: %s", error)
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                connection.flush()
        if self.stalled:
            free = [c for c in self.stalled if c.is_closed() or not self.store.is_stalled(c.session)]
            self.stalled.difference_update(free)
            self.again += free

    def close(self) -> None:
        """Lets go of everything; the log stays as it is."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self._sockets):
            connection.close()
        if self._rings is not None:
            for ring in self._rings.connections.values():
                ring.close()
        self._poll.close()

    # --- for connections ---

    def register(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Calls back when a descriptor is ready."""
        self._callbacks[fd] = callback
        self._poll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        """Changes what a descriptor is asked for."""
        self._poll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Asks a descriptor no more."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def opened(self, connection: SocketConnection) -> None:
        """Notes a new connection."""
        self._sockets.add(connection)

    def closed(self, connection: SocketConnection) -> None:
        """Notes that a connection is no more."""
        self._sockets.discard(connection)
        for listener in self._listeners:
            listener.resume()
