"""How a store client's bytes travel: over a domain's ring, or over a Unix socket.

Sending never waits: what does not fit is kept and sent when there is room.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import trio

from xenlike.errors import PeerGone, PortClosed, ProtocolError
from xenlike.ring.stream import XenstoreStreams

if TYPE_CHECKING:
    from xenlike.domain.events import EventChannel

__all__ = ["RingTransport", "SocketTransport", "Transport"]

logger = logging.getLogger(__name__)

_CHUNK = 1 << 16


class Transport(Protocol):
    """A connection to the daemon."""

    def send(self, data: bytes) -> None:
        """Sends bytes, now or as soon as there is room; drops them while the daemon is away."""

    async def run(self, received: Callable[[bytes], None], restarted: Callable[[], None]) -> None:
        """Moves bytes until the connection ends.

        Args:
            received: called with what comes in.
            restarted: called when the connection begins afresh and what was sent before is lost.

        Raises:
            PeerGone: the daemon is gone for good.
            ProtocolError: what came makes no sense.
        """


class RingTransport:
    """A domain's store ring.

    Args:
        page: the shared page.
        channel: its event channel.
        reconnect: gets a channel for the next daemon after the death of this one, or None.
    """

    def __init__(
        self, page: memoryview, channel: EventChannel, reconnect: Callable[[], Awaitable[EventChannel]] | None
    ) -> None:
        self._page = page
        self._channel = channel
        self._reconnect = reconnect
        self._streams = XenstoreStreams(page)
        self._unsent = bytearray()
        self._asleep = trio.CancelScope()
        self._failure: ProtocolError | None = None
        # False while the ring is not ours to use: before and during a reconnection.
        self._connected = self._streams.connection == XenstoreStreams.CONNECTED

    def send(self, data: bytes) -> None:
        """Writes into the ring, and keeps what does not fit."""
        if not self._connected:
            return
        try:
            if not self._unsent:
                data = data[self._streams.requests.write(data) :]
                if self._streams.kick():
                    self._channel.notify()
        except ProtocolError as error:
            self._failure = error
            self._asleep.cancel()
            return
        self._unsent += data

    async def run(self, received: Callable[[bytes], None], restarted: Callable[[], None]) -> None:
        """Moves bytes until the daemon is gone for good; see `Transport`."""
        try:
            while True:
                await self._turn(received, restarted)
        finally:
            self._connected = False
            self._streams.close()

    async def _turn(self, received: Callable[[bytes], None], restarted: Callable[[], None]) -> None:
        """Moves what can be moved, and waits for an event."""
        try:
            if not self._connected:
                await self._begin_afresh()
                restarted()
            self._move(received)
            with trio.CancelScope() as self._asleep:
                await self._channel.wait()
            if self._failure is not None:
                raise self._failure
            if self._streams.error:
                logger.warning("xenstored gave up on this ring: error %d", self._streams.error)
                self._leave()
        except PortClosed as error:
            raise PeerGone("the store's event channel was closed") from error
        except PeerGone:
            if self._reconnect is None:
                raise
            logger.info("xenstored is gone: waiting for the next one")
            self._leave()
            self._channel = await self._reconnect()

    def _move(self, received: Callable[[bytes], None]) -> None:
        streams = self._streams
        while data := streams.responses.read():
            received(data)
        if self._unsent:
            del self._unsent[: streams.requests.write(bytes(self._unsent[:_CHUNK]))]
        if streams.kick():
            self._channel.notify()

    def _leave(self) -> None:
        self._connected = False
        self._unsent.clear()

    async def _begin_afresh(self) -> None:
        """Asks for an empty ring and waits until the daemon has made it one."""
        self._streams.connection = XenstoreStreams.RECONNECT
        self._channel.notify()
        while self._streams.connection != XenstoreStreams.CONNECTED:
            await self._channel.wait()
        self._streams.close()
        self._streams = XenstoreStreams(self._page)
        self._connected = True


class SocketTransport:
    """A connected Unix socket.

    Args:
        sock: the caller closes it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._unsent = bytearray()
        self._waiting = trio.Event()

    def send(self, data: bytes) -> None:
        """Writes to the socket, and keeps what does not fit."""
        if not self._unsent:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                # The reader sees the end too, and says so.
                return
            if data:
                self._waiting.set()
        self._unsent += data

    async def run(self, received: Callable[[bytes], None], restarted: Callable[[], None]) -> None:
        """Moves bytes until the daemon is gone; see `Transport`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_rest)
            try:
                await self._receive(received)
            except (PeerGone, ProtocolError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        raise failure

    async def _receive(self, received: Callable[[bytes], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerGone(f"xenstored: {error}") from error
            if not data:
                raise PeerGone("xenstored closed the connection")
            received(data)

    async def _send_rest(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting = trio.Event()
            while self._unsent:
                await trio.lowlevel.wait_writable(self._socket)
                try:
                    del self._unsent[: self._socket.send(self._unsent[:_CHUNK])]
                except BlockingIOError:
                    pass
                except OSError:
                    return
