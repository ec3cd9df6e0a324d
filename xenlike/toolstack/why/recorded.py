"""What domains' recorders tell of one device: its rings, its states, and the last things it did.

A recorder is its domain's word. What is read here goes into texts and comparisons, nothing is done by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from xenlike.abi import recorder as abi
from xenlike.toolstack.tracing import Protocols, TraceEvent, last_events
from xenlike.toolstack.tracing.words import describe
from xenlike.toolstack.why.evidence import QueueFacts

if TYPE_CHECKING:
    from typing_extensions import Buffer

_QUEUE = abi.RecorderQueue.__layout__
_TAIL = 12
_RINGS, _ONE_WAY = (0, 1), (2, 3)
"""`RecorderQueue.side`."""
_NS = 1_000_000_000
_QUIET = {
    (abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_READ),
    (abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_WATCH),
    (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_OTHEREND),
}
"""What others' writes bring about: one line for each is enough."""


class Recorded:
    """The recorders of some domains.

    Args:
        memories: recorders by domid.
        own: one whose word for its start is trusted, for the clock.
        protocols: tell what entries mean, in the trace.

    Attributes:
        memories: the recorders; what rings have there is read anew each time, the trace once.
    """

    def __init__(
        self, memories: Mapping[int, Buffer], own: Buffer | None = None, protocols: Protocols | None = None
    ) -> None:
        self.memories = {domid: memoryview(memory) for domid, memory in memories.items()}
        self._heads = {domid: abi.RecorderHead.unpack(memory) for domid, memory in self.memories.items()}
        self._events = last_events(self.memories, own)
        self._protocols = protocols
        self._now_ns = time.monotonic_ns()

    def is_used(self, domid: int) -> bool:
        """Says whether a domain writes to its recorder: a program in another language may not."""
        head = self._heads.get(domid)
        return head is not None and head.magic == abi.XENLIKE_RECORDER_MAGIC

    def queue(self, domid: int, nodename: str) -> QueueFacts | None:
        """Returns a device's end of its ring; see `find_queue`."""
        memory = self.memories.get(domid)
        return None if memory is None else find_queue(memory, nodename)

    def stream(self, domid: int, nodename: str) -> QueueFacts | None:
        """Returns a device's end of its one-way ring; see `find_stream`."""
        memory = self.memories.get(domid)
        return None if memory is None else find_stream(memory, nodename)

    def taken_s(self, domid: int, number: int) -> float | None:
        """Returns how long ago a ring's end last took something; None unless rings were traced then."""
        return self._age(
            event
            for event in reversed(self._events)
            if (event.domid, event.queue, event.kind) == (domid, number, abi.XENLIKE_TRACE_RING)
            and event.event == abi.XENLIKE_TRACE_POP
        )

    def looked(self, domid: int, nodename: str) -> bool | None:
        """Says whether a domain ever looked at a device; None where its recorder does not reach back so far."""
        return self._ever(domid, lambda event: _is_about(event, nodename))

    def begun(self, domid: int, nodename: str) -> bool | None:
        """Says whether a device ever had a state in a domain; likewise."""
        return self._ever(domid, lambda event: _is_state(event, nodename))

    def state(self, domid: int, nodename: str) -> tuple[int, float] | None:
        """Returns the state that a device itself went to last, and for how long it has had it."""
        states = (e for e in reversed(self._events) if e.domid == domid and _is_state(e, nodename))
        event = next(states, None)
        return None if event is None else (event.b, max(0.0, (self._now_ns - event.time_ns) / _NS))

    def tail(
        self, ends: Collection[tuple[int, str]], refs: Collection[int] = (), port: int = 0, limit: int = _TAIL
    ) -> list[str]:
        """Returns the last things that two domains did for a device, a line for each; what they only read is left out.

        Args:
            ends: domid and nodename of each, the frontend's first.
            refs: references of its ring.
            port: of the frontend.
            limit: at most so many.
        """
        front = next((domid for domid, _ in ends), -1)
        mine = [
            event
            for event in self._events
            if (event.kind, event.event) not in _QUIET
            and (
                any(event.domid == domid and _is_about(event, name) for domid, name in ends)
                or (any(event.domid == domid for domid, _ in ends) and _is_sharing(event, front, refs, port))
            )
        ]
        return [
            f"{(event.time_ns - self._now_ns) / _NS:11.3f} s  d{event.domid}  {describe(event, self._protocols)}"
            for event in mine[-limit:]
        ]

    def _ever(self, domid: int, is_it: Callable[[TraceEvent], bool]) -> bool | None:
        if not self.is_used(domid):
            return None
        if any(is_it(event) for event in self._events if event.domid == domid):
            return True
        return None if self._heads[domid].prod > abi.XENLIKE_RECORDER_RECORDS else False

    def _age(self, events: Iterator[TraceEvent]) -> float | None:
        event = next(events, None)
        return None if event is None else max(0.0, (self._now_ns - event.time_ns) / _NS)


def find_queue(memory: memoryview, nodename: str) -> QueueFacts | None:
    """Returns a device's end of its ring: of several the one that is in use, of old ones the last."""
    return _find(memory, nodename.encode()[:63] + b"\0", _RINGS)


def find_stream(memory: memoryview, nodename: str) -> QueueFacts | None:
    """Returns a device's end of a one-way ring, whose name begins with the device's; likewise."""
    return _find(memory, nodename.encode() + b"/", _ONE_WAY)


def _find(memory: memoryview, name: bytes, sides: Collection[int]) -> QueueFacts | None:
    found = None
    for number in range(1, abi.XENLIKE_RECORDER_QUEUES + 1):
        at = abi.XENLIKE_RECORDER_QUEUES_AT + (number - 1) * _QUEUE.size
        if memory[at : at + len(name)] == name:
            queue = _facts(number, abi.RecorderQueue.unpack(bytes(memory[at : at + _QUEUE.size])))
            if queue.side in sides and (found is None or queue.in_use >= found.in_use):
                found = queue
    return found


def _facts(number: int, queue: abi.RecorderQueue) -> QueueFacts:
    names = (name for name in QueueFacts.__struct_fields__ if name not in ("number", "in_use", "taken_s"))
    return QueueFacts(number=number, in_use=queue.in_use == 1, **{name: getattr(queue, name) for name in names})


def _is_about(event: TraceEvent, nodename: str) -> bool:
    if event.device:
        return event.device == nodename
    if event.kind != abi.XENLIKE_TRACE_STORE:
        return False
    path = event.text.partition(" = ")[0]
    return path == nodename or path.startswith(f"{nodename}/")


def _is_sharing(event: TraceEvent, front: int, refs: Collection[int], port: int) -> bool:
    """Whether a domain's grant or port is the ring's or its channel's; such events name no device."""
    own = event.domid == front
    match event.kind, event.event:
        case abi.XENLIKE_TRACE_GRANT, (abi.XENLIKE_TRACE_GRANTED | abi.XENLIKE_TRACE_REVOKED):
            return own and event.a in refs
        case abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_MAPPED:
            return event.b == front and any(event.a <= ref <= event.a + event.c for ref in refs)
        case abi.XENLIKE_TRACE_EVENT, (abi.XENLIKE_TRACE_ALLOC | abi.XENLIKE_TRACE_CLOSE):
            return own and event.a == port
        case abi.XENLIKE_TRACE_EVENT, abi.XENLIKE_TRACE_BIND:
            return event.b == front and event.c == port
    return False


def _is_state(event: TraceEvent, nodename: str) -> bool:
    return (event.kind, event.event, event.device) == (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_STATE, nodename)
