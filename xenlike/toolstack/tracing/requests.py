"""Requests as spans of time, made of the events of rings.

Where entries are recorded and their protocol is known, a request is known by its `id`: at a frontend it lasts from
when it was pushed to when its response was popped, at a backend from when it was popped to when its response was
pushed. Without entries nobody can tell which response answers which request, but an index is the same at both ends:
then a span is what an entry lay in the ring for, from push to pop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xenlike.abi import recorder as abi
from xenlike.toolstack.tracing.protocols import fields_of

if TYPE_CHECKING:
    from xenlike.abi.struct import Struct
    from xenlike.toolstack.tracing.event import TraceEvent
    from xenlike.toolstack.tracing.protocols import Protocols

_MOST_AT_ONCE = 4096
"""No ring has more slots; a domain that says it has pushed more says nonsense."""
_MASK = 0xFFFF_FFFF


@dataclass(slots=True, eq=False)
class Span:
    """A request, or an entry in a ring.

    Attributes:
        domid: whose.
        device: its nodename.
        name: what it is called.
        begin_ns: when it began.
        end_ns: when it ended; 0 while it has not.
        details: what is known of it.
    """

    domid: int
    device: str
    name: str
    begin_ns: int
    end_ns: int = 0
    details: dict[str, str] = field(default_factory=dict)


class Requests:
    """Follows requests through events, which come in the order of their time."""

    def __init__(self, protocols: Protocols) -> None:
        self._protocols = protocols
        self._open: dict[tuple[object, ...], Span] = {}
        # Devices, by guest, whose entries are recorded: their requests are known better than by index.
        self._with_entries: set[tuple[str, ...]] = set()

    def take(self, event: TraceEvent) -> tuple[list[Span], list[Span]]:
        """Takes an event; returns the spans that begin with it, and those that end."""
        if event.side not in (0, 1):
            return [], []
        if event.kind == abi.XENLIKE_TRACE_ENTRY:
            return self._entry(event)
        if event.kind == abi.XENLIKE_TRACE_RING:
            if event.event == abi.XENLIKE_TRACE_PUSH:
                return self._pushed(event)
            if event.event == abi.XENLIKE_TRACE_POP:
                return [], self._popped(event)
        return [], []

    def unfinished(self, now_ns: int) -> list[Span]:
        """Ends what has not ended, at the end of the trace, and returns it."""
        spans = list(self._open.values())
        self._open.clear()
        for span in spans:
            span.end_ns = max(now_ns, span.begin_ns)
            span.details["unfinished"] = "when the trace ended"
        return spans

    def _entry(self, event: TraceEvent) -> tuple[list[Span], list[Span]]:
        entry = self._protocols.entry(event)
        ident = getattr(entry, "id", None)
        pair = _pair(event)
        if entry is None or not isinstance(ident, int) or pair is None:
            return [], []
        self._with_entries.add(pair)
        key = ("id", event.domid, event.device, ident)
        if (event.side == 0) == (event.event == abi.XENLIKE_TRACE_PUSHED):
            details = fields_of(entry)
            span = Span(event.domid, event.device, _name(entry, details), event.time_ns, details=details)
            return self._begin(key, span)
        span_ended = self._end(key, event.time_ns)
        for one in span_ended:
            one.details |= {f"response {name}": text for name, text in fields_of(entry).items() if name != "id"}
        return [], span_ended

    def _pushed(self, event: TraceEvent) -> tuple[list[Span], list[Span]]:
        pair = _pair(event)
        begun: list[Span] = []
        ended: list[Span] = []
        if pair is None or pair in self._with_entries or event.a > _MOST_AT_ONCE:
            return begun, ended
        for ahead in range(event.a):
            index = (event.b - event.a + ahead) & _MASK
            what = "request" if event.side == 0 else "response"
            span = Span(event.domid, event.device, f"{what} {index} in the ring", event.time_ns)
            started, lost = self._begin(("index", *pair, event.side, index), span)
            begun += started
            ended += lost
        return begun, ended

    def _popped(self, event: TraceEvent) -> list[Span]:
        pair = _pair(event)
        if pair is None or event.a > _MOST_AT_ONCE:
            return []
        ended = []
        for ahead in range(event.a):
            index = (event.b - event.a + ahead) & _MASK
            # What this end has taken was pushed by the other side.
            ended += self._end(("index", *pair, 1 - (event.side or 0), index), event.time_ns)
        return ended

    def _begin(self, key: tuple[object, ...], span: Span) -> tuple[list[Span], list[Span]]:
        # One that is still open under this name was lost sight of.
        ended = self._end(key, span.begin_ns)
        for one in ended:
            one.details["unfinished"] = "its end was not seen"
        self._open[key] = span
        return [span], ended

    def _end(self, key: tuple[object, ...], time_ns: int) -> list[Span]:
        span = self._open.pop(key, None)
        if span is None:
            return []
        span.end_ns = max(time_ns, span.begin_ns)
        return [span]


def _pair(event: TraceEvent) -> tuple[str, ...] | None:
    """Returns type, guest and device number: what both ends have in common."""
    parts = event.device.split("/")
    if len(parts) == 3 and parts[0] == "device":
        return parts[1], str(event.domid), parts[2]
    if len(parts) == 4 and parts[0] == "backend":
        return parts[1], parts[2], parts[3]
    return None


def _name(entry: Struct, details: dict[str, str]) -> str:
    """What a request is called: by its operation, where it has one."""
    for text in details.values():
        number, slash, constant = text.partition("/")
        if slash and number.lstrip("-").isdigit():
            return constant
    return type(entry).__name__
