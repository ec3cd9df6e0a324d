"""Requests that are sent before their answers are needed: what saves a round trip where each one counts.

    begin ...... START, sent together with the requests that come next
    capture .... READs; whoever changes one of these nodes from here on makes the commit fail
                 (other work: the answers come meanwhile)
    commit ..... WRITEs and END, in one piece

In a plain transaction these are four round trips. Here they are one, and what the work between leaves of two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_connection import Batch, Connection, Watch
from xenlike.domain.store_requests import Pipeline, Request, Requests, Value, decode_values, of_path, write
from xenlike.errors import Conflict

__all__ = ["Ahead", "AheadRequests", "Sent"]

_START = Request(xs.XS_TRANSACTION_START, b"\0", "transaction")
_COMMIT = Request(xs.XS_TRANSACTION_END, b"T\0", "transaction")
_DISCARD = Request(xs.XS_TRANSACTION_END, b"F\0", "transaction")


class Ahead:
    """A transaction that was begun ahead; made by `Store.begin`. It must be committed or discarded.

    All its methods raise `Conflict` when its daemon was replaced, and `PeerGone` when the connection ended.

    Args:
        connection: the store's.
        slots: of which one is taken, and given back at the end.
    """

    def __init__(self, connection: Connection, slots: trio.Semaphore) -> None:
        self._connection = connection
        self._slots = slots
        self._start = connection.submit([_START], 0, hold=True)
        self._captured: Batch | None = None
        self._ended = False

    async def capture(self, paths: Sequence[str]) -> None:
        """Asks for nodes' values, which must stay as they are until the commit; once.

        A checkpoint only where the beginning has not been answered yet.

        Raises:
            XenstoreError: there are too many transactions.
        """
        tx_id = await self._number()
        self._captured = self._connection.submit([of_path(xs.XS_READ, path) for path in paths], tx_id)

    async def seen(self, paths: Sequence[str]) -> list[str | None]:
        """Returns the values of captured nodes, None for those that do not exist or may not be read.

        Args:
            paths: what was captured; if nothing was, that is done now.
        """
        if self._captured is None:
            await self.capture(paths)
        assert self._captured is not None
        return decode_values((await self._connection.wait(self._captured)).replies)

    async def commit(self, nodes: Mapping[str, Value]) -> None:
        """Writes nodes, in order, and ends the transaction; one round trip.

        Raises:
            Conflict: a captured node was changed; nothing has happened.
            XenstoreError: a node could not be written; the others are.
        """
        requests = [write(path, value) for path, value in nodes.items()]
        tx_id = await self._number()
        batch = self._connection.submit([*requests, _COMMIT], tx_id)
        self._ended = True
        try:
            replies = (await self._connection.wait(batch)).replies
        finally:
            self._slots.release()
        if isinstance(replies[-1], Conflict):
            self._connection.conflicts += 1
            raise replies[-1]
        for reply in replies:
            if not isinstance(reply, bytes):
                raise reply

    def discard(self) -> None:
        """Ends it without effect; idempotent, and nothing after a commit."""
        if self._ended:
            return
        self._ended = True
        if self._start.missing:
            # The connection ends it as soon as it has a number; until then it counts.
            self._start.finished = lambda _: self._slots.release()
            self._connection.abandon(self._start)
            return
        self._slots.release()
        if self._start.epoch == self._connection.epoch and isinstance(self._start.replies[0], bytes):
            self._connection.post(_DISCARD, int(self._start.replies[0].rstrip(b"\0")))

    async def _number(self) -> int:
        reply = (await self._connection.wait(self._start)).replies[0]
        if not isinstance(reply, bytes):
            raise reply
        if self._start.epoch != self._connection.epoch:
            # Another transaction may have this number by now.
            raise Conflict("EAGAIN", "the store was restarted in mid-transaction")
        return int(reply.rstrip(b"\0"))


class Sent:
    """Requests on their way; made by `Store.send`."""

    def __init__(self, connection: Connection, batch: Batch) -> None:
        self._connection = connection
        self._batch = batch

    async def answered(self) -> None:
        """Waits until all are answered.

        Raises:
            XenstoreError: the first error; the others were carried out nevertheless.
            PeerGone: the connection has ended.
        """
        for reply in (await self._connection.wait(self._batch)).replies:
            if not isinstance(reply, bytes):
                raise reply


class AheadRequests(Requests):
    """The part of a store connection that sends ahead."""

    _connection: Connection
    _open: trio.Semaphore

    def begin(self) -> Ahead | None:
        """Begins a transaction, with whatever request is sent next; None while there are as many as may be.

        Raises:
            PeerGone: the connection has ended.
        """
        try:
            self._open.acquire_nowait()
        except trio.WouldBlock:
            return None
        try:
            return Ahead(self._connection, self._open)
        except BaseException:
            self._open.release()
            raise

    def send(self, gathered: Pipeline) -> Sent:
        """Sends what a pipeline has gathered, and does not wait for the answers.

        Raises:
            PeerGone: the connection has ended.
            XenstoreError: E2BIG.
        """
        return Sent(self._connection, self._connection.submit(gathered.requests, 0))

    def begin_watch(self, path: str) -> Watch:
        """Watches a node and all below it, from whatever request is sent next; close it.

        Who reads the node by that next request has seen what was there before. Nevertheless its first event, the
        path itself, must not be ignored: the daemon may have made one of it and of a change that followed. A refusal
        is raised where the watch is waited for.

        Raises:
            PeerGone: the connection has ended.
            XenstoreError: E2BIG.
        """
        watch = self._connection.new_watch(path)
        try:
            batch = self._connection.submit([watch.request(xs.XS_WATCH)], 0, hold=True)
        except BaseException:
            del self._connection.watches[watch.token]
            raise
        batch.finished = watch.registered
        return watch
