"""Domains on their store rings (Xen, docs/misc/xenstore-ring.txt).

The page is the domain's, and so is every index and byte in it. The domain may have the ring reset at
any time by setting `connection` to 1; after a restart of the daemon it must, because nobody knows
what was half-way, and so a ring from the log is left alone until then.
"""

from __future__ import annotations

import errno
import logging
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from xenlike.abi import xs_wire as xs
from xenlike.errors import ProtocolError
from xenlike.ring.stream import XenstoreStreams
from xenlike.xenstored.connection import Connection
from xenlike.xenstored.rules import Refused

if TYPE_CHECKING:
    from xenlike.xenstored.server import Server
    from xenlike.xenstored.sessions import Session

__all__ = ["Channel", "RingConnection", "RingEnds", "RingHost"]

logger = logging.getLogger(__name__)

_FEATURES = xs.XENSTORE_SERVER_FEATURE_RECONNECTION | xs.XENSTORE_SERVER_FEATURE_ERROR


class Channel(Protocol):
    """What the daemon needs of an event channel."""

    rx_fd: int

    def notify(self) -> None:
        """Sends an event."""

    def drain(self) -> bool:
        """Takes pending events; True when the peer has hung up."""

    def close(self) -> None:
        """Closes this end."""


@dataclass
class RingEnds:
    """A domain's ring, mapped and bound.

    Args:
        page: the shared page, writable.
        channel: its event channel.
        port: the domain's port of that.
        unmap: gives the page back.
    """

    page: memoryview
    channel: Channel
    port: int
    unmap: Callable[[], None]


class RingConnection(Connection):
    """One domain.

    Args:
        server: whose loop it lives in.
        domid: the domain.
        ends: its ring.
        waits: leave the ring alone until the domain asks for a reconnection.
    """

    portion = xs.XENSTORE_RING_SIZE

    def __init__(self, server: Server, domid: int, ends: RingEnds, *, waits: bool) -> None:
        super().__init__(server, domid, domid == 0, f"d{domid}")
        self._ends = ends
        self._streams = XenstoreStreams(ends.page, domid=domid)
        self._listening = False
        # Not served until a reconnection: taken from the log, or broken by the domain. A ring that nobody has
        # served yet is whole, and its domain may never learn that there was another daemon before.
        self._stopped = waits and not self._streams.untouched
        self._streams.server_features = _FEATURES
        self._listen()
        # The domain may have been faster than we.
        server.again.append(self)

    def receive(self) -> bytes:
        """Takes what is in the ring; see `Connection`."""
        return self._streams.requests.read()

    def transmit(self, data: bytes) -> int:
        """Puts what fits; the domain says when there is room again."""
        try:
            return self._streams.responses.write(data)
        except ProtocolError as error:
            logger.warning("%s", error)
            self.fail(error)
            return len(data)

    def serve(self) -> None:
        """Handles what is in the ring, or the wish for a fresh one."""
        if self.is_closed():
            return
        if self._streams.connection == xs.XENSTORE_RECONNECT:
            self.reset()
        if self._stopped:
            return
        super().serve()
        # Even without an answer: the domain may wait for room.
        self.wake()

    def flush(self) -> None:
        """Sends what waits, and tells the domain if anything moved."""
        if self.is_closed() or self._stopped:
            return
        super().flush()
        if not self.is_closed() and self._streams.kick():
            self._ends.channel.notify()

    def fail(self, error: ProtocolError) -> None:
        """Stops serving a domain that broke the protocol; it is told why, and may reconnect."""
        self.restart()
        self._stopped = True
        broken = self._streams.requests.broken or self._streams.responses.broken
        self._streams.error = xs.XENSTORE_ERROR_RINGIDX if broken else xs.XENSTORE_ERROR_PROTO
        self._ends.channel.notify()

    def reset(self) -> None:
        """Does the daemon's part of a reconnection."""
        logger.info("%s: ring reset", self.name)
        self.restart()
        self._stopped = False
        self._streams.reset()
        self._streams.error = xs.XENSTORE_ERROR_NONE
        self._streams.server_features = _FEATURES
        self._streams.connection = xs.XENSTORE_CONNECTED
        self._ends.channel.notify()

    @property
    def port(self) -> int:
        """The domain's port."""
        return self._ends.port

    @property
    def is_bound(self) -> bool:
        """Says whether the domain still holds its end of the event channel."""
        return self._listening

    def rebind(self, channel: Channel, port: int) -> None:
        """Begins afresh on another event channel."""
        self._deafen()
        self._ends.channel.close()
        self._ends.channel, self._ends.port = channel, port
        self._listen()
        self.reset()

    def close(self) -> None:
        """Lets go of the ring; idempotent."""
        if self.is_closed():
            return
        self._over = True
        self.outbox.clear()
        self._deafen()
        self._ends.channel.close()
        self._streams.close()
        self._ends.unmap()

    def _ready(self, mask: int) -> None:
        if self._ends.channel.drain():
            # The domain is dying, which the hypervisor tells, or will be introduced anew.
            self._deafen()
            return
        self.serve()

    def _listen(self) -> None:
        self._listening = True
        self.server.register(self._ends.channel.rx_fd, select.EPOLLIN, self._ready)

    def _deafen(self) -> None:
        if self._listening:
            self._listening = False
            self.server.unregister(self._ends.channel.rx_fd)


class RingHost:
    """Attaches and detaches rings when the store says so.

    Args:
        server: whose loop they live in.
        map_page: maps a domain's grant reference 1; returns the page and what unmaps it.
        bind: binds a domain's port.
    """

    def __init__(
        self,
        server: Server,
        map_page: Callable[[int], tuple[memoryview, Callable[[], None]]],
        bind: Callable[[int, int], Channel],
    ) -> None:
        self._server = server
        self._map_page = map_page
        self._bind = bind
        self.connections: dict[int, RingConnection] = {}
        # Rings that are attached now come from the log.
        self.restoring = False

    def attach(self, domid: int, port: int) -> Session:
        """Maps a ring and begins to serve it.

        Raises:
            Refused: with the hypervisor's error.
        """
        try:
            page, unmap = self._map_page(domid)
        except OSError as error:
            raise _refused(f"d{domid}: store page cannot be mapped", error) from error
        try:
            channel = self._bind(domid, port)
        except OSError as error:
            unmap()
            raise _refused(f"d{domid}: port {port} cannot be bound", error) from error
        ends = RingEnds(page, channel, port, unmap)
        connection = RingConnection(self._server, domid, ends, waits=self.restoring)
        self.connections[domid] = connection
        return connection.session

    def rebind(self, domid: int, port: int) -> bool:
        """Begins afresh on another port; see `Rings.rebind`.

        Raises:
            Refused: with the hypervisor's error.
        """
        connection = self.connections[domid]
        if connection.port == port and connection.is_bound:
            return False
        try:
            channel = self._bind(domid, port)
        except OSError as error:
            raise _refused(f"d{domid}: port {port} cannot be bound", error) from error
        connection.rebind(channel, port)
        return True

    def detach(self, domid: int) -> None:
        """Lets go of a ring."""
        self.connections.pop(domid).close()


def _refused(what: str, error: OSError) -> Refused:
    logger.warning("%s: %s", what, error)
    name = errno.errorcode.get(error.errno or 0, "EIO")
    return Refused(name if name in xs.XSD_ERRORS else "EIO")
