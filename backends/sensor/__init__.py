"""The backend of a sensor stream: samples go to the guest without being asked for, and never wait for it.

1. `connect` maps the pages of the stream, which the frontend has granted, binds its event channel, and makes the
   producing end of a one-way ring there.
2. A task takes what samples are due, some times a second, and publishes them as one batch. What finds no room is
   lost and counted: a guest that is slow, or does not read at all, costs nobody anything but itself.
3. The guest is notified if it sleeps. That never blocks either.
4. Requests start the task's work, stop it and change its rate, and are served meanwhile.

The sensor is a simulated one; a real driver takes its samples where this one calls `waveform`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import ClassVar, cast

import trio

from xenlike.errors import PeerGone, ProtocolError
from xenlike.io.sensor import (
    SENSOR,
    SENSORIF_OP_RATE,
    SENSORIF_OP_START,
    SENSORIF_OP_STOP,
    SENSORIF_RSP_ERROR,
    SENSORIF_RSP_OKAY,
    SENSORIF_STREAM_PAGES,
    SensorRequest,
    SensorResponse,
    SensorSample,
    waveform,
)
from xenlike.ring import XEN, Producer
from xenlike.xenbus import Backend, BackQueue, NodeValue
from xenlike.xenbus.interface import ChannelLike, DomainLike

TICK_S = 0.005
"""Between two batches."""
NS = 1_000_000_000
U32 = 0xFFFF_FFFF
_pack = SensorSample.__layout__.codec.pack


class SensorBack(Backend[SensorRequest, SensorResponse], protocol=SENSOR):
    """Serves one sensor.

    Attributes:
        taken: samples of this connection, lost ones included.
        lost: those of them that found no room.
    """

    max_rate: ClassVar[int] = 10_000

    _producer: Producer
    _channel: ChannelLike

    def __init__(self, domain: DomainLike, nodename: str) -> None:
        super().__init__(domain, nodename)
        self._shared = ExitStack()
        self._running = trio.Event()

    async def setup(self) -> Mapping[str, NodeValue]:
        """Says how fast it can be."""
        return {"max-rate": self.max_rate}

    async def connect(self) -> None:
        """Shares the stream.

        Raises:
            GrantDenied, HypercallError: the frontend named pages or a port that it has not made for us.
            ProtocolError: the pages are not one piece of memory.
        """
        grefs = [cast("int", self.peer[f"stream-ref{page}"]) for page in range(SENSORIF_STREAM_PAGES)]
        mapping = self.domain.grants.map(self.otherend_id, grefs)
        self._shared.callback(mapping.unmap)
        if mapping.contiguous is None:
            raise ProtocolError("stream-ref0 and those after it are not consecutive pages", self.otherend_id)
        self._channel = self.domain.events.bind(self.otherend_id, cast("int", self.peer["stream-channel"]))
        self._shared.callback(self._channel.close)
        self._producer = Producer(
            mapping.contiguous,
            SensorSample.__layout__.size,
            XEN,
            domid=self.otherend_id,
            recorder=self.domain.recorder,
            name=f"{self.nodename}/stream",
        )
        self._shared.callback(self._producer.close)
        self.taken = self.lost = 0
        # Where trio's clock, by which samples are taken, has its zero on the clock that the guest knows.
        self._epoch_ns = time.monotonic_ns() - int(trio.current_time() * NS)
        self._set_rate(0)

    async def disconnect(self) -> None:
        """Lets go of the stream: of as much of it as `connect` got."""
        self._shared.close()

    async def serve(self, queue: BackQueue[SensorRequest, SensorResponse]) -> None:
        """Serves requests, and produces beside them; what goes wrong in either ends the connection."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._produce)
            await super().serve(queue)

    async def handle(self, request: SensorRequest) -> SensorResponse:
        """Starts, stops or changes the rate."""
        starts = request.operation == SENSORIF_OP_START or (request.operation == SENSORIF_OP_RATE and self._rate > 0)
        stops = request.operation == SENSORIF_OP_STOP
        if request.rate > self.max_rate or not ((starts and request.rate) or stops):
            return SensorResponse(status=SENSORIF_RSP_ERROR)
        self._take()
        self._set_rate(0 if stops else request.rate)
        if stops:
            # A guest that waits for the next sample looks, and sees that there is none to wait for.
            self._channel.notify()
        return SensorResponse(taken=self.taken & U32, lost=self.lost & U32, status=SENSORIF_RSP_OKAY)

    def _set_rate(self, rate: int) -> None:
        self._rate = rate
        self._since, self._before = trio.current_time(), self.taken
        self._since_ns = self._epoch_ns + int(self._since * NS)
        if rate:
            self._running.set()
        elif self._running.is_set():
            self._running = trio.Event()

    async def _produce(self) -> None:
        while True:
            await self._running.wait()
            self._take()
            await trio.sleep(TICK_S)

    def _take(self) -> None:
        """Takes the samples that are due, and publishes them; raises `ProtocolError` if the guest broke the ring."""
        due = self._before + int((trio.current_time() - self._since) * self._rate) - self.taken
        # Of what has piled up while this domain did not run, more than a full stream is lost in any case.
        count = min(due, self._producer.size)
        numbers = range(self.taken + due - count, self.taken + due)
        samples = [_pack(self._time_of(number), number & U32, waveform(number & U32)) for number in numbers]
        pushed = self._producer.push(b"".join(samples), count)
        self.taken += due
        self.lost += due - pushed
        try:
            self._producer.kick_fd(self._channel.tx_fd)
        except PeerGone:
            pass  # the queue sees that, too, and ends the connection

    def _time_of(self, number: int) -> int:
        return self._since_ns + (number - self._before + 1) * NS // self._rate
