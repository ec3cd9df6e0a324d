"""A store client for scripts: no event loop, one request at a time, over the daemon's Unix socket.

    with SyncStore("/run/xenstored/socket") as store:
        store.write("/vm/name", "web")
        with store.transaction() as tx:
            tx.write("/vm/count", int(tx.read("/vm/count")) + 1)

A watch fires into a queue that `wait_event` reads; `fileno` is for a loop that waits for more.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from xenlike.abi import xs_wire as xs
from xenlike.domain import store_requests as rq
from xenlike.domain.store_wire import Frame, FrameReader, Perm, frame
from xenlike.errors import Conflict, NoEntry, PeerGone, ProtocolError, StoreDenied, XenstoreError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["SyncStore", "SyncTransaction"]

T = TypeVar("T")

_ATTEMPTS = 100
_CHUNK = 1 << 16


class _SyncRequests:
    """Operations on nodes; errors are the precise kinds of `XenstoreError`, and `PeerGone`."""

    def _request(self, request: rq.Request) -> bytes:
        raise NotImplementedError

    def read_bytes(self, path: str) -> bytes:
        """Returns a node's value; raises `NoEntry` or `StoreDenied`."""
        return self._request(rq.of_path(xs.XS_READ, path))

    def read(self, path: str) -> str:
        """Returns a node's value as text."""
        return rq.decode_value(self.read_bytes(path))

    def get(self, path: str, default: str | None = None) -> str | None:
        """Returns a node's value as text, or the default where there is none."""
        try:
            return self.read(path)
        except (NoEntry, StoreDenied):
            return default

    def exists(self, path: str) -> bool:
        """Says whether there is a node."""
        return self.get(path) is not None

    def write(self, path: str, value: rq.Value) -> None:
        """Writes a node, made with all above it if need be."""
        self._request(rq.write(path, value))

    def mkdir(self, path: str) -> None:
        """Makes sure that a node exists."""
        self._request(rq.of_path(xs.XS_MKDIR, path))

    def rm(self, path: str) -> None:
        """Makes sure that a node and what is below it do not exist."""
        try:
            self._request(rq.of_path(xs.XS_RM, path))
        except NoEntry:
            pass

    def ls(self, path: str) -> list[str]:
        """Returns the names of a node's children, in the order of their creation."""
        try:
            return rq.decode_listing(self._request(rq.of_path(xs.XS_DIRECTORY, path)))
        except XenstoreError as error:
            if error.name != "E2BIG":
                raise
        while True:
            listing, first, done = b"", b"", False
            while not done:
                payload = rq.of_path(xs.XS_DIRECTORY_PART, path).payload + b"%d\0" % len(listing)
                reply = self._request(rq.Request(xs.XS_DIRECTORY_PART, payload, path))
                generation, listing, done = rq.read_part(listing, reply)
                first = first or generation
                if generation != first:
                    break
            else:
                return rq.decode_listing(listing)

    def get_perms(self, path: str) -> list[Perm]:
        """Returns a node's permissions, the owner's entry first."""
        return rq.decode_perms(self._request(rq.of_path(xs.XS_GET_PERMS, path)))

    def set_perms(self, path: str, perms: Iterable[Perm | str]) -> None:
        """Changes a node's permissions."""
        self._request(rq.set_perms(path, perms))

    def walk(self, path: str = "/") -> Iterator[tuple[str, bytes]]:
        """Yields path and value of a node and all below it, parents first; skips what may not be read."""
        left = [path]
        while left:
            path = left.pop()
            try:
                value, names = self.read_bytes(path), self.ls(path)
            except (NoEntry, StoreDenied):
                continue
            yield path, value
            left += [f"{path.rstrip('/')}/{name}" for name in reversed(names)]


class SyncTransaction(_SyncRequests):
    """Requests that take effect together or not at all."""

    def __init__(self, store: SyncStore, tx_id: int) -> None:
        self._store = store
        self.tx_id = tx_id

    def _request(self, request: rq.Request) -> bytes:
        return self._store._exchange(request, self.tx_id)


