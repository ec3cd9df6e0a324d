"""What happened around a breach: steps of the check, the store's changes, log lines, faults, and the rings' indices."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xenlike.abi import recorder as abi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xenlike.testing.fakestore import FakeTree
    from xenlike.testing.loopback import Loopback
    from xenlike.xenbus import Backend, Frontend

MOST_LINES = 40
MOST_EVENTS = 16
_SHOWN = abi.XENLIKE_TRACE_RING | abi.XENLIKE_TRACE_EVENT | abi.XENLIKE_TRACE_GRANT
_STATES = ("Unknown", "Initialising", "InitWait", "Initialised", "Connected", "Closing", "Closed")


class Trace:
    """Lines in the order of their happening; those of the store are merged in when it is read."""

    def __init__(self) -> None:
        self.tree: FakeTree | None = None
        self._lines: list[tuple[int, str]] = []
        self._frozen: list[str] | None = None

    def add(self, line: str) -> None:
        """Adds a line, after all changes of the store so far."""
        self._lines.append((0 if self.tree is None else self.tree.version, line))

    def begin(self, machine: Loopback) -> None:
        """A machine was made: the store is its own from now on."""
        self.tree, self._frozen = machine.tree, None
        self._lines = [(0, line) for _, line in self._lines]

    def look(self, machine: Loopback) -> None:
        """Takes down all so far, what the rings did last, and where they stand; what comes later is left out."""
        self._frozen = None
        self._frozen = [*self.lines(), *recorded(machine), *ring_lines(machine)]

    def lines(self, most: int = MOST_LINES) -> list[str]:
        """Returns the last lines, oldest first; those of `look`, once it was called."""
        if self._frozen is not None:
            return self._frozen
        history = [] if self.tree is None else self.tree.history
        merged, at = [], 0
        for position, line in self._lines:
            merged += [store_line(*change) for change in history[at:position]]
            merged.append(line)
            at = max(at, position)
        merged += [store_line(*change) for change in history[at:]]
        merged = [line for line in merged if line]
        left_out = len(merged) - most
        head = [f"... {left_out} lines before"] if left_out > 0 else []
        return [*head, *merged[-most:]]


def store_line(path: str, value: str | None) -> str:
    """Returns a change of the store as a line; empty for the empty nodes above others."""
    if value == "":
        return ""
    short = path.removeprefix("/local/domain/")
    if value is None:
        return f"store  d{short} removed"
    if path.endswith("/state") and value.isdigit() and int(value) < len(_STATES):
        value = f"{value} ({_STATES[int(value)]})"
    return f"store  d{short} = {value if len(value) <= 60 else value[:57] + '...'}"


def recorded(machine: Loopback, most: int = MOST_EVENTS) -> list[str]:
    """Returns the last events of rings, event channels and grants that the domains have recorded, oldest first."""
    from xenlike.toolstack.tracing import describe, last_events

    events = last_events({domid: domain.recorder.memory for domid, domain in machine.domains.items()})
    shown = [event for event in events if event.kind & _SHOWN]
    return [f"ring   d{event.domid} {event.device}: {describe(event)}".replace(" :", ":") for event in shown[-most:]]


def ring_lines(machine: Loopback) -> list[str]:
    """Returns a line for each end of each connected device."""
    lines = []
    for device in devices(machine):
        try:
            queue = device.queue
        except ConnectionError:
            lines.append(f"device {device!r}")
            continue
        lines.append(f"device {device!r} {queue._ring!r}")
    return lines


def devices(machine: Loopback) -> list[Frontend | Backend]:
    """Returns all devices of living domains."""
    found: list[Frontend | Backend] = []
    for domain in machine.domains.values():
        if domain.alive:
            for bus in (getattr(domain, "frontends", ()), getattr(domain, "backends", ())):
                found += list(bus)
    return found


class _Handler(logging.Handler):
    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.INFO)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__})"
        self._trace.add(f"log    {record.levelname} {text}")


@contextmanager
def logged(trace: Trace) -> Iterator[None]:
    """Takes this thread's log lines into a trace, and away from everybody else: laws make drivers complain."""
    root, mine = logging.getLogger(), threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != mine

    handler = _Handler(trace)
    handler.addFilter(lambda record: record.thread == mine)
    before, level = list(root.handlers), root.level
    for other in before:
        other.addFilter(others)
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        for other in before:
            other.removeFilter(others)
