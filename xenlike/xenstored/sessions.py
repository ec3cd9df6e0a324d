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

_PACK = HEADER.pack


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

    __slots__ = ("_frames", "_causes", "_events", "_taken", "_wake", "_limit", "size", "lost")

    def __init__(self, wake: Callable[[], None], limit: int = 1 << 20) -> None:
        self._frames: deque[bytes] = deque()
        # How many messages were taken out so far, by which `_causes` counts: the how-many-th message is charged to
        # which request. Most are charged to nobody.
        self._taken = 0
        self._causes: deque[tuple[int, Request]] = deque()
        self._events: set[bytes] = set()
        self._wake = wake
        self._limit = limit
        self.size = 0
        self.lost = False

    def reply(self, kind: int, req_id: int, tx_id: int, payload: bytes, cause: Request | None = None) -> None:
        """Puts an answer."""
        frames, size = self._frames, len(payload)
        if not frames:
            self._wake()
        if cause is not None:
            self._charge(cause)
        frames.append(_PACK(kind, req_id, tx_id, size) + payload)
        self.size += 16 + size

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
            self._charge(cause)
        self._frames.append(_PACK(XS_WATCH_EVENT, 0, 0, len(payload)) + payload)
        self.size += 16 + len(payload)
        if self.size > self._limit:
            self.lost = True
            self._wake()

    def _charge(self, cause: Request) -> None:
        """Charges the next message to a request."""
        cause.caused()
        self._causes.append((self._taken + len(self._frames), cause))

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
        self._settle(len(taken))
        self.size -= size
        return b"".join(taken)

    def clear(self) -> None:
        """Forgets everything."""
        self._settle(len(self._frames))
        self._frames.clear()
        if self._events:
            self._events.clear()
        self.size = 0
        self.lost = False

    def _settle(self, count: int) -> None:
        """Notes that so many messages wait no more."""
        self._taken += count
        causes = self._causes
        while causes and causes[0][0] < self._taken:
            causes.popleft()[1].settled()


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
