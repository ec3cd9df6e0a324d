"""What `xenlike dev` shows: lines for whoever keeps them, or one screen for who looks at it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.consoles import LinePrinter
from xenlike.toolstack.tracing.event import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from xenlike.toolstack.follower import NodeChange

STEPS, CONSOLE_LINES = 30, 12
"""Lines of the handshake and of the consoles, on a screen that has room for them."""
OTHER_LINES = 9
"""Of the screen: title, heads of columns, counts, a note, two lines of error, the last line, and some air."""
REDRAW_S = 0.1


class Display(Protocol):
    """Whom a session tells what happens."""

    def begin(self, number: int, title: str) -> None:
        """Both halves are about to start."""

    def changed(self, change: NodeChange) -> None:
        """A node of the device has changed."""

    def said(self, domain: str, data: bytes) -> None:
        """A domain has printed something."""

    def counted(self, done: int, failed: int) -> None:
        """The guest has used the device so often."""

    def error(self, text: str) -> None:
        """Something went wrong."""

    def note(self, text: str) -> None:
        """What a person should know."""


def tame(text: str) -> str:
    """Returns what a domain has said as text that does nothing to a terminal."""
    return printable(text.rstrip("\n").encode(errors="replace"))


def state_name(value: str) -> str:
    """Returns a state's name; what is none as it is."""
    return XenbusState(int(value)).name if value.isdecimal() and int(value) <= 8 else repr(value)


def described(change: NodeChange) -> str:
    """Returns a change of a device's node in a few words."""
    if change.kind == "error":
        return f"error: {tame(change.value)}" if change.value is not None else "error is cleared"
    if change.value is None:
        return "is gone" if change.name == "state" else f"{change.name} is removed"
    if change.name == "state":
        return state_name(change.value)
    return f"{change.name} = {tame(change.value)}"


class Lines:
    """One line for everything that happens, with the milliseconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._printer = LinePrinter(lambda text: self._print(f"           {tame(text)}"))
        self._counts = (0, 0)
        self._shown_s = 0.0

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _at(self, text: str) -> None:
        self._print(f"{(time.monotonic() - self._start) * 1000:7.0f} ms {text}")

    def begin(self, number: int, title: str) -> None:
        """Both halves are about to start."""
        self._start = time.monotonic()
        self._counts, self._shown_s = (0, 0), 0.0
        self._print(f"{title}{f', reloaded {number - 1}' if number > 1 else ''}")

    def changed(self, change: NodeChange) -> None:
        """A node of the device has changed."""
        if change.kind != "data":
            self._at(f"{change.kind:<9} d{change.domid}  {described(change)}")

    def said(self, domain: str, data: bytes) -> None:
        """A domain has printed something."""
        self._printer(domain, data)

    def counted(self, done: int, failed: int) -> None:
        """The guest has used the device so often: said at the first, at failures, and each second."""
        now = time.monotonic()
        if not done + failed:
            return
        if (done and not self._counts[0]) or failed != self._counts[1] or now - self._shown_s >= 1:
            self._shown_s = now
            self._at(f"{done} operation{'s' if done != 1 else ''}, {failed} failed")
        self._counts = (done, failed)

    def error(self, text: str) -> None:
        """Something went wrong."""
        self._at(f"error: {tame(text)}")

    def note(self, text: str) -> None:
        """What a person should know."""
        self._at(text)


class Screen:
    """One screen: the handshake as a ladder of two columns, the counts, the last error, the consoles."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._drawn_s = 0.0
        self._printer = LinePrinter(self._keep)
        self._output: deque[str] = deque(maxlen=CONSOLE_LINES)
        self._clear("")

    def _clear(self, title: str) -> None:
        self._start = time.monotonic()
        self._title, self._note, self._error = title, "", ""
        self._steps: deque[tuple[str, str, str, str]] = deque(maxlen=STEPS)
        self._counts = (0, 0)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draws for the length of the block; what was last on the screen stays there."""
        from rich.live import Live

        with Live(console=self._console, auto_refresh=False, vertical_overflow="crop") as self._live:
            try:
                yield
            finally:
                self._draw()
                self._live = None

    def tick(self) -> None:
        """Draws what has changed; for a task that has nothing else to do."""
        if time.monotonic() - self._drawn_s >= REDRAW_S:
            self._draw()

    def _draw(self) -> None:
        if self._live is not None:
            self._drawn_s = time.monotonic()
            self._live.update(self.picture(), refresh=True)

    def _keep(self, text: str) -> None:
        self._output.append(tame(text))

    def begin(self, number: int, title: str) -> None:
        """Both halves are about to start."""
        self._clear(f"{title}{f' · reloaded {number - 1}' if number > 1 else ''}")
        self._output.clear()

    def changed(self, change: NodeChange) -> None:
        """A node of the device has changed."""
        if change.kind == "data":
            return
        if change.kind == "error" and change.value is not None:
            self._error = f"d{change.domid} gave the device up: {tame(change.value)}"
        style = "red" if change.kind == "error" else "bold" if change.name == "state" else "dim"
        at = f"{(time.monotonic() - self._start) * 1000:.0f}"
        self._steps.append((at, change.kind, described(change), style))

    def said(self, domain: str, data: bytes) -> None:
        """A domain has printed something."""
        self._printer(domain, data)

    def counted(self, done: int, failed: int) -> None:
        """The guest has used the device so often."""
        self._counts = (done, failed)

    def error(self, text: str) -> None:
        """Something went wrong."""
        self._error = tame(text)

    def note(self, text: str) -> None:
        """What a person should know."""
        self._note = text

    def picture(self) -> RenderableType:
        """Returns what the screen shows now: no more lines than it has."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        room = max(self._console.height - OTHER_LINES, 2)
        output = list(self._output)[-min(CONSOLE_LINES, room // 3) :] if room >= 3 else []
        steps = list(self._steps)[-min(STEPS, room - len(output)) :]
        ladder = Table(box=None, pad_edge=False)
        ladder.add_column("ms", justify="right", style="dim")
        for title in ("frontend", "backend"):
            ladder.add_column(title, min_width=34, no_wrap=True, overflow="ellipsis")
        for at, side, what, style in steps:
            text = Text(what, style)
            ladder.add_row(at, *((text, "") if side == "frontend" else ("", text)))
        done, failed = self._counts
        parts: list[RenderableType] = [
            Text(self._title, "bold", no_wrap=True, overflow="ellipsis"),
            ladder,
            Text(f"{done:,} operations, {failed:,} failed", "red" if failed else "green"),
        ]
        if self._error:
            parts.append(Text(self._error[: 2 * self._console.width], "red"))
        if self._note:
            parts.append(Text(self._note, "yellow", no_wrap=True, overflow="ellipsis"))
        parts += [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in output]
        parts.append(Text("Save a file to reload. Ctrl-C ends.", "dim"))
        return Group(*parts)