class SyncStore(_SyncRequests):
    """A connection to a store daemon.

    Args:
        address: the socket's path, or a connected socket, which is taken over.

    Raises:
        OSError: nobody serves that path.
    """

    def __init__(self, address: str | os.PathLike[str] | socket.socket) -> None:
        if isinstance(address, socket.socket):
            self._socket = address
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(address))
            except OSError:
                self._socket.close()
                raise
        self._reader = FrameReader()
        self._next_id = 1
        self._events: deque[tuple[str, str]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; its watches and transactions end with it."""
        self._socket.close()

    def fileno(self) -> int:
        """Returns the descriptor, readable when a watch has fired."""
        return self._socket.fileno()

    @contextmanager
    def transaction(self) -> Iterator[SyncTransaction]:
        """Runs its body as one transaction; an exception discards it.

        Raises:
            Conflict: what the body looked at was changed meanwhile; nothing has happened.
        """
        reply = self._request(rq.Request(xs.XS_TRANSACTION_START, b"\0", "transaction"))
        tx = SyncTransaction(self, int(reply.rstrip(b"\0")))
        try:
            yield tx
        except BaseException:
            try:
                tx._request(rq.Request(xs.XS_TRANSACTION_END, b"F\0", "transaction"))
            except (XenstoreError, PeerGone):
                pass
            raise
        tx._request(rq.Request(xs.XS_TRANSACTION_END, b"T\0", "transaction"))

    def transact(self, action: Callable[[SyncTransaction], T], *, attempts: int = _ATTEMPTS) -> T:
        """Runs an action as a transaction, again from its start when another change came between.

        Raises:
            Conflict: no attempt got through.
        """
        for left in range(attempts, 0, -1):
            try:
                with self.transaction() as tx:
                    result = action(tx)
            except Conflict:
                if left == 1:
                    raise
            else:
                return result
        raise ValueError(f"attempts={attempts}: at least one")

    def watch(self, path: str, token: str = "watch") -> None:
        """Watches a node and all below it; `wait_event` tells, once straight away."""
        self._request(rq.Request(xs.XS_WATCH, f"{path}\0{token}\0".encode(), path))

    def unwatch(self, path: str, token: str = "watch") -> None:
        """Ends a watch; events that came already are still told."""
        self._request(rq.Request(xs.XS_UNWATCH, f"{path}\0{token}\0".encode(), path))

    def wait_event(self, timeout_s: float | None = None) -> tuple[str, str] | None:
        """Waits for a watch to fire.

        Args:
            timeout_s: how long; None for ever, 0 for not at all.

        Returns:
            path and token, or None when nothing fired in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            # What came together with an answer waits in the reader, where poll() does not see it.
            while (message := self._reader.take()) is not None:
                if not self._note_event(message):
                    raise ProtocolError(f"xenstored answered request {message[1]}, which is not in flight")
            if self._events:
                break
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            # not select(): a process with many machines has descriptors beyond its 1,024
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if not poll.poll(None if left is None else left * 1000):
                return None
            self._receive()
        return self._events.popleft()

    def get_domain_path(self, domid: int) -> str:
        """Returns the directory that a domain's relative paths are below."""
        return self._request(rq.domains(xs.XS_GET_DOMAIN_PATH, domid)).rstrip(b"\0").decode()

    def is_domain_introduced(self, domid: int) -> bool:
        """Says whether xenstored serves a domain."""
        return self._request(rq.domains(xs.XS_IS_DOMAIN_INTRODUCED, domid)) == b"T\0"

    def control(self, *words: str) -> str:
        """Sends a command to the daemon, such as `control("help")`."""
        payload = "".join(f"{word}\0" for word in words).encode()
        return self._request(rq.Request(xs.XS_CONTROL, payload, " ".join(words))).rstrip(b"\0").decode()

    def _request(self, request: rq.Request) -> bytes:
        return self._exchange(request, 0)

    def _exchange(self, request: rq.Request, tx_id: int) -> bytes:
        rq.checked(request)
        req_id = self._next_id
        self._next_id = (req_id + 1) & 0xFFFFFFFF
        try:
            self._socket.sendall(frame(request.kind, req_id, tx_id, request.payload))
        except OSError as error:
            raise PeerGone(f"xenstored: {error}") from error
        while True:
            message = self._reader.take()
            if message is None:
                self._receive()
            elif not self._note_event(message):
                break
        kind, answered, _, payload = message
        if answered != req_id or kind not in (request.kind, xs.XS_ERROR):
            raise ProtocolError(f"xenstored answered request {answered} with type {kind}, not {req_id}")
        if kind == xs.XS_ERROR:
            raise XenstoreError.named(payload.rstrip(b"\0").decode("ascii", "replace"), request.what)
        return payload

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            raise PeerGone(f"xenstored: {error}") from error
        if not data:
            raise PeerGone("xenstored closed the connection")
        self._reader.feed(data)

    def _note_event(self, message: Frame) -> bool:
        if message[0] != xs.XS_WATCH_EVENT:
            return False
        path, token = message[3].split(b"\0")[:2]
        self._events.append((path.decode("ascii", "replace"), token.decode("utf-8", "replace")))
        return True
