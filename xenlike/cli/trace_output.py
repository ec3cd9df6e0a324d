"""Where a trace goes: lines for people, JSON for scripts, a file for Perfetto."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from xenlike.abi import recorder as abi
from xenlike.toolstack.tracing.perfetto import PerfettoWriter
from xenlike.toolstack.tracing.protocols import Protocols, fields_of
from xenlike.toolstack.tracing.words import describe, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xenlike.toolstack.tracing.client import TraceClient
    from xenlike.toolstack.tracing.event import TraceEvent

_WIDEST = 28
_COLORS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_BAD = {
    (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_BREAK),
    (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_FATAL),
    (abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_LOST),
}


class Output(Protocol):
    """Takes events in order, some at a time, then `finish`."""

    count: int

    def write(self, client: TraceClient, events: Sequence[TraceEvent]) -> None:
        """Takes the next events."""

    def finish(self, client: TraceClient) -> None:
        """Takes what the client has kept back, and ends."""


class LineOutput:
    """A line an event, in its domain's colour where the file is a terminal that has colours.

    Args:
        file: where it goes.
        protocols: of the devices.
    """

    def __init__(self, file: TextIO, protocols: Protocols) -> None:
        self.count = 0
        self._file = file
        self._protocols = protocols
        self._width = 0
        self._paint = _painter(file)

    def write(self, client: TraceClient, events: Sequence[TraceEvent]) -> None:
        """Prints the events."""
        self.count += len(events)
        self._file.write("".join([self._line(event, client.first_ns) for event in events]))
        self._file.flush()

    def finish(self, client: TraceClient) -> None:
        """Prints the rest."""
        self.write(client, client.rest())

    def _line(self, event: TraceEvent, origin_ns: int) -> str:
        self._width = max(self._width, min(len(event.device), _WIDEST))
        who = f"d{event.domid} {event.device:<{self._width}}"
        return self._paint(event, time_text(event.time_ns - origin_ns), who, describe(event, self._protocols)) + "\n"


class JsonOutput:
    """A JSON object a line.

    Args:
        file: where it goes.
        protocols: of the devices.
    """

    def __init__(self, file: TextIO, protocols: Protocols) -> None:
        self.count = 0
        self._file = file
        self._protocols = protocols

    def write(self, client: TraceClient, events: Sequence[TraceEvent]) -> None:
        """Prints the events."""
        self.count += len(events)
        lines = [json.dumps(as_json(event, self._protocols, client.names.get(event.domid, ""))) for event in events]
        self._file.write("".join(f"{line}\n" for line in lines))
        self._file.flush()

    def finish(self, client: TraceClient) -> None:
        """Prints the rest."""
        self.write(client, client.rest())


class PerfettoOutput:
    """A file for the Perfetto UI.

    Args:
        open: makes the file, when it is known that there is something to trace.
    """

    def __init__(self, open: Callable[[], TextIO]) -> None:
        self.count = 0
        self._open = open
        self._file: TextIO | None = None
        self._writer: PerfettoWriter | None = None

    def write(self, client: TraceClient, events: Sequence[TraceEvent]) -> None:
        """Writes the events."""
        if self._writer is None:
            self._file = self._open()
            self._writer = PerfettoWriter(self._file, client.protocols)
        self.count += len(events)
        self._writer.know(client.names)
        for event in events:
            self._writer.add(event)

    def finish(self, client: TraceClient) -> None:
        """Writes the rest, and closes the file; makes none for a machine that never answered."""
        if self._writer is None and not client.names:
            return
        self.write(client, client.rest())
        assert self._writer is not None
        assert self._file is not None
        with self._file:
            self._writer.finish()


def as_json(event: TraceEvent, protocols: Protocols, domain: str = "") -> dict[str, object]:
    """Returns an event as `xenlike trace --json` has it."""
    entry = protocols.entry(event) if event.is_whole else None
    found: dict[str, object] = {
        "time_ns": event.time_ns,
        "domid": event.domid,
        "domain": domain,
        "class": event.class_name,
        "event": event.name,
        "device": event.device,
        "numbers": [event.a, event.b, event.c, event.d],
        "what": describe(event, protocols),
    }
    if entry is not None:
        found["entry"] = {"type": type(entry).__name__, **fields_of(entry)}
    elif event.kind == abi.XENLIKE_TRACE_ENTRY:
        found["bytes"] = event.payload.hex()
    elif event.payload:
        found["text"] = event.text
    if not event.is_whole:
        found["is_whole"] = False
    return found


def _painter(file: TextIO) -> Callable[[TraceEvent, str, str, str], str]:
    from rich.console import Console

    console = Console(file=file)
    if console.color_system is None or console.no_color:
        return lambda event, when, who, what: f"{when}  {who}  {what}"
    from rich.style import Style

    dim, bad = Style.parse("dim"), Style.parse("bold red")
    domains = [Style.parse(color) for color in _COLORS]

    def paint(event: TraceEvent, when: str, who: str, what: str) -> str:
        style = domains[event.domid % len(domains)]
        said = bad.render(what) if (event.kind, event.event) in _BAD else what
        return f"{dim.render(when)}  {style.render(who)}  {said}"

    return paint
