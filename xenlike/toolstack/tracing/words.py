"""Events in words: one line for each, for people.

12.345678  d2 device/vbd/51712  push 1 -> req_prod 17
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike.abi import recorder as abi
from xenlike.abi.grant_table import GNTST_TEXT
from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.tracing.event import TraceEvent
from xenlike.toolstack.tracing.protocols import Protocols, show

if TYPE_CHECKING:
    from collections.abc import Callable

_NS = 1_000_000_000
_MOST_BYTES = 32
# By side: the index that it publishes, the one that it takes by, the one at which it asks to be notified, its peer's.
_INDICES = {
    0: ("req_prod", "rsp_cons", "rsp_event", "req_event", "rsp_prod"),
    1: ("rsp_prod", "req_cons", "req_event", "rsp_event", "req_prod"),
    2: ("prod", "cons", "cons_event", "prod_event", "cons"),
    3: ("cons", "cons", "prod_event", "cons_event", "prod"),
}
_UNKNOWN_SIDE = ("prod", "cons", "event", "the peer's event", "the peer's index")
_BROKEN = {1: "ran ahead", 2: "went back"}


class Words:
    """Tells of events.

    Args:
        origin_ns: what times are told from, by CLOCK_MONOTONIC.
        protocols: of devices; without them entries are bytes.
    """

    def __init__(self, origin_ns: int = 0, protocols: Protocols | None = None) -> None:
        self.origin_ns = origin_ns
        self.protocols = protocols if protocols is not None else Protocols()

    def line(self, event: TraceEvent, device_width: int = 0) -> str:
        """Returns the whole line of an event."""
        return line(event, self.origin_ns, self.protocols, device_width)

    def describe(self, event: TraceEvent) -> str:
        """Returns what happened."""
        return describe(event, self.protocols)


def line(event: TraceEvent, origin_ns: int = 0, protocols: Protocols | None = None, device_width: int = 0) -> str:
    """Returns the line of an event: when, in seconds from `origin_ns`, who, on which device, and what."""
    device = f"{event.device:<{device_width}}  " if event.device or device_width else ""
    return f"{time_text(event.time_ns - origin_ns)}  d{event.domid} {device}{describe(event, protocols)}"


def time_text(ns: int) -> str:
    """Returns seconds with six digits after the point, in a column."""
    return f"{ns / _NS:12.6f}"


def describe(event: TraceEvent, protocols: Protocols | None = None) -> str:
    """Returns what happened, without when and to whom."""
    tell = _TOLD.get((event.kind, event.event))
    if event.kind == abi.XENLIKE_TRACE_ENTRY:
        text = _entry(event, protocols)
    elif tell is None:
        text = f"{event.class_name} {event.name}: {event.a} {event.b} {event.c} {event.d} {event.text}".rstrip()
    else:
        text = tell(event)
    return text if event.is_whole or event.kind == abi.XENLIKE_TRACE_ENTRY else f"{text} ... (the rest is lost)"


def state_name(number: int) -> str:
    """Returns a state's name; a number that is none as it is."""
    try:
        return XenbusState(number).name
    except ValueError:
        return str(number)


def _indices(event: TraceEvent) -> tuple[str, ...]:
    return _INDICES.get(event.side if event.side is not None else -1, _UNKNOWN_SIDE)


def _push(event: TraceEvent) -> str:
    return f"push {event.a} -> {_indices(event)[0]} {event.b}"


def _pop(event: TraceEvent) -> str:
    return f"pop {event.a} -> {_indices(event)[1]} {event.b}"


def _kick(event: TraceEvent) -> str:
    mine, _, _, theirs, _ = _indices(event)
    what = f"kick {mine} {event.c} -> {event.d}"
    if event.a:
        return f"{what}, notify: {theirs} is {event.b}"
    return f"{what}, no notification wanted: {theirs} is {event.b}"


def _arm(event: TraceEvent) -> str:
    what = f"arm {_indices(event)[2]} {event.b}"
    return f"{what}, no sleep: there is work already" if event.a else f"{what}, goes to sleep"


def _break(event: TraceEvent) -> str:
    why = _BROKEN.get(event.a, f"is impossible ({event.a})")
    return f"BROKEN: the peer's {_indices(event)[4]} {event.b} {why}"


def _wake(event: TraceEvent) -> str:
    return "woken: the peer hung up" if event.a else "woken"


