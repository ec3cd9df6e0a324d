"""The backend's end of a queue: requests in, responses out in any order.

    async for requests in queue:                  # private copies, as many as there are
        queue.respond([answer(r) for r in requests])

or, for a driver that counts microseconds,

    while True:
        await queue.wait()
        while entries := queue.pop_raw():         # a view of packed requests, valid until the next call
            queue.respond_raw(responses, count)   # pushed, not yet kicked: `wait` kicks

1. Whatever the frontend writes is copied out of the ring once; drivers check and use the copy.
2. A work budget: after so many requests without a rest, other tasks get a turn.
3. Notifications without requests are counted, and answered later and later.
4. An impossible index is a `ProtocolError`, and the end of the connection.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, cast

import trio

from xenlike._core import SLEEPS, SPINS_HIT, SPINS_MISSED, SPURIOUS
from xenlike.errors import PeerGone
from xenlike.xenbus.polling import Patience, Polling
from xenlike.xenbus.typevars import RequestT, ResponseT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from xenlike.abi.protocol import Protocol
    from xenlike.ring import BackRing
    from xenlike.xenbus.calls import Entries
    from xenlike.xenbus.interface import ChannelLike

_EMPTY = memoryview(b"")


@dataclass(frozen=True, slots=True)
class BackQueueStatistics:
    """What a queue has done so far.

    Attributes:
        requests: received.
        responses: sent.
        notifications: sent to the frontend.
        unanswered: requests without a response yet.
        spins_hit: spins that brought requests.
        spins_missed: spins that brought none.
        sleeps: times it slept on the event channel.
        spurious: wakes that brought nothing.
    """

    requests: int
    responses: int
    notifications: int
    unanswered: int
    spins_hit: int
    spins_missed: int
    sleeps: int
    spurious: int


class BackQueue(Generic[RequestT, ResponseT]):
    """A ring of requests to be served by one task; any task may respond.

    Args:
        ring: the ring's back; the queue closes it.
        channel: the event channel beside it; its owner closes it.
        protocol: the messages.
        budget: requests taken before other tasks get a turn.
    """

    def __init__(self, ring: BackRing, channel: ChannelLike, protocol: Protocol, *, budget: int = 256) -> None:
        self._ring = ring
        self._channel = channel
        self._protocol = protocol
        self._budget = budget
        self._left = budget
        self._in = ring.incoming(ring.size)
        self._view = memoryview(self._in.data).toreadonly()
        self._ready = 0
        self._closed = False
        self._patience = Patience(ring.counters)
        self._polling = Polling.current()
        self._polling.add(ring)

    @property
    def size(self) -> int:
        """Slots of the ring."""
        return self._ring.size

    # Requests.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[RequestT]:
        """Waits for requests and returns all that are there, in private copies; errors as `wait`."""
        await self.wait()
        entries, size = self.pop_raw(), self._protocol.request_size
        unpack = cast("type[RequestT]", self._protocol.requests[0]).unpack
        return [unpack(entries, at) for at in range(0, len(entries), size)]

    async def wait(self) -> None:
        """Kicks, and waits until `pop_raw` has something to return; a checkpoint.

        Raises:
            PeerGone: the frontend died or hung up, and nothing that it had sent is left.
            ProtocolError: the frontend broke the rules of the ring.
        """
        self.kick()
        if self._left <= 0:
            await trio.lowlevel.checkpoint()
            self._left = self._budget
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._ready or self._fill():
            return
        while True:
            await trio.lowlevel.checkpoint()
            self._left = self._budget
            if self._fill():
                return
            if self._polling.spin(self._ring) or self._ring.arm():
                continue
            if await self._sleep():
                return

    def pop_raw(self) -> memoryview:
        """Returns packed requests of `protocol.request_size` bytes each, in private memory.

        The view is overwritten by the next call. It is empty when there is nothing, and also when it is
        other tasks' turn: go back to `wait` then. Raises `ProtocolError` as `wait` does.
        """
        if not self._ready and (self._left <= 0 or not self._fill()):
            return _EMPTY
        count, self._ready = self._ready, 0
        self._left -= count
        return self._view[: count * self._protocol.request_size]

    def _fill(self) -> bool:
        self._ready = self._in.pop()
        return self._ready > 0

    async def _sleep(self) -> bool:
        """Sleeps on the event channel; returns whether that brought requests."""
        self._ring.counters[SLEEPS] += 1
        try:
            await self._channel.wait()
            self._ring.woke()
        except PeerGone:
            self._ring.woke(hung_up=True)
            # What it asked for before it died is done: it may have been a write.
            if self._fill():
                return True
            raise
        if self._fill():
            self._patience.useful()
            return True
        await trio.sleep(self._patience.useless())
        return False

    # Responses.

    def respond(self, responses: Sequence[ResponseT]) -> None:
        """Sends responses, and notifies the frontend if it asked for it; errors as `respond_raw`."""
        size = self._protocol.response_size
        entries = b"".join([response.pack().ljust(size, b"\0") for response in responses])
        self.respond_raw(entries, len(responses))
        self.kick()

    def respond_raw(self, entries: Entries, count: int) -> None:
        """Publishes packed responses of `protocol.response_size` bytes each; `kick` before you wait.

        Raises:
            RuntimeError: more responses than requests; a fault of this driver.
            ProtocolError: the frontend broke the rules of the ring.
        """
        sent = self._ring.push(entries, count)
        if sent != count:
            raise RuntimeError(f"{count} responses for {sent} unanswered requests")

    def kick(self) -> None:
        """Notifies the frontend of what was pushed, if it asked for it."""
        try:
            self._ring.kick_fd(self._channel.tx_fd)
        except PeerGone:
            pass  # `wait` sees the hang-up

    # Native engines.

    @contextmanager
    def handed_over(self) -> Iterator[tuple[int, int, int]]:
        """Gives the ring to a native engine for the length of a `with`; see `xenlike.xenbus.engine`.

        Yields:
            The address of its `struct xl_ring`, and the descriptors of the event channel: to wait on, to notify by.
        """
        self._polling.remove(self._ring)
        try:
            yield self._ring.address, self._channel.rx_fd, self._channel.tx_fd
        finally:
            self._polling.add(self._ring)

    def check(self) -> None:
        """Raises `ProtocolError` if the frontend has broken the ring."""
        self._ring.available  # noqa: B018 - it is for what it raises

    # The end.

    def close(self) -> None:
        """Lets go of the ring; idempotent."""
        if not self._closed:
            self._closed = True
            self._polling.remove(self._ring)
            self._ring.close()

    def statistics(self) -> BackQueueStatistics:
        """Returns the counters so far."""
        ring, counters = self._ring.statistics(), self._ring.counters
        return BackQueueStatistics(
            requests=ring.popped,
            responses=ring.pushed,
            notifications=ring.notifications,
            unanswered=ring.popped - ring.pushed,
            spins_hit=counters[SPINS_HIT],
            spins_missed=counters[SPINS_MISSED],
            sleeps=counters[SLEEPS],
            spurious=counters[SPURIOUS],
        )
