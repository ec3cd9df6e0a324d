"""The xenstore client of a domain, and of any trio program that has the daemon's socket.

    async with Store.over_socket("/run/xenstored/socket") as store:
        await store.write("/local/domain/3/name", "web")
        async with store.watch("/local/domain/3") as changes:
            async for path in changes: ...

Many requests travel at once on one connection and are told apart by their `req_id`; there is no task
per request. A domain's paths may be relative, to `/local/domain/<domid>`.

When the daemon of a ring dies, the next one finds a client that asks for a fresh ring, registers its
watches again and repeats what was not answered. A transaction cannot be repeated from its middle: it
fails as one does that lost against somebody else's change, and `transact` starts it over.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, TypeVar

import outcome
import trio

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_requests import Reply, Request, Requests, domains
from xenlike.domain.store_transport import RingTransport, SocketTransport, Transport
from xenlike.domain.store_wire import FrameReader, Perm, frame
from xenlike.errors import Conflict, PeerGone, ProtocolError, XenstoreError

if TYPE_CHECKING:
    from xenlike.domain.events import EventChannel

__all__ = ["Perm", "Store", "StoreStatistics", "Transaction", "Watch"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Every attempt that fails means that somebody else's succeeded.
_ATTEMPTS = 100


@dataclass(frozen=True)
class StoreStatistics:
    """Counters of one connection."""

    requests: int
    events: int
    conflicts: int
    reconnections: int
    in_flight: int
    watches: int


class _Batch:
    """Requests sent together, and the task that waits for the last answer."""

    __slots__ = ("replies", "missing", "connection", "task", "abandoned")

    def __init__(self, count: int) -> None:
        self.replies: list[Reply] = [b""] * count
        self.missing = count
        # Which connection the last answer came on.
        self.connection = 0
        self.task: trio.lowlevel.Task | None = None
        # Nobody waits: cancelled, or never meant to.
        self.abandoned = False


class _Pending:
    """One request without an answer yet."""

    __slots__ = ("batch", "index", "request", "tx_id")

    def __init__(self, batch: _Batch, index: int, request: Request, tx_id: int) -> None:
        self.batch = batch
        self.index = index
        self.request = request
        self.tx_id = tx_id


class Watch:
    """A registered watch: `async for path in watch` yields what changed, in the form it was watched.

    The first path comes at once. Changes of one path that were not looked at yet are one.
    """

    def __init__(self, store: Store, path: str, token: bytes) -> None:
        self._store = store
        self.path = path
        self.token = token
        self._changed: dict[str, None] = {}
        self._ready = trio.Event()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> str:
        """Waits for a change and returns its path.

        Raises:
            PeerGone: the connection ended.
        """
        if self._changed:
            await trio.lowlevel.checkpoint()
        while not self._changed:
            self._store._check()
            await self._ready.wait()
        path = next(iter(self._changed))
        del self._changed[path]
        if not self._changed and self._store._failure is None:
            self._ready = trio.Event()
        return path

    def _put(self, path: str) -> None:
        self._changed[path] = None
        self._ready.set()


class Transaction(Requests):
    """Requests that take effect together or not at all; made by `Store.transaction` and `transact`."""

    def __init__(self, store: Store, tx_id: int, connection: int) -> None:
        self._store = store
        self._connection = connection
        self.tx_id = tx_id

    async def _send_all(self, requests: list[Request]) -> list[Reply]:
        if self._connection != self._store._connection:
            # Its daemon is gone, and another transaction may have this number by now.
            raise Conflict("EAGAIN", "the store was restarted in mid-transaction")
        return await self._store._exchange(requests, self.tx_id)

    def _as_sender(self, tx: object) -> Requests:
        if tx is not None and tx is not self:
            raise TypeError("a transaction's request cannot be part of another one")
        return self


class Store(Requests):
    """A connection to xenstored; made by `over_ring` and `over_socket`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reader = FrameReader()
        self._pending: dict[int, _Pending] = {}
        self._watches: dict[bytes, Watch] = {}
        self._next_id = 1
        self._next_token = 1
        # Counts connections, so that a transaction knows that its own is over.
        self._connection = 0
        self._failure: BaseException | None = None
        self._requests = self._events = self._conflicts = 0

    # --- life ---

    @classmethod
    @asynccontextmanager
    async def over_ring(
        cls,
        page: memoryview,
        channel: EventChannel,
        *,
        reconnect: Callable[[], Awaitable[EventChannel]] | None = None,
    ) -> AsyncIterator[Store]:
        """Connects a domain to its store.

        Args:
            page: the shared page of the store ring.
            channel: its event channel.
            reconnect: returns a channel to wait for the next daemon on; without it the death of the
                daemon ends the connection with `PeerGone`.
        """
        store = cls(RingTransport(page, channel, reconnect))
        async with store._running():
            yield store

    @classmethod
    @asynccontextmanager
    async def over_socket(cls, address: str | PathLike[str] | socket.socket) -> AsyncIterator[Store]:
        """Connects a tool to a store daemon.

        Args:
            address: the socket's path, or a connected socket, which is taken over.

        Raises:
            OSError: nobody serves that path.
        """
        if isinstance(address, socket.socket):
            sock = address
        else:
            sock = socket.socket(socket.AF_UNIX)
            try:
                # Connecting to a Unix socket does not wait for its server.
                sock.connect(str(address))
            except OSError:
                sock.close()
                raise
        with sock:
            store = cls(SocketTransport(sock))
            async with store._running():
                yield store

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run)
            try:
                yield
            except Exception as error:
                # Raised outside the nursery, which would wrap it in a group.
                failure = error
            finally:
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _run(self) -> None:
        failure: BaseException = PeerGone("the connection to the store is closed")
        try:
            await self._transport.run(self._received, self._restarted)
        except (OSError, ProtocolError) as error:
            failure = error if isinstance(error, PeerGone | ProtocolError) else PeerGone(f"xenstored: {error}")
        finally:
            self._failure = failure
            for pending in self._pending.values():
                self._abort(pending.batch)
            self._pending.clear()
            for watch in self._watches.values():
                watch._ready.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise PeerGone(str(self._failure)) from self._failure

    # --- transactions and watches ---

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Runs its body as one transaction, which ends with the body; an exception discards it.

        Raises:
            Conflict: what the body looked at was changed meanwhile; nothing has happened. See `transact`.
        """
        batch = await self._round_trip([Request(xs.XS_TRANSACTION_START, b"\0", "transaction")], 0)
        reply = batch.replies[0]
        if not isinstance(reply, bytes):
            raise reply
        tx = Transaction(self, int(reply.rstrip(b"\0")), batch.connection)
        try:
            yield tx
        except BaseException:
            if tx._connection == self._connection:
                self._post(Request(xs.XS_TRANSACTION_END, b"F\0", "transaction"), tx.tx_id)
            raise
        try:
            await tx._request(xs.XS_TRANSACTION_END, b"T\0", "transaction")
        except Conflict:
            self._conflicts += 1
            raise

    async def transact(self, action: Callable[[Transaction], Awaitable[T]], *, attempts: int = _ATTEMPTS) -> T:
        """Runs an action as a transaction, again from its start when another change came between.

        Args:
            action: called with the transaction; it may be called several times.
            attempts: how often.

        Raises:
            Conflict: no attempt got through.
        """
        for left in range(attempts, 0, -1):
            try:
                async with self.transaction() as tx:
                    result = await action(tx)
            except Conflict:
                if left == 1:
                    raise
            else:
                return result
        raise ValueError(f"attempts={attempts}: at least one")

    def watch(self, path: str) -> AbstractAsyncContextManager[Watch]:
        """Watches a node and all below it, as `async with store.watch(path) as changes`.

        Changes are told from the registration on, and the path itself once at the start.
        """
        return self._watching(path)

    @asynccontextmanager
    async def _watching(self, path: str) -> AsyncIterator[Watch]:
        token = b"%x" % self._next_token
        self._next_token += 1
        watch = self._watches[token] = Watch(self, path, token)
        request = _watch_request(xs.XS_WATCH, watch)
        try:
            await self._request(*request)
            yield watch
        finally:
            del self._watches[token]
            if self._failure is None:
                # Not awaited: it must work for a cancelled task too, and late events are dropped here.
                self._post(_watch_request(xs.XS_UNWATCH, watch), 0)

    # --- requests ---

    async def _send_all(self, requests: list[Request]) -> list[Reply]:
        return await self._exchange(requests, 0)

    def _as_sender(self, tx: object) -> Requests:
        if tx is None:
            return self
        if not isinstance(tx, Transaction):
            raise TypeError(f"tx={tx!r} is no transaction")
        return tx

    async def _exchange(self, requests: list[Request], tx_id: int) -> list[Reply]:
        if not requests:
            await trio.lowlevel.checkpoint()
            return []
        return (await self._round_trip(requests, tx_id)).replies

    async def _round_trip(self, requests: list[Request], tx_id: int) -> _Batch:
        """Sends requests and waits for all their answers."""
        self._check()
        batch = _Batch(len(requests))
        self._submit(batch, requests, tx_id)
        batch.task = trio.lowlevel.current_task()

        def abandon(_: object) -> trio.lowlevel.Abort:
            batch.task = None
            batch.abandoned = True
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)
        return batch

    def _post(self, request: Request, tx_id: int) -> None:
        """Sends a request whose answer nobody waits for."""
        if self._failure is None:
            batch = _Batch(1)
            batch.abandoned = True
            self._submit(batch, [request], tx_id)

    def _submit(self, batch: _Batch, requests: list[Request], tx_id: int) -> None:
        data = []
        for index, request in enumerate(requests):
            req_id = self._next_id
            self._next_id = (req_id + 1) & 0xFFFFFFFF or 1
            self._pending[req_id] = _Pending(batch, index, request, tx_id)
            data.append(frame(request.kind, req_id, tx_id, request.payload))
        self._requests += len(requests)
        self._transport.send(b"".join(data))

    def _finish(self, pending: _Pending, reply: Reply) -> None:
        batch = pending.batch
        batch.replies[pending.index] = reply
        batch.missing -= 1
        if not batch.missing and batch.task is not None:
            batch.connection = self._connection
            trio.lowlevel.reschedule(batch.task)
            batch.task = None

    def _abort(self, batch: _Batch) -> None:
        if batch.task is not None:
            trio.lowlevel.reschedule(batch.task, outcome.Error(PeerGone(str(self._failure))))
            batch.task = None

    # --- what the transport calls ---

    def _received(self, data: bytes) -> None:
        """Takes bytes from the daemon.

        Raises:
            ProtocolError: they are no messages.
        """
        reader = self._reader
        reader.feed(data)
        while (message := reader.take()) is not None:
            kind, req_id, _, payload = message
            if kind == xs.XS_WATCH_EVENT:
                self._events += 1
                path, _, rest = payload.partition(b"\0")
                watch = self._watches.get(rest[:-1])
                if watch is not None:
                    watch._put(path.decode("ascii", "replace"))
                continue
            pending = self._pending.pop(req_id, None)
            if pending is None:
                raise ProtocolError(f"xenstored answered request {req_id}, which is not in flight")
            if kind == xs.XS_ERROR:
                name = payload.rstrip(b"\0").decode("ascii", "replace")
                self._finish(pending, XenstoreError.named(name, pending.request.what))
                if pending.batch.abandoned and pending.request.kind == xs.XS_WATCH:
                    logger.warning("watch of %s could not be registered again: %s", pending.request.what, name)
            elif kind != pending.request.kind:
                raise ProtocolError(f"xenstored answered request {req_id} with type {kind}")
            else:
                self._finish(pending, payload)
                if kind == xs.XS_TRANSACTION_START and pending.batch.abandoned:
                    # Whoever started it was cancelled before it knew.
                    tx_id = int(payload.rstrip(b"\0"))
                    self._post(Request(xs.XS_TRANSACTION_END, b"F\0", "transaction"), tx_id)

    def _restarted(self) -> None:
        """Begins on a fresh ring: watches, then what was not answered."""
        self._connection += 1
        self._reader.clear()
        old, self._pending = self._pending, {}
        repeated: list[bytes] = []
        awaited = {p.request.payload for p in old.values() if p.request.kind == xs.XS_WATCH and not p.batch.abandoned}
        for watch in self._watches.values():
            request = _watch_request(xs.XS_WATCH, watch)
            if request.payload not in awaited:
                self._post(request, 0)
        for req_id, pending in old.items():
            if pending.tx_id:
                self._finish(pending, Conflict("EAGAIN", "the store was restarted in mid-transaction"))
            elif not pending.batch.abandoned:
                self._pending[req_id] = pending
                repeated.append(frame(pending.request.kind, req_id, 0, pending.request.payload))
        self._transport.send(b"".join(repeated))

    # --- domains ---

    async def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Tells xenstored of a new domain: its ring page and its unbound port. For domain 0.

        Raises:
            XenstoreError: the page cannot be mapped or the port not be bound.
        """
        await self._request(*domains(xs.XS_INTRODUCE, domid, gfn, port))

    async def release(self, domid: int) -> None:
        """Has xenstored forget a domain and what it owned. For domain 0."""
        await self._request(*domains(xs.XS_RELEASE, domid))

    async def is_domain_introduced(self, domid: int) -> bool:
        """Says whether xenstored serves a domain. For domain 0."""
        return await self._request(*domains(xs.XS_IS_DOMAIN_INTRODUCED, domid)) == b"T\0"

    async def get_domain_path(self, domid: int) -> str:
        """Returns the directory that a domain's relative paths are below."""
        return (await self._request(*domains(xs.XS_GET_DOMAIN_PATH, domid))).rstrip(b"\0").decode()

    def statistics(self) -> StoreStatistics:
        """Returns the counters of this connection."""
        return StoreStatistics(
            self._requests, self._events, self._conflicts, self._connection, len(self._pending), len(self._watches)
        )


def _watch_request(kind: int, watch: Watch) -> Request:
    return Request(kind, watch.path.encode() + b"\0" + watch.token + b"\0", watch.path)