def _entry(event: TraceEvent, protocols: Protocols | None) -> str:
    way = "wrote" if event.event == abi.XENLIKE_TRACE_PUSHED else "read"
    entry = protocols.entry(event) if protocols is not None and event.is_whole else None
    if entry is not None:
        return f"{way} [{event.a}] {show(entry)}"
    shown = event.payload[:_MOST_BYTES].hex(" ", 4)
    more = " ..." if event.b > _MOST_BYTES else ""
    return f"{way} [{event.a}] {event.b} bytes: {shown}{more}"


def _alloc(event: TraceEvent) -> str:
    return f"port {event.a} made, for d{event.b} to bind to"


def _bind(event: TraceEvent) -> str:
    return f"port {event.a} bound to port {event.c} of d{event.b}"


def _close(event: TraceEvent) -> str:
    return f"port {event.a} closed"


def _notify(event: TraceEvent) -> str:
    return f"port {event.a} notified"


def _granted(event: TraceEvent) -> str:
    how = "read" if event.d else "map"
    return f"gref {event.a} granted: d{event.b} may {how} frame {event.c}"


def _revoked(event: TraceEvent) -> str:
    if event.b:
        return f"gref {event.a} NOT revoked: it is still mapped"
    return f"gref {event.a} revoked"


def _others(count: int) -> str:
    return f" and {count} more" if count else ""


def _mapped(event: TraceEvent) -> str:
    what = f"gref {event.a} of d{event.b}{_others(event.c)}"
    if not event.d:
        return f"{what} mapped"
    status = event.d - (1 << 32) if event.d >> 31 else event.d
    return f"{what} NOT mapped: {GNTST_TEXT.get(status, f'status {status}')}"


def _unmapped(event: TraceEvent) -> str:
    return f"handle {event.a}{_others(event.b)} unmapped"


def _read(event: TraceEvent) -> str:
    return f"reads {event.text}"


def _write(event: TraceEvent) -> str:
    path, equals, value = event.text.partition(" = ")
    if path.endswith("/state") and value.isdecimal() and len(value) < 10:
        value = f"{value} ({state_name(int(value))})"
    return f"writes {path}{equals}{value}" + (f"  (transaction {event.a})" if event.a else "")


def _watch(event: TraceEvent) -> str:
    return f"hears of {event.text}"


def _conflict(event: TraceEvent) -> str:
    return f"transaction {event.a} failed: somebody else changed what it saw"


def _state(event: TraceEvent) -> str:
    return f"state {state_name(event.a)} -> {state_name(event.b)}"


def _otherend(event: TraceEvent) -> str:
    return f"sees {event.about() or 'its other end'} in {state_name(event.a)}"


def _fatal(event: TraceEvent) -> str:
    return f"GIVEN UP: {event.about()}"


def _lost(event: TraceEvent) -> str:
    return f"other end is gone: {event.about()}"


def _text(event: TraceEvent) -> str:
    return f'"{event.about()}"'


_TOLD: dict[tuple[int, int], Callable[[TraceEvent], str]] = {
    (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_PUSH): _push,
    (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_POP): _pop,
    (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_KICK): _kick,
    (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_ARM): _arm,
    (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_BREAK): _break,
    (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_WAKE): _wake,
    (abi.XENLIKE_TRACE_EVENT, abi.XENLIKE_TRACE_ALLOC): _alloc,
    (abi.XENLIKE_TRACE_EVENT, abi.XENLIKE_TRACE_BIND): _bind,
    (abi.XENLIKE_TRACE_EVENT, abi.XENLIKE_TRACE_CLOSE): _close,
    (abi.XENLIKE_TRACE_EVENT, abi.XENLIKE_TRACE_NOTIFY): _notify,
    (abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_GRANTED): _granted,
    (abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_REVOKED): _revoked,
    (abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_MAPPED): _mapped,
    (abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_UNMAPPED): _unmapped,
    (abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_READ): _read,
    (abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_WRITE): _write,
    (abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_WATCH): _watch,
    (abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_CONFLICT): _conflict,
    (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_STATE): _state,
    (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_OTHEREND): _otherend,
    (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_FATAL): _fatal,
    (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_LOST): _lost,
    (abi.XENLIKE_TRACE_USER, abi.XENLIKE_TRACE_TEXT): _text,
}
