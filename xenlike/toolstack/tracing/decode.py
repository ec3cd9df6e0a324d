"""Records of one domain to events. Nothing of them is believed: whatever the bytes are, events come out, or none.

A reader that comes late begins anywhere, perhaps amid a payload, whose bytes then look like records. So a record
counts as one only if its class and event exist and its time lies where it can lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenlike.abi import recorder as abi
from xenlike.toolstack.tracing.event import NAMES, TraceEvent, device_in, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Buffer

    from xenlike.toolstack.tracing.clock import Clock

RECORD = abi.TraceRecord.__layout__.size
MOST_PAYLOAD = 224
_PAYLOAD_PER_RECORD = 28
_MOST_MORE = MOST_PAYLOAD // _PAYLOAD_PER_RECORD
_SLACK_NS = 10_000_000_000
_OF_RINGS = abi.XENLIKE_TRACE_RING | abi.XENLIKE_TRACE_ENTRY
_QUEUE = abi.RecorderQueue.__layout__
_NO_NAME = bytes(64)


@dataclass(frozen=True, slots=True)
class RingPlace:
    """What is to be known of a ring's end to tell of its events.

    Attributes:
        number: of its place in the recorder.
        device: the nodename.
        side: 0 front, 1 back, 2 producer, 3 consumer; or nonsense.
        in_use: False when it was closed.
        nr_slots: of the ring.
    """

    number: int
    device: str
    side: int
    in_use: bool = True
    nr_slots: int = 0


def ring_places(memory: Buffer) -> dict[int, RingPlace]:
    """Returns the rings that a recorder has, by number; also those that are closed, and places not used again."""
    view = memoryview(memory)
    found = {}
    for number in range(1, abi.XENLIKE_RECORDER_QUEUES + 1):
        at = abi.XENLIKE_RECORDER_QUEUES_AT + (number - 1) * _QUEUE.size
        copy = bytes(view[at : at + _QUEUE.size])
        if copy[:64] == _NO_NAME and not any(copy[64:]):
            continue
        queue = abi.RecorderQueue.unpack(copy)
        name = printable(queue.name.partition(b"\0")[0])
        found[number] = RingPlace(number, name, queue.side, bool(queue.in_use), queue.nr_slots)
    return found


class Decoder:
    """Makes events of the records of one domain, as they come.

    Args:
        domid: whose they are.

    Attributes:
        lost: records that were overwritten before they were read, or that made no sense.
        places: the domain's rings by number; to be kept up to date by whoever feeds.
    """

    def __init__(self, domid: int) -> None:
        self.domid = domid
        self.lost = 0
        self.places: Mapping[int, RingPlace] = {}
        # A record whose payload has not come completely, and that of it which has.
        self._head: abi.TraceRecord | None = None
        self._parts: list[bytes] = []
        self._clock_kind = 0

    def feed(self, records: bytes, clock: Clock, clock_kind: int, lost: int = 0) -> list[TraceEvent]:
        """Takes the next records.

        Args:
            records: as `read_trace` returns them: 32 bytes each, zeros for one that could not be had.
            clock: of the reader, not older than the records.
            clock_kind: what the recorder says of its times, `RecorderHead.clock`.
            lost: how many were overwritten just before these.

        Returns:
            Events in the order of their recording; that one whose payload is still to come is kept back.
        """
        return list(self._feed(records, clock, clock_kind, lost))

    def _feed(self, records: bytes, clock: Clock, clock_kind: int, lost: int) -> Iterator[TraceEvent]:
        self._clock_kind = clock_kind
        if lost:
            self.lost += lost
            yield from self.finish(clock)
        for at in range(0, len(records) - RECORD + 1, RECORD):
            record = records[at : at + RECORD]
            if self._head is not None:
                self._parts.append(record[4:] if any(record[:4]) else b"")
                if len(self._parts) >= self._head.more:
                    yield from self.finish(clock)
                continue
            head = abi.TraceRecord.unpack(record)
            if not self._makes_sense(head, clock):
                self.lost += 1
                continue
            self._head = head
            if not head.more:
                yield from self.finish(clock)

    def finish(self, clock: Clock) -> Iterator[TraceEvent]:
        """Yields the event whose payload was waited for, with what has come of it; none comes any more."""
        head, self._head = self._head, None
        parts, self._parts = self._parts, []
        if head is None:
            return
        missing = head.more - sum(map(bool, parts))
        self.lost += missing
        payload = b"".join(part or bytes(_PAYLOAD_PER_RECORD) for part in parts)
        whole = not missing
        if head.kind == abi.XENLIKE_TRACE_ENTRY:
            whole = whole and head.b <= MOST_PAYLOAD
            payload = payload[: head.b]
        else:
            payload = payload.rstrip(b"\0")
        place = self.places.get(head.queue) if head.kind & _OF_RINGS else None
        device = place.device if place is not None else ""
        if head.kind in (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_USER):
            device = device_in(printable(payload))
        yield TraceEvent(
            time_ns=clock.to_ns(head.time, self._clock_kind),
            domid=self.domid,
            kind=head.kind,
            event=head.event,
            device=device,
            side=place.side if place is not None else None,
            queue=head.queue,
            a=head.a,
            b=head.b,
            c=head.c,
            d=head.d,
            payload=payload,
            is_whole=whole,
        )

    def _makes_sense(self, head: abi.TraceRecord, clock: Clock) -> bool:
        if head.event not in NAMES.get(head.kind, ()) or head.more > _MOST_MORE:
            return False
        if self._clock_kind == 0:
            return clock.ns - _SLACK_NS <= head.time <= clock.now_ns + _SLACK_NS
        # Before the first moment only by what the domain's start and the reader's may be apart.
        rate = (clock.now_ticks - clock.ticks) / max(clock.now_ns - clock.ns, 1)
        slack = int(_SLACK_NS * min(max(rate, 1.0), 10.0))
        return clock.ticks - slack <= head.time <= clock.now_ticks + slack
