"""A trace as Chrome's JSON trace events, which the Perfetto UI and chrome://tracing open.

    process   a domain
    thread    a device's ring: instants for kicks, arms, wakes, states and texts, and slices for its sleeps
    thread    a lane of that ring's requests: slices that do not overlap
    counter   requests in flight (frontend), requests without an answer (backend)

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Every slice is a complete
event ("X"), so that a file is balanced wherever it ends.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

from xenlike.abi import recorder as abi
from xenlike.toolstack.tracing.protocols import Protocols
from xenlike.toolstack.tracing.requests import Requests, Span
from xenlike.toolstack.tracing.words import describe, state_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xenlike.toolstack.tracing.event import TraceEvent

# Thread and process 0 are the idle ones to viewers.
_FIRST_PID = 10_000
_MASK = 0xFFFF_FFFF
_SILENT = {(abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_PUSH), (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_POP)}
"""Events that a slice and a counter already show."""


class PerfettoWriter:
    """Writes a trace file, event by event.

    Args:
        file: a text file; its owner closes it.
        protocols: of the devices.
    """

    def __init__(self, file: TextIO, protocols: Protocols) -> None:
        self._file = file
        self._protocols = protocols
        self._requests = Requests(protocols)
        self._begun = False
        self._names: dict[int, str] = {}
        self._threads: dict[tuple[int, str], int] = {}
        self._lanes: dict[tuple[int, str], list[Span | None]] = {}
        self._indices: dict[tuple[int, str, int], tuple[int | None, int | None]] = {}
        self._asleep: dict[tuple[int, str, int], int] = {}
        self._last_ns = 0
        self._file.write('{"displayTimeUnit":"ns","traceEvents":[')

    def know(self, names: Mapping[int, str]) -> None:
        """Takes the domains' names."""
        for domid, name in names.items():
            if self._names.get(domid) != name:
                self._names[domid] = name
                self._write_meta(domid, 0, "process_name", {"name": f"d{domid} {name}"})
                self._write_meta(domid, 0, "process_sort_index", {"sort_index": domid})

    def add(self, event: TraceEvent) -> None:
        """Takes the next event; they come in the order of their time."""
        if event.domid not in self._names:
            self.know({event.domid: ""})
        self._last_ns = max(self._last_ns, event.time_ns)
        begun, ended = self._requests.take(event)
        for span in ended:
            self._close(span)
        for span in begun:
            self._open(span)
        if event.kind == abi.XENLIKE_TRACE_ENTRY:
            return
        if event.kind == abi.XENLIKE_TRACE_RING:
            self._count(event)
            self._sleep(event)
        if (event.kind, event.event) not in _SILENT:
            self._instant(event)

    def finish(self) -> None:
        """Ends the file, with what has not ended yet."""
        for span in self._requests.unfinished(self._last_ns):
            self._close(span)
        for (domid, device, _), begin_ns in self._asleep.items():
            self._slice(domid, self._thread(domid, device), "asleep", begin_ns, self._last_ns, {})
        self._asleep.clear()
        self._file.write("\n]}\n")

    # -- what becomes of events --------------------------------------------------------------------

    def _instant(self, event: TraceEvent) -> None:
        name = event.name
        if (event.kind, event.event) == (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_STATE):
            name = state_name(event.b)
        elif event.kind == abi.XENLIKE_TRACE_USER:
            name = event.about()
        elif event.kind in (abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_EVENT):
            name = f"{event.class_name} {name}"
        self._write(
            event.domid,
            self._thread(event.domid, event.device or event.class_name),
            event.time_ns,
            {"ph": "i", "s": "t", "cat": event.class_name, "name": name},
            {"what": describe(event, self._protocols)},
        )

    def _count(self, event: TraceEvent) -> None:
        """A frontend's requests in flight, a backend's without an answer: the distance of its two indices."""
        key = (event.domid, event.device, event.queue)
        prod, cons = self._indices.get(key, (None, None))
        if event.event == abi.XENLIKE_TRACE_PUSH:
            prod = event.b
        elif event.event == abi.XENLIKE_TRACE_POP:
            cons = event.b
        else:
            return
        self._indices[key] = (prod, cons)
        if prod is None or cons is None or event.side not in (0, 1):
            return
        distance = (prod - cons if event.side == 0 else cons - prod) & _MASK
        what = "in flight" if event.side == 0 else "unanswered"
        counter = {"ph": "C", "name": f"{event.device} {what}"}
        # Where the first indices seen are of different moments the distance is none.
        if distance <= 1 << 16:
            self._write(event.domid, 0, event.time_ns, counter, {"requests": distance})

    def _sleep(self, event: TraceEvent) -> None:
        key = (event.domid, event.device, event.queue)
        if event.event == abi.XENLIKE_TRACE_ARM and not event.a:
            self._asleep.setdefault(key, event.time_ns)
        elif event.event in (abi.XENLIKE_TRACE_WAKE, abi.XENLIKE_TRACE_POP):
            begin_ns = self._asleep.pop(key, None)
            if begin_ns is not None:
                thread = self._thread(event.domid, event.device)
                self._slice(event.domid, thread, "asleep", begin_ns, event.time_ns, {})

    # -- lanes -------------------------------------------------------------------------------------

    def _open(self, span: Span) -> None:
        lanes = self._lanes.setdefault((span.domid, span.device), [])
        if None in lanes:
            lanes[lanes.index(None)] = span
        else:
            lanes.append(span)

    def _close(self, span: Span) -> None:
        lanes = self._lanes.get((span.domid, span.device), [])
        if span not in lanes:
            return
        lane = lanes.index(span)
        lanes[lane] = None
        thread = self._thread(span.domid, f"{span.device} #{lane}")
        self._slice(span.domid, thread, span.name, span.begin_ns, span.end_ns, span.details)

    # -- writing -----------------------------------------------------------------------------------

    def _thread(self, domid: int, name: str) -> int:
        thread = self._threads.get((domid, name))
        if thread is None:
            thread = self._threads[domid, name] = len(self._threads) + 1
            self._write_meta(domid, thread, "thread_name", {"name": name})
            self._write_meta(domid, thread, "thread_sort_index", {"sort_index": thread})
        return thread

    def _slice(
        self, domid: int, thread: int, name: str, begin_ns: int, end_ns: int, details: Mapping[str, str]
    ) -> None:
        duration = _micros(max(end_ns - begin_ns, 0))
        self._write(domid, thread, begin_ns, {"ph": "X", "cat": "request", "name": name, "dur": duration}, details)

    def _write(
        self, domid: int, thread: int, time_ns: int, what: Mapping[str, object], args: Mapping[str, object]
    ) -> None:
        head: dict[str, object] = {"pid": _FIRST_PID + domid, "tid": thread, "ts": _micros(time_ns)}
        self._put(head | dict(what) | {"args": dict(args)})

    def _write_meta(self, domid: int, thread: int, name: str, args: Mapping[str, object]) -> None:
        self._put({"ph": "M", "pid": _FIRST_PID + domid, "tid": thread, "name": name, "args": dict(args)})

    def _put(self, event: Mapping[str, object]) -> None:
        self._file.write((",\n" if self._begun else "\n") + json.dumps(event, separators=(",", ":")))
        self._begun = True


def _micros(ns: int) -> float:
    """The format's unit; a double holds nanoseconds of a hundred days."""
    return ns / 1000
