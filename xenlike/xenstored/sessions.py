"""What the store knows about a client, and what it has yet to tell it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from xenlike.abi.xs_wire import XS_WATCH_EVENT
from xenlike.domain.store_wire import HEADER, PAYLOAD_MAX

if TYPE_CHECKING:
    from xenlike.xenstored.transactions import Transaction
    from xenlike.xenstored.watches import Watch

__all__ = ["Outbox", "Request", "Session"]


class Request:
    """A domain's request, outstanding until its answer and every event it caused have been read.

    Args:
        session: the domain that is charged for it.
    """

    __slots__ = ("_session", "_messages")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._messages = 0
        session.outstanding += 1

    def caused(self) -> None:
        """Notes a message that waits somewhere because of it."""
        self._messages += 1

    def settled(self) -> None:
        """Notes that such a message waits no more."""
        self._messages -= 1
        if not self._messages:
            self._session.outstanding -= 1


class Outbox:
    """Messages on their way to one client, in order.

    An event that equals one still waiting here is dropped, as Xen does it: a client that is slow to
    read learns that a path changed, not how often.

    Args:
        wake: called when something is put into an empty outbox, and when the client is lost.
        limit: bytes of events that may wait; beyond it the client is `lost`.
    """

    __slots__ = ("_frames", "_causes", "_events", "_wake", "_limit", "size", "lost")

    def __init__(self, wake: Callable[[], None], limit: int = 1 << 20) -> None:
        self._frames: deque[bytes] = deque()
        # As long as `_frames`: the request that a message is charged to.
        self._causes: deque[Request | None] = deque()
        self._events: set[bytes] = set()
        self._wake = wake
        self._limit = limit
        self.size = 0
        self.lost = False

    def reply(self, kind: int, req_id: int, tx_id: int, payload: bytes, cause: Request | None = None) -> None:
        """Puts an answer."""
        if not self._frames:
            self._wake()
        if cause is not None:
            cause.caused()
        self._frames.append(HEADER.pack(kind, req_id, tx_id, len(payload)) + payload)
        self._causes.append(cause)
        self.size += 16 + len(payload)

    def event(self, payload: bytes, special: bool, cause: Request | None = None) -> None:
        """Puts a watch event; special ones are never dropped as equal."""
        if len(payload) > PAYLOAD_MAX or self.lost:
            return
        if not special:
            if payload in self._events:
                return
            self._events.add(payload)
        if not self._frames:
            self._wake()
        if cause is not None:
            cause.caused()
        self._frames.append(HEADER.pack(XS_WATCH_EVENT, 0, 0, len(payload)) + payload)
        self._causes.append(cause)
        self.size += 16 + len(payload)
        if self.size > self._limit:
            self.lost = True
            self._wake()

    def take(self, most: int) -> bytes:
        """Takes out messages, at least one if there is any and about `most` bytes."""
        frames = self._frames
        if self.size <= most:
            data = b"".join(frames)
            self.clear()
            return data
        taken = []
        size = 0
        while frames and size < most:
            message = frames.popleft()
            if self._events and HEADER.unpack_from(message)[0] == XS_WATCH_EVENT:
                self._events.discard(message[16:])
            taken.append(message)
            size += len(message)
            cause = self._causes.popleft()
            if cause is not None:
                cause.settled()
        self.size -= size
        return b"".join(taken)

    def clear(self) -> None:
        """Forgets everything."""
        self._frames.clear()
        for cause in self._causes:
            if cause is not None:
                cause.settled()
        self._causes.clear()
        self._events.clear()
        self.size = 0
        self.lost = False


class Session:
    """One client: a domain on its ring, or a tool on a socket.

    Args:
        domid: whom it counts as. A tool on a socket counts as domain 0.
        privileged: no permission or quota holds it back.
        outbox: where answers and events go.
    """

    def __init__(self, domid: int, privileged: bool, outbox: Outbox) -> None:
        self.domid = domid
        self.privileged = privileged
        self.outbox = outbox
        self.home = b"/local/domain/%d" % domid
        self.target: int | None = None
        self.watches: dict[tuple[bytes, bytes], Watch] = {}
        # Bytes of their paths and tokens.
        self.watches_size = 0
        # Requests that are not over; see `Request`.
        self.outstanding = 0
        self.transactions: dict[int, Transaction] = {}
        self.next_transaction = 1

    @property
    def memory(self) -> int:
        """Bytes that the client's watches, transactions and unread messages take."""
        return self.watches_size + self.outbox.size + sum([tx.memory for tx in self.transactions.values()])

    def absolute(self, path: bytes) -> bytes:
        """Returns a path as the tree knows it; special names stay as they are."""
        if path[:1] in {b"/", b"@"}:
            return path
        return self.home + b"/" + path
