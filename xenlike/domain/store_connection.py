"""A client's connection: which answer belongs to which request, and what survives the daemon.

    send ---- req_id ----> daemon          answers are told apart by req_id,
         <--- req_id -----                 watch events by their token
         <--- event, token

When the daemon of a ring dies, the next one finds the watches registered again and what was not
answered repeated. A transaction cannot be repeated from its middle: its requests fail with EAGAIN, as
those of one that lost against somebody else's change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import outcome
import trio

from xenlike._core import Recorder
from xenlike.abi import recorder as tr
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_requests import Reply, Request, checked
from xenlike.domain.store_transport import Transport
from xenlike.domain.store_wire import FrameReader, frame
from xenlike.errors import Conflict, PeerGone, ProtocolError, XenstoreError

__all__ = ["Batch", "Connection", "Watch"]

logger = logging.getLogger(__name__)

_TRACED = {xs.XS_READ: tr.XENLIKE_TRACE_READ, xs.XS_WRITE: tr.XENLIKE_TRACE_WRITE}


class Batch:
    """Requests sent together, and who wants to know of the last answer."""

    __slots__ = ("replies", "missing", "epoch", "task", "abandoned", "finished")

    def __init__(self, count: int) -> None:
        self.replies: list[Reply] = [b""] * count
        self.missing = count
        # Which daemon gave the last answer.
        self.epoch = 0
        self.task: trio.lowlevel.Task | None = None
        # Nobody waits: cancelled, or never meant to.
        self.abandoned = False
        # Called in place of a task.
        self.finished: Callable[[Batch], None] | None = None


class _Pending:
    """One request without an answer yet."""

    __slots__ = ("batch", "index", "request", "tx_id")

    def __init__(self, batch: Batch, index: int, request: Request, tx_id: int) -> None:
        self.batch = batch
        self.index = index
        self.request = request
        self.tx_id = tx_id


class Watch:
    """A registered watch: `async for path in watch` yields what changed, in the form it was watched.

    The first path comes at once. Changes of one path that were not looked at yet are one.
    """

    def __init__(self, connection: Connection, path: str, token: bytes) -> None:
        self.path = path
        self.token = token
        self._refusal: XenstoreError | None = None
        self._connection = connection
        self._changed: dict[str, None] = {}
        self._ready = trio.Event()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> str:
        """Waits for a change and returns its path.

        Raises:
            PeerGone: the connection ended.
            XenstoreError: a watch that was begun ahead was refused.
        """
        if self._changed:
            await trio.lowlevel.checkpoint()
        while not self._changed:
            self._connection.check()
            if self._refusal is not None:
                raise self._refusal
            await self._ready.wait()
        path = next(iter(self._changed))
        del self._changed[path]
        if not self._changed and self._connection.failure is None:
            self._ready = trio.Event()
        return path

    def request(self, kind: int) -> Request:
        """Returns the request that registers it, or ends it."""
        return Request(kind, self.path.encode() + b"\0" + self.token + b"\0", self.path)

    def put(self, path: str) -> None:
        """Notes a change."""
        self._changed[path] = None
        self._ready.set()

    def registered(self, batch: Batch) -> None:
        """Takes the answer to a registration that nobody waits for."""
        (reply,) = batch.replies
        if isinstance(reply, XenstoreError):
            self._refusal = reply
            self._ready.set()

    def close(self) -> None:
        """Ends it. Not awaited: it must work for a cancelled task too, and late events find nobody."""
        del self._connection.watches[self.token]
        self._connection.post(self.request(xs.XS_UNWATCH))

    def end(self) -> None:
        """Wakes whoever waits, to find that the connection ended."""
        self._ready.set()


class Connection:
    """One connection.

    Args:
        transport: moves its bytes.
        recorder: traces what is read, written and told.
    """

    def __init__(self, transport: Transport, recorder: Recorder | None = None) -> None:
        self._recorder = recorder
        self.watches: dict[bytes, Watch] = {}
        # Counts daemons, so that a transaction knows that its own is gone.
        self.epoch = 0
        self.failure: BaseException | None = None
        self.requests = self.events = self.conflicts = 0
        self._transport = transport
        self._reader = FrameReader()
        self._pending: dict[int, _Pending] = {}
        # Frames that go out with the next request.
        self._held = b""
        self._next_id = 1
        self._next_token = 1

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._pending)

    async def run(self) -> None:
        """Serves the connection until it ends; then every waiting task is told."""
        failure: BaseException = PeerGone("the connection to the store is closed")
        try:
            await self._transport.run(self._received, self._restarted)
        except (OSError, ProtocolError) as error:
            logger.info("store: %s", error)
            failure = error
        finally:
            self.failure = failure
            for pending in self._pending.values():
                batch = pending.batch
                if batch.task is not None:
                    trio.lowlevel.reschedule(batch.task, outcome.Error(PeerGone(str(failure))))
                    batch.task = None
            self._pending.clear()
            for watch in self.watches.values():
                watch.end()

    def check(self) -> None:
        """Raises PeerGone if the connection has ended."""
        if self.failure is not None:
            raise PeerGone(str(self.failure)) from self.failure

    async def round_trip(self, requests: list[Request], tx_id: int) -> Batch:
        """Sends requests and waits for all their answers. Cancelled, they may still be carried out."""
        return await self.wait(self.submit(requests, tx_id))

    def submit(self, requests: list[Request], tx_id: int, *, hold: bool = False) -> Batch:
        """Sends requests, to `wait` for their answers later or to be called when they are there.

        Args:
            requests: the messages.
            tx_id: their transaction, or 0.
            hold: send them with the next others, in one piece.
        """
        self.check()
        batch = Batch(len(requests))
        self._submit(batch, requests, tx_id, hold=hold)
        return batch

    async def wait(self, batch: Batch) -> Batch:
        """Waits until all answers are there; no checkpoint if they are. Cancelled, as `round_trip`."""
        if not batch.missing:
            return batch
        self.check()
        if self._held:
            self._flush()
        batch.task = trio.lowlevel.current_task()

        def abandon(_: object) -> trio.lowlevel.Abort:
            batch.task = None
            batch.abandoned = True
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)
        return batch

    def abandon(self, batch: Batch) -> None:
        """Nobody will wait for these answers; what is still held goes out, so that they come."""
        batch.abandoned = True
        if self._held and self.failure is None:
            self._flush()

    def post(self, request: Request, tx_id: int = 0) -> None:
        """Sends a request whose answer nobody waits for; silent when the connection has ended."""
        if self.failure is None:
            batch = Batch(1)
            batch.abandoned = True
            self._submit(batch, [request], tx_id)

    def new_watch(self, path: str) -> Watch:
        """Returns a watch that is told of events, once it is registered with the daemon."""
        token = b"%x" % self._next_token
        self._next_token += 1
        watch = self.watches[token] = Watch(self, path, token)
        return watch

    def _submit(self, batch: Batch, requests: list[Request], tx_id: int, *, hold: bool = False) -> None:
        for request in requests:
            checked(request)
        frames = [self._held]
        for index, request in enumerate(requests):
            req_id = self._next_id
            self._next_id = (req_id + 1) & 0xFFFFFFFF or 1
            frames.append(frame(request.kind, req_id, tx_id, request.payload))
            self._pending[req_id] = _Pending(batch, index, request, tx_id)
            if request.kind in _TRACED and self._recorder is not None:
                self._trace(request, tx_id)
        self.requests += len(requests)
        self._held = b"".join(frames)
        if not hold:
            self._flush()

    def _trace(self, request: Request, tx_id: int) -> None:
        assert self._recorder is not None
        text = request.what
        if request.kind == xs.XS_WRITE:
            text += " = " + request.payload.partition(b"\0")[2].decode("utf-8", "replace")
        self._recorder.trace(tr.XENLIKE_TRACE_STORE, _TRACED[request.kind], text, tx_id)

    def _flush(self) -> None:
        out, self._held = self._held, b""
        self._transport.send(out)

    def _finish(self, pending: _Pending, reply: Reply) -> None:
        batch = pending.batch
        batch.replies[pending.index] = reply
        batch.missing -= 1
        if batch.missing:
            return
        batch.epoch = self.epoch
        if batch.task is not None:
            trio.lowlevel.reschedule(batch.task)
            batch.task = None
        elif batch.finished is not None:
            batch.finished(batch)

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
                self.events += 1
                path, _, rest = payload.partition(b"\0")
                watch = self.watches.get(rest[:-1])
                if watch is not None:
                    watch.put(changed := path.decode("ascii", "replace"))
                    if self._recorder is not None:
                        self._recorder.trace(tr.XENLIKE_TRACE_STORE, tr.XENLIKE_TRACE_WATCH, changed)
                continue
            pending = self._pending.get(req_id)
            if pending is None or kind not in (pending.request.kind, xs.XS_ERROR):
                raise ProtocolError(f"xenstored answered request {req_id} with type {kind}, which nobody asked for")
            del self._pending[req_id]
            request, batch = pending.request, pending.batch
            if kind == xs.XS_ERROR:
                name = payload.rstrip(b"\0").decode("ascii", "replace")
                self._finish(pending, XenstoreError.named(name, request.what))
                if name == "EAGAIN" and self._recorder is not None:
                    self._recorder.trace(tr.XENLIKE_TRACE_STORE, tr.XENLIKE_TRACE_CONFLICT, "", pending.tx_id)
                if batch.abandoned and request.kind == xs.XS_WATCH:
                    logger.warning("store: watch of %s could not be registered: %s", request.what, name)
            else:
                self._finish(pending, payload)
                if kind == xs.XS_TRANSACTION_START and batch.abandoned:
                    # Whoever started it was cancelled before it knew.
                    self.post(Request(xs.XS_TRANSACTION_END, b"F\0", "transaction"), int(payload.rstrip(b"\0")))

    def _restarted(self) -> None:
        """Begins on a fresh ring: watches first, so that nothing repeated goes unnoticed."""
        self.epoch += 1
        self._reader.clear()
        # What was held is among what is repeated.
        self._held = b""
        old, self._pending = self._pending, {}
        awaited = {p.request.payload for p in old.values() if p.request.kind == xs.XS_WATCH and not p.batch.abandoned}
        for watch in self.watches.values():
            request = watch.request(xs.XS_WATCH)
            if request.payload not in awaited:
                self.post(request)
        repeated: list[bytes] = []
        for req_id, pending in old.items():
            if pending.tx_id:
                self._finish(pending, Conflict("EAGAIN", "the store was restarted in mid-transaction"))
            elif not pending.batch.abandoned:
                self._pending[req_id] = pending
                repeated.append(frame(pending.request.kind, req_id, 0, pending.request.payload))
            elif pending.batch.finished is not None:
                pending.batch.finished(pending.batch)
        self._transport.send(b"".join(repeated))
