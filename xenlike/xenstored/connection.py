"""One client's connection: bytes in, messages to the store, messages out, and back-pressure.

A client that does not read its answers is not read from until it does. One that also lets watch
events pile up beyond a bound is dropped. Nobody gets more than a few messages a turn, so that a
busy client does not keep the others waiting.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from xenlike.domain.store_wire import FrameReader
from xenlike.errors import ProtocolError
from xenlike.xenstored.sessions import Outbox, Session

if TYPE_CHECKING:
    from xenlike.xenstored.server import Server

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

# Messages a turn.
_TURN = 64
# Bytes of output beyond which no more is read, and the size of one transmission.
_HIGH_WATER = 1 << 16


class Connection:
    """What sockets and rings have in common.

    Args:
        server: whose loop it lives in.
        domid: whom the client counts as.
        privileged: no permission or quota holds it back.
        name: for the log.
    """

    # Whether one receive a turn is enough, because the loop comes back while there is more.
    level_triggered = False
    # Bytes that are taken out of the outbox at a time; they count as delivered.
    portion = _HIGH_WATER

    def __init__(self, server: Server, domid: int, privileged: bool, name: str) -> None:
        self.server = server
        self.name = name
        self.outbox = Outbox(self.wake)
        self.session = Session(domid, privileged, self.outbox)
        self._over = False
        self.paused = False
        self._reader = FrameReader()
        self._unsent = b""

    def is_closed(self) -> bool:
        """Says whether the connection is over."""
        return self._over

    def receive(self) -> bytes:
        """Returns what has come in; nothing if nothing has."""
        raise NotImplementedError

    def transmit(self, data: bytes) -> int:
        """Sends and returns how much of it went out; when less than all, it arranges for `wake`."""
        raise NotImplementedError

    def fail(self, error: ProtocolError) -> None:
        """Ends the conversation with a client that broke the protocol."""
        raise NotImplementedError

    def wake(self) -> None:
        """Has `flush` called at the end of the turn."""
        self.server.dirty.append(self)

    def serve(self) -> None:
        """Handles what has come in, up to a turn's worth."""
        if self.is_closed() or self.paused:
            return
        store, session, reader, outbox = self.server.store, self.session, self._reader, self.outbox
        handle, take = store.handle, reader.take
        received = False
        try:
            for _ in range(_TURN):
                if not session.privileged and store.is_stalled(session):
                    self.server.stalled.add(self)
                    return
                message = take()
                while message is None:
                    if received and self.level_triggered:
                        return
                    data = self.receive()
                    if not data:
                        return
                    received = True
                    reader.feed(data)
                    message = take()
                handle(session, *message)
                if self.is_closed():
                    return
                if outbox.size + len(self._unsent) > _HIGH_WATER:
                    self.pause(True)
                    return
        except ProtocolError as error:
            logger.warning("%s: %s", self.name, error)
            self.fail(error)
        except Exception:
            # A defect of ours; it must not take the other clients along.
            logger.exception("%s: message could not be handled", self.name)
            self.fail(ProtocolError("internal error"))
        else:
            self.server.again.append(self)

    def flush(self) -> None:
        """Sends what waits, as far as the client takes it."""
        if self.is_closed():
            return
        outbox = self.outbox
        if outbox.lost:
            logger.warning("%s: does not read its watch events", self.name)
            self.fail(ProtocolError("watch events are not read"))
            return
        while outbox.size or self._unsent:
            data = self._unsent or outbox.take(self.portion)
            self._unsent = data[self.transmit(data) :]
            if self.is_closed():
                return
            if self._unsent:
                break
        if self.paused and outbox.size + len(self._unsent) <= _HIGH_WATER // 2:
            self.pause(False)
            self.server.again.append(self)

    def pause(self, paused: bool) -> None:
        """Stops reading from the client, or goes on."""
        self.paused = paused

    def restart(self) -> None:
        """Begins afresh on a message boundary, with no watch and no transaction."""
        self.server.store.forget(self.session)
        self.outbox.clear()
        self._reader.clear()
        self._unsent = b""
        self.paused = False

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        return self.outbox.size + len(self._unsent)
