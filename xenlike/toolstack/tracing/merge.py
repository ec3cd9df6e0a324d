"""Events of several domains in the order of their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike import _core
from xenlike.abi.recorder import RecorderHead
from xenlike.toolstack.tracing.clock import Clock
from xenlike.toolstack.tracing.decode import Decoder
from xenlike.toolstack.tracing.reader import Chunk, RecorderReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

    from xenlike.toolstack.tracing.event import TraceEvent


class Merger:
    """Decodes chunks of many domains and brings their events into order.

    Recorders are read one after the other, so what the last one read has seen may be later than what the first one
    read has yet to tell. Events are kept back until nothing earlier can come: `upto`.
    """

    def __init__(self) -> None:
        self.decoders: dict[int, Decoder] = {}
        self._waiting: list[TraceEvent] = []

    def add(self, chunk: Chunk, clock: Clock) -> None:
        """Takes what was read of a domain."""
        decoder = self.decoders.get(chunk.domid)
        if decoder is None:
            decoder = self.decoders[chunk.domid] = Decoder(chunk.domid)
        if chunk.places is not None:
            decoder.places = {place.number: place for place in chunk.places}
        self._waiting += decoder.feed(chunk.records, clock, chunk.clock, chunk.lost)

    def upto(self, time_ns: int) -> list[TraceEvent]:
        """Returns the events so far that are not later than `time_ns`, in order, and forgets them."""
        # Stable: what one domain did at one moment stays in its order.
        self._waiting.sort(key=_time)
        count = len(self._waiting)
        while count and self._waiting[count - 1].time_ns > time_ns:
            count -= 1
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        return ready

    def rest(self, clock: Clock) -> list[TraceEvent]:
        """Returns all that are left, in order; no more chunks come."""
        for decoder in self.decoders.values():
            self._waiting += decoder.finish(clock)
        ready, self._waiting = sorted(self._waiting, key=_time), []
        return ready

    @property
    def lost(self) -> dict[int, int]:
        """How many records were lost so far, by domain."""
        return {domid: decoder.lost for domid, decoder in self.decoders.items() if decoder.lost}


def last_events(memories: Mapping[int, Buffer], head: Buffer | None = None) -> list[TraceEvent]:
    """Returns what is in the recorders of some domains, in order.

    Args:
        memories: recorders by domid, as `Hypercalls.recorder_memory` maps them, or `Recorder.memory`.
        head: a recorder whose word for its start is trusted, such as the reader's own; for the clock. Without it
            times within the last second are right, and those before a little less.
    """
    merger = Merger()
    chunks = []
    for domid, memory in memories.items():
        reader = RecorderReader(domid, memory)
        chunks.append(reader.read(2 * 8192))
    clock = Clock.of(RecorderHead.unpack(head)) if head is not None else Clock.since(*_core.trace_clock(1))
    for chunk in chunks:
        merger.add(chunk, clock)
    return merger.rest(clock)


def _time(event: TraceEvent) -> int:
    return event.time_ns
