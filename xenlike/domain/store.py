"""The xenstore client of a domain, and of any trio program that has the daemon's socket.

    async with Store.over_socket("/run/xenstored/socket") as store:
        await store.write("/local/domain/3/name", "web")
        async with store.watch("/local/domain/3") as changes:
            async for path in changes: ...
        async with store.transaction() as tx:           # once; Conflict if another change came between
            await tx.write("/vm/a", await tx.read("/vm/b"))
        count = await store.transact(add_one)           # async def add_one(tx): ..., again until it gets through

Many requests travel at once on one connection; there is no task per request. A domain's paths may be
relative, to `/local/domain/<domid>`. A domain whose store daemon is replaced notices only that a
transaction may fail once more, and that its watches fire as if they were new.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, TypeVar

import trio

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_ahead import AheadRequests
from xenlike.domain.store_connection import Connection, Watch
from xenlike.domain.store_requests import Pipeline, Reply, Request, Requests, domains
from xenlike.domain.store_transport import RingTransport, SocketTransport
from xenlike.domain.store_wire import Perm
from xenlike.errors import Conflict

if TYPE_CHECKING:
    from xenlike._core import Recorder
    from xenlike.domain.events import EventChannel

__all__ = ["Perm", "Pipeline", "Store", "StoreStatistics", "Transaction", "Watch"]

T = TypeVar("T")

# Every attempt that fails means that somebody else's succeeded.
_ATTEMPTS = 100
# Open at once: what Xen's xenstored grants a domain. More would be refused; here they wait.
_TRANSACTIONS = 10

_START = Request(xs.XS_TRANSACTION_START, b"\0", "transaction")
_COMMIT = Request(xs.XS_TRANSACTION_END, b"T\0", "transaction")
_DISCARD = Request(xs.XS_TRANSACTION_END, b"F\0", "transaction")


@dataclass(frozen=True)
class StoreStatistics:
    """Counters of one connection.

    Attributes:
        conflicts: transactions that did not get through.
        most_retries: how often the unluckiest call of `transact` had to try again.
    """

    requests: int
    events: int
    conflicts: int
    most_retries: int
    reconnections: int
    in_flight: int
    watches: int


class Transaction(Requests):
    """Requests that take effect together or not at all; made by `Store.transaction` and `transact`."""

    def __init__(self, connection: Connection, tx_id: int, epoch: int) -> None:
        self._connection = connection
        self._epoch = epoch
        self.tx_id = tx_id

    @property
    def is_lost(self) -> bool:
        """Whether its daemon is gone, and with it the transaction."""
        return self._epoch != self._connection.epoch

    async def _send_all(self, requests: list[Request]) -> list[Reply]:
        if self.is_lost:
            # Another transaction may have this number by now.
            raise Conflict("EAGAIN", "the store was restarted in mid-transaction")
        if not requests:
            await trio.lowlevel.checkpoint()
            return []
        return (await self._connection.round_trip(requests, self.tx_id)).replies

    def _as_sender(self, tx: object) -> Requests:
        if tx is not None and tx is not self:
            raise TypeError("a transaction's request cannot be part of another one")
        return self


class Store(AheadRequests):
    """A connection to xenstored; made by `over_ring` and `over_socket`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._conflicts = self._most_retries = 0
        self._open = trio.Semaphore(_TRANSACTIONS)

    @classmethod
    @asynccontextmanager
    async def over_ring(
        cls,
        page: memoryview,
        channel: EventChannel,
        *,
        reconnect: Callable[[], Awaitable[EventChannel]] | None = None,
        recorder: Recorder | None = None,
    ) -> AsyncIterator[Store]:
        """Connects a domain to its store.

        Args:
            page: the shared page of the store ring.
            channel: its event channel.
            reconnect: returns a channel to wait for the next daemon on; without it the death of the
                daemon ends the connection with `PeerGone`.
            recorder: the domain's, which traces what is read, written and told.
        """
        connection = Connection(RingTransport(page, channel, reconnect), recorder)
        async with _running(connection):
            yield cls(connection)

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
            connection = Connection(SocketTransport(sock))
            async with _running(connection):
                yield cls(connection)

    # --- transactions and watches ---

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Runs its body as one transaction, which ends with the body; an exception discards it.

        A connection has ten of them at most, and the next one waits: a body must not begin another.

        Raises:
            Conflict: what the body looked at was changed meanwhile; nothing has happened. A context manager
                cannot run its body again, and a loop around one would let a `return` in the body pass off a
                failed commit as done; so `transact`, which does try again, takes a function.
        """
        async with self._open:
            batch = await self._connection.round_trip([_START], 0)
            reply = batch.replies[0]
            if not isinstance(reply, bytes):
                raise reply
            tx = Transaction(self._connection, int(reply.rstrip(b"\0")), batch.epoch)
            try:
                yield tx
            except BaseException:
                if not tx.is_lost:
                    self._connection.post(_DISCARD, tx.tx_id)
                raise
            try:
                await tx._request(*_COMMIT)
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
                self._most_retries = max(self._most_retries, attempts - left + 1)
            else:
                return result
        raise ValueError(f"attempts={attempts}: at least one")

    def watch(self, path: str) -> AbstractAsyncContextManager[Watch]:
        """Watches a node and all below it, as `async with store.watch(path) as changes`.

        Changes are told from the registration on, and the path itself once at the start.

        Raises:
            XenstoreError: EINVAL for a path that no node can have, E2BIG for too many watches.
        """
        return self._watching(path)

    @asynccontextmanager
    async def _watching(self, path: str) -> AsyncIterator[Watch]:
        watch = self._connection.new_watch(path)
        try:
            await self._request(*watch.request(xs.XS_WATCH))
            yield watch
        finally:
            del self._connection.watches[watch.token]
            # Not awaited: it must work for a cancelled task too, and late events find nobody.
            self._connection.post(watch.request(xs.XS_UNWATCH))

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
        connection = self._connection
        return StoreStatistics(
            requests=connection.requests,
            events=connection.events,
            conflicts=self._conflicts + connection.conflicts,
            most_retries=self._most_retries,
            reconnections=connection.epoch,
            in_flight=connection.in_flight,
            watches=len(connection.watches),
        )

    # --- requests ---

    async def _send_all(self, requests: list[Request]) -> list[Reply]:
        if not requests:
            await trio.lowlevel.checkpoint()
            return []
        return (await self._connection.round_trip(requests, 0)).replies

    def _as_sender(self, tx: object) -> Requests:
        if tx is None:
            return self
        if not isinstance(tx, Transaction):
            raise TypeError(f"tx={tx!r} is no transaction")
        return tx


@asynccontextmanager
async def _running(connection: Connection) -> AsyncIterator[None]:
    failure: Exception | None = None
    # Whoever is cancelled together with it must not be told that the connection ended.
    serving = trio.CancelScope(shield=True)

    async def serve() -> None:
        with serving:
            await connection.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            yield
        except Exception as error:
            # Raised outside the nursery, which would wrap it in a group.
            failure = error
        finally:
            serving.cancel()
    if failure is not None:
        raise failure
