"""The frontend of a sensor stream: samples as NumPy arrays, as fast as the guest takes them.

    await sensor.start(rate=1000)
    samples = await sensor.read(100)          # 1 to 100 of them, with fields time, sequence and value
    await sensor.stop()

1. `setup` grants the pages of the stream and makes its event channel, beside those of the requests. They are ours, so
   they outlast a backend that dies.
2. `connect` attaches the consuming end of the one-way ring: the backend has made the ring by then.
3. `read` copies samples out of the ring, once, whereby their slots are free again. The array is a view of that copy:
   one of the ring itself would change under the program's hands.
4. With nothing there, it asks the backend for a notification, looks once more, and sleeps.
5. Numbers that are missing are samples that the backend had no room for; `lost` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import trio

from xenlike.errors import PeerGone, PortClosed, ProtocolError, RequestFailed
from xenlike.frontends.sensor.exercise import exercise
from xenlike.io.sensor import (
    SENSOR,
    SENSORIF_OP_RATE,
    SENSORIF_OP_START,
    SENSORIF_OP_STOP,
    SENSORIF_RSP_OKAY,
    SENSORIF_STREAM_PAGES,
    SensorRequest,
    SensorResponse,
    SensorSample,
)
from xenlike.ring import XEN, Consumer
from xenlike.xenbus import Frontend, NodeValue, SharedPages, retried

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from xenlike.xenbus.interface import ChannelLike, DomainLike

__all__ = ["SensorFront", "exercise"]

SAMPLE = SensorSample.__layout__
REST_S = 0.001


class _Stream:
    """The stream of one connection."""

    def __init__(self, channel: ChannelLike) -> None:
        self.channel = channel
        self.consumer: Consumer | None = None
        self.reader = trio.Lock()
        self.ended = trio.Event()
        self.rate = 0
        self.next = 0


class SensorFront(Frontend[SensorRequest, SensorResponse], protocol=SENSOR):
    """A sensor.

    Operations wait for the connection, and raise `PeerGone`, `NoSuchDevice` and `ProtocolError` as `wait_connected`.

    Attributes:
        rate: samples a second that the program has asked for; 0 while it wants none. A new backend is told again.
        lost: samples that this guest was too slow for, over all connections.
    """

    rate = 0
    lost = 0
    _stream: _Stream

    def __init__(self, domain: DomainLike, nodename: str) -> None:
        super().__init__(domain, nodename)
        self._shared = ExitStack()

    @property
    def max_rate(self) -> int:
        """Most samples a second; the backend's word, once connected."""
        return cast("int", self.peer["max-rate"])

    async def start(self, rate: int) -> None:
        """Has samples taken, so many a second; ValueError where the sensor cannot do that."""
        await self._change(SENSORIF_OP_START, rate)

    async def set_rate(self, rate: int) -> None:
        """Goes on at another rate; RequestFailed where the sensor does not run, ValueError as `start`."""
        await self._change(SENSORIF_OP_RATE, rate)

    async def stop(self) -> None:
        """Has no more samples taken. Those that are in the stream can still be read."""
        self.rate = 0
        await self._tell(SENSORIF_OP_STOP, 0)

    async def read(self, limit: int = 512) -> npt.NDArray[np.void]:
        """Returns samples as a structured array of one dimension: `time` (ns), `sequence`, `value` (m°C).

        Waits until there is one, and returns what there is, at most `limit`. Empty when the sensor was stopped and
        nothing is left. Of several readers, each gets samples of its own.

        Raises:
            ModuleNotFoundError: there is no NumPy; `read_raw` needs none.
        """
        try:
            import numpy as np
        except ModuleNotFoundError:
            raise ModuleNotFoundError("`read` returns NumPy arrays: pip install numpy, or use `read_raw`") from None
        return np.frombuffer(await self.read_raw(limit), SAMPLE.dtype())

    @retried
    async def read_raw(self, limit: int = 512) -> bytearray:
        """As `read`, but the samples as they are packed, one `SensorSample` after the other."""
        stream = self._stream
        if self.rate and stream.rate != self.rate:
            await self._tell(SENSORIF_OP_START, self.rate)
        async with stream.reader:
            while True:
                samples = self._pop(stream, limit)
                if samples or not self.rate:
                    return samples
                await self._wait(stream)

    def _pop(self, stream: _Stream, limit: int) -> bytearray:
        consumer = stream.consumer
        if consumer is None or stream.ended.is_set():
            raise PeerGone("the connection ended")
        samples = bytearray(min(limit, consumer.size) * SAMPLE.size)
        count = consumer.pop(samples)
        del samples[count * SAMPLE.size :]
        if count:
            last = SensorSample.unpack(samples, (count - 1) * SAMPLE.size).sequence
            self.lost += (last + 1 - stream.next - count) & 0xFFFF_FFFF
            stream.next = last + 1
        return samples

    async def _wait(self, stream: _Stream) -> None:
        assert stream.consumer is not None  # `_pop` has seen it
        if stream.consumer.arm():
            return
        try:
            await stream.channel.wait()
        except (PeerGone, PortClosed):
            # Hung up here, the connection is about to end; if it is only here, there is nothing to be read for ever.
            await stream.ended.wait()
        if not stream.ended.is_set() and not stream.consumer.available:
            # Notifications without samples must not keep us busy.
            await trio.sleep(REST_S)

    async def _change(self, operation: int, rate: int) -> None:
        await self.wait_connected()
        if not 1 <= rate <= self.max_rate:
            raise ValueError(f"{rate} samples a second are not in 1 .. {self.max_rate}")
        # Before it is sent, so that of a start and a stop at once both halves know the same one as the last.
        before, self.rate = self.rate, rate
        try:
            await self._tell(operation, rate)
        except RequestFailed:
            self.rate = before
            raise

    @retried
    async def _tell(self, operation: int, rate: int) -> None:
        stream = self._stream
        response = await self.request(SensorRequest(operation=operation, rate=rate))
        if response.status != SENSORIF_RSP_OKAY:
            raise RequestFailed(response.status, f"{self.nodename}: the backend refused {rate} samples a second")
        stream.rate = rate

    # The connection.

    async def setup(self) -> Mapping[str, NodeValue]:
        """Grants the stream's pages and makes its channel."""
        pages = SharedPages(self.domain, self.otherend_id, SENSORIF_STREAM_PAGES)
        # The backend unmaps them only when it has heard that we are Closed: they are given back then.
        self._shared.callback(self.give_back, pages.close)
        self._buffer = pages.buffer
        channel = self.domain.events.alloc_unbound(self.otherend_id)
        self._shared.callback(channel.close)
        self._stream = _Stream(channel)
        self._shared.callback(self._stream.ended.set)
        return {"stream-channel": channel.port, **{f"stream-ref{n}": gref for n, gref in enumerate(pages.grefs)}}

    async def connect(self) -> None:
        """Attaches to the ring that the backend has made.

        Raises:
            ProtocolError: the backend has no rate at which it could be read.
        """
        if not self.max_rate:
            raise ProtocolError("max-rate = 0 is no rate", self.otherend_id)
        consumer = Consumer(
            self._buffer,
            SAMPLE.size,
            XEN,
            domid=self.otherend_id,
            recorder=self.domain.recorder,
            name=f"{self.nodename}/stream",
        )
        self._shared.callback(consumer.close)
        self._stream.consumer = consumer

    async def disconnect(self) -> None:
        """Ends the stream; readers hear of it."""
        self._shared.close()
