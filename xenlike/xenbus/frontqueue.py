"""The frontend's end of a queue: requests out, each matched with its response.

1. A caller's requests get ids from the queue's own table and are pushed in one batch. With the ring
   full, the caller waits: that is back-pressure, not an error.
2. The backend is notified if it asked for it.
3. A lone caller polls the ring itself for a moment. Otherwise it sleeps, and the queue's receive task
   finds the responses: it looks, lets other tasks run, looks again, spins if nobody else could run,
   and at last arms the ring and sleeps on the event channel.
4. A response's id must be in flight and is cleared before anybody hears of it. Anything else is a
   `ProtocolError`, and the end of the connection.

A cancelled caller leaves at once, but its request cannot be called back: the id stays taken until the
response comes, and so must the pages that the request named. `when_settled` says when that is.

Invariant: while requests are in flight, the receive task is awake or the ring is armed.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, cast

import trio

from xenlike._core import FULL, SLEEPS, SPINS_HIT, SPINS_MISSED, SPURIOUS
from xenlike.errors import PeerGone, ProtocolError
from xenlike.xenbus.calls import Call, Forgotten, FrontQueueStatistics, id_place
from xenlike.xenbus.polling import Patience, Polling
from xenlike.xenbus.typevars import RequestT, ResponseT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from xenlike.abi.protocol import Protocol
    from xenlike.ring import FrontRing
    from xenlike.xenbus.calls import Completion, Entries
    from xenlike.xenbus.interface import ChannelLike

_QUIET_ROUNDS = 3
"""Empty looks, with a checkpoint after each, before a spin: the tasks that were just woken run first."""
_LONGEST_TURN_S = 0.000_2
"""A caller that never has to sleep lets other tasks run at least this often."""


class FrontQueue(Generic[RequestT, ResponseT]):
    """A ring of requests, for any number of tasks.

    Args:
        ring: the ring's front; the queue closes it.
        channel: the event channel beside it; its owner closes it.
        protocol: the messages. Requests and responses need a member `id`, which the queue fills in.
        on_failure: called once if the peer dies (`PeerGone`) or breaks the rules (`ProtocolError`).
    """

    def __init__(
        self,
        ring: FrontRing,
        channel: ChannelLike,
        protocol: Protocol,
        on_failure: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._ring = ring
        self._channel = channel
        self._protocol = protocol
        self._on_failure = on_failure
        self._request_size, self._response_size = protocol.request_size, protocol.response_size
        self._id_offset, code = id_place(protocol.requests)
        self._pack_id = struct.Struct(f"<{code}").pack_into
        if ring.size > 1 << 8 * struct.calcsize(f"<{code}"):
            raise TypeError(f"{protocol.name}: ids are too small for a ring of {ring.size} slots")
        offset, code = id_place(protocol.responses)
        row = f"<{offset}x{code}"
        self._ids_of = struct.Struct(f"{row}{self._response_size - struct.calcsize(row)}x").iter_unpack
        self._single = ring.outgoing(1)
        self._several = bytearray(ring.size * self._request_size)
        self._in = ring.incoming(ring.size)
        # First in, first out: an id rests as long as possible, so that a response sent twice is found out.
        self._free = deque(range(ring.size))
        self._pending: list[tuple[Completion, int] | None] = [None] * ring.size
        self._in_flight = 0
        self._forgotten = Forgotten()
        self._room = trio.lowlevel.ParkingLot()
        self._idle: trio.Event | None = None
        self._reason: Exception | None = None
        self._held = False
        self._armed = False
        self._asleep = False
        self._last_caller: trio.lowlevel.Task | None = None
        self._turn = 0.0
        self._patience = Patience(ring.counters)
        self._polling = Polling.current()
        self._polling.add(ring)

    @property
    def size(self) -> int:
        """Requests that can be in flight at once."""
        return self._ring.size

    @property
    def in_flight(self) -> int:
        """Requests that have no response yet."""
        return self._in_flight

    # Sending.

    async def request(self, request: RequestT) -> ResponseT:
        """Sends a request and returns its response; its `id` is the queue's to choose.

        Raises:
            PeerGone: the connection ended; whether the request took effect is unknown.
            ProtocolError: the backend broke the rules of the ring.
        """
        return (await self.submit((request,)))[0]

    async def submit(self, requests: Sequence[RequestT]) -> list[ResponseT]:
        """Sends requests as one batch and returns their responses in the same order; errors as `request`."""
        size = self._request_size
        entries = b"".join([request.pack().ljust(size, b"\0") for request in requests])
        unpack = cast("type[ResponseT]", self._protocol.responses[0]).unpack
        return [unpack(response) for response in await self.submit_raw(entries, len(requests))]

    async def submit_raw(self, entries: Entries, count: int) -> list[bytes]:
        """As `submit`, for packed requests one after another; each takes `protocol.request_size` bytes.

        A checkpoint. Cancelled, it leaves its requests in flight: see `when_settled`.
        """
        if self._reason is not None:
            await trio.lowlevel.checkpoint()
            self._refuse(self._reason)
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()
        alone = task is self._last_caller
        self._last_caller = task
        call = Call(count)
        sent = self._post(entries, count, call)
        try:
            if sent < count:
                await self._post_rest(memoryview(entries), count, sent, call)
            if alone and self._in_flight == call.remaining:
                self._poll(call)
            self._be_watchful()
            if call.remaining and call.error is None:
                call.task = task
                await trio.lowlevel.wait_task_rescheduled(self._leave(call))
                self._turn = time.perf_counter()
            elif time.perf_counter() - self._turn > _LONGEST_TURN_S:
                await trio.lowlevel.cancel_shielded_checkpoint()
                self._turn = time.perf_counter()
        except BaseException:
            self._forget(call)
            raise
        if call.error is not None:
            self._refuse(call.error)
        return call.responses

    def post(self, entries: Entries, count: int, completion: Completion, first: int = 0) -> int:
        """Sends packed requests without waiting for anything.

        Args:
            entries: as for `submit_raw`.
            count: how many there are.
            completion: is told of each response, by its index.
            first: index of the first request.

        Returns:
            How many went in, from the first on; for the rest wait for `room`.

        Raises:
            PeerGone: the connection has ended; `completion` is not told.
            ProtocolError: likewise, because the backend broke the rules.
        """
        sent = self._post(entries, count, completion, first)
        self._be_watchful()
        return sent

    async def room(self) -> None:
        """Waits until the ring has room for a request, after all who waited before; errors as `request`."""
        self._ring.counters[FULL] += 1
        while self._reason is None and (self._held or not self._free):
            await self._room.park()
        if self._reason is not None:
            self._refuse(self._reason)

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Calls back when no request that was cancelled before now is in flight; now, if none is.

        Pages that such a request named are the backend's until then.
        """
        if self._forgotten.ids:
            self._forgotten.waiting.append((set(self._forgotten.ids), callback))
        else:
            callback()

    def hold(self) -> None:
        """Sends nothing more: requests wait, as with a full ring, until the connection ends."""
        self._held = True

    async def drained(self) -> None:
        """Waits until nothing is in flight, or the connection has ended."""
        while self._in_flight:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()
        await trio.lowlevel.checkpoint()

    def _post(self, entries: Entries, count: int, completion: Completion, first: int = 0) -> int:
        if self._reason is not None:
            self._refuse(self._reason)
        free, pending, size = self._free, self._pending, self._request_size
        if len(entries) != count * size:
            raise ValueError(f"{count} requests of {size} bytes are not {len(entries)} bytes")
        if self._held:
            return 0
        if count > len(free):
            count = len(free)
            if not count:
                return 0
            entries = memoryview(entries)[: count * size]
        out = self._single.data if count == 1 else self._several
        out[: count * size] = entries
        for index, at in enumerate(range(self._id_offset, count * size, size), first):
            ident = free.popleft()
            pending[ident] = (completion, index)
            self._pack_id(out, at, ident)
        self._in_flight += count
        if count == 1:
            self._single.push()
        else:
            self._ring.push(out, count)
        try:
            self._ring.kick_fd(self._channel.tx_fd)
        except PeerGone:
            pass  # the receive task sees the hang-up, and tells everybody
        return count

    async def _post_rest(self, entries: memoryview, count: int, sent: int, call: Call) -> None:
        while sent < count:
            self._be_watchful()
            await self.room()
            sent += self._post(entries[sent * self._request_size :], count - sent, call, sent)

    def _leave(self, call: Call) -> Callable[[trio.lowlevel.RaiseCancelT], trio.lowlevel.Abort]:
        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            call.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        return abort

    def _forget(self, call: Call) -> None:
        for ident, entry in enumerate(self._pending):
            if entry is not None and entry[0] is call:
                self._pending[ident] = (self._forgotten, ident)
                self._forgotten.ids.add(ident)

    # Receiving.

    async def run(self) -> None:
        """The receive task; ends when the connection does."""
        try:
            await self._receive()
        except (PeerGone, ProtocolError) as error:
            self._break(error)

    async def _receive(self) -> None:
        quiet = 0
        while True:
            if self._drain():
                self._patience.useful()
                quiet = 0
                await trio.lowlevel.checkpoint()
                continue
            if self._in_flight:
                quiet += 1
                if quiet < _QUIET_ROUNDS:
                    await trio.lowlevel.checkpoint()
                    continue
                if self._polling.spin(self._ring):
                    continue
                self._armed = self._armed or not self._ring.arm()
                if not self._armed:
                    continue
            await self._sleep()
            quiet = 0

    async def _sleep(self) -> None:
        self._ring.counters[SLEEPS] += 1
        self._asleep = True
        try:
            await self._channel.wait()
            self._ring.woke()
        except PeerGone:
            self._ring.woke(hung_up=True)
            # What it answered before it died was answered.
            self._drain()
            raise
        finally:
            self._asleep = False
        if not self._drain():
            await trio.sleep(self._patience.useless())

    def _drain(self) -> int:
        """Takes all responses there are; returns how many."""
        if self._reason is not None:
            return 0
        count = self._in.pop()
        if not count:
            return 0
        self._armed = False
        size, pending = self._response_size, self._pending
        data = bytes(memoryview(self._in.data)[: count * size])
        at = 0
        for (ident,) in self._ids_of(data):
            entry = pending[ident] if ident < len(pending) else None
            if entry is None:
                raise ProtocolError(f"response with id {ident}, which is not in flight")
            pending[ident] = None
            self._free.append(ident)
            self._in_flight -= 1
            entry[0].done(entry[1], data[at : at + size])
            at += size
        if self._room:
            self._room.unpark(count=count)
        if self._idle is not None and not self._in_flight:
            self._idle.set()
            self._idle = None
        return count

    def _poll(self, call: Call) -> None:
        """Polls for a caller that is alone, as long as that brings something."""
        try:
            while call.remaining and self._polling.spin(self._ring) and self._drain():
                pass
        except ProtocolError as error:
            self._break(error)

    def _be_watchful(self) -> None:
        """Restores the invariant after requests were sent: arms the ring if the receive task sleeps."""
        try:
            while self._asleep and self._in_flight and not self._armed:
                if self._ring.arm():
                    self._drain()
                else:
                    self._armed = True
        except ProtocolError as error:
            self._break(error)

    # The end.

    def _break(self, error: Exception) -> None:
        if self._reason is None:
            self.close(error)
            self._on_failure(error)

    def close(self, reason: Exception) -> None:
        """Ends the queue; idempotent. Everything in flight, and every later request, fails.

        Args:
            reason: what the callers get to see: as it is if it is a `PeerGone` or a `ProtocolError`,
                and as the cause of a `PeerGone` if not.
        """
        if self._reason is not None:
            return
        self._reason = reason
        self._polling.remove(self._ring)
        completions = dict.fromkeys(entry[0] for entry in self._pending if entry is not None)
        self._pending = [None] * len(self._pending)
        self._in_flight = 0
        for completion in completions:
            completion.fail(reason)
        self._forgotten.fail(reason)
        self._room.unpark_all()
        if self._idle is not None:
            self._idle.set()
        self._ring.close()

    def _refuse(self, reason: Exception) -> NoReturn:
        # A new one each time: many tasks raise it, and each adds its own traceback.
        if isinstance(reason, PeerGone):
            raise PeerGone(*reason.args) from None
        if isinstance(reason, ProtocolError):
            raise ProtocolError(*reason.args) from None
        raise PeerGone(f"the connection was given up: {reason}") from reason

    def statistics(self) -> FrontQueueStatistics:
        """Returns the counters so far."""
        ring, counters = self._ring.statistics(), self._ring.counters
        return FrontQueueStatistics(
            requests=ring.pushed,
            responses=ring.popped,
            notifications=ring.notifications,
            in_flight=self._in_flight,
            forgotten=len(self._forgotten.ids),
            full=counters[FULL],
            spins_hit=counters[SPINS_HIT],
            spins_missed=counters[SPINS_MISSED],
            sleeps=counters[SLEEPS],
            spurious=counters[SPURIOUS],
        )
