"""`xenlike top`: what a machine does, live.

The figures come from the published statistics, past the machine's own process: a task renews the lease over its
control socket, another one draws whatever is new, and when the first has to wait the second says so.
"""

from __future__ import annotations

import os
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import chosen_machine, stdout, wide_stdout

if TYPE_CHECKING:
    import trio
    from rich.console import RenderableType

    from xenlike.toolstack.statistics import Snapshot


class Sort(StrEnum):
    """What the lines of `top` are in the order of."""

    cpu = "cpu"
    memory = "memory"
    requests = "requests"
    notifications = "notifications"
    domid = "domid"


LOOKS = 5
"""Looks for a new snapshot in each period."""
STALE_PERIODS = 3
LEASE_S = 12.0
SORT_KEYS = {"c": Sort.cpu, "m": Sort.memory, "r": Sort.requests, "n": Sort.notifications, "i": Sort.domid}


def top(
    ctx: typer.Context,
    period_s: Annotated[
        float, typer.Option("--period", "-p", metavar="S", min=0.1, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    sort: Annotated[Sort, typer.Option("--sort", "-s", help="Order of the lines, the largest first.")] = Sort.cpu,
    devices: Annotated[bool, typer.Option("--devices", "-d", help="A line for each ring, too.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Look for one period, print that, and end.")] = False,
) -> None:
    """Show what the domains do: CPU, memory, requests, notifications, spins, sleeps, and how full their rings are.

    Keys: **c** CPU, **m** memory, **r** requests, **n** notifications, **i** domid for the order; **d** devices; **q**
    ends. Where the output is no terminal it looks once.
    """
    import trio

    name = chosen_machine(ctx)
    view = View(name, period_s, sort, devices)
    if once or not sys.stdout.isatty():
        wide_stdout().print(trio.run(_once, view))
    else:
        trio.run(_live, view)


class View:
    """What is on the screen.

    Args:
        name: the machine's.
        period_s: between two snapshots.
        sort: order of the lines.
        devices: also show rings.
    """

    def __init__(self, name: str, period_s: float, sort: Sort, devices: bool) -> None:
        self.name = name
        self.period_s = period_s
        self.sort = sort
        self.devices = devices
        self.note = ""
        self._began_s = time.monotonic()
        self._before: Snapshot | None = None
        self._now: Snapshot | None = None

    def take(self, snapshot: Snapshot) -> bool:
        """Takes a snapshot; returns whether it is a new one."""
        if self._now is not None and snapshot.sequence == self._now.sequence:
            return False
        # Births and deaths are published between the periods; rates over a moment say little.
        if self._before is None or self._now is None or snapshot.time_s - self._before.time_s >= self.period_s * 1.5:
            self._before = self._now
        self._now = snapshot
        return True

    def press(self, key: str) -> bool:
        """Does what a key asks for; returns False when that is the end."""
        if key in SORT_KEYS:
            self.sort = SORT_KEYS[key]
        elif key == "d":
            self.devices = not self.devices
        return key not in ("q", "Q", "\x03", "\x04")

    def draw(self) -> RenderableType:
        """Returns the screen."""
        from rich.text import Text

        from xenlike.cli import top_display
        from xenlike.toolstack.rates import rates

        if self._now is None:
            return Text(self.note or "waiting for the first figures")
        notes = [self.note] if self.note else []
        waited_s = min(self._now.age_s, time.monotonic() - self._began_s)
        if waited_s > STALE_PERIODS * self.period_s + 1:
            notes.append(f"these figures are {self._now.age_s:.0f} s old: the machine's own process is busy")
        lines = rates(self._before, self._now)
        return top_display.top(self.name, lines, sort=self.sort, devices=self.devices, notes=notes)


async def _once(view: View) -> RenderableType:
    """Takes two snapshots a period apart. A machine whose own process is busy has one, and no rates."""
    import trio

    from xenlike.toolstack.statistics import fresh

    view.take((await fresh(view.name))[0])
    await trio.sleep(view.period_s)
    snapshot, is_fresh = await fresh(view.name)
    if not view.take(snapshot) or not is_fresh:
        view.note = f"the machine's own process is busy: this is {snapshot.age_s:.0f} s old"
    return view.draw()


async def _live(view: View) -> None:
    import trio
    from rich.live import Live

    with _keyboard() as keyboard, Live(console=stdout(), screen=True, auto_refresh=False) as live:

        def draw() -> None:
            live.update(view.draw(), refresh=True)

        async with trio.open_nursery() as nursery:
            nudge = [trio.Event()]
            nursery.start_soon(_renew, view, nudge)
            nursery.start_soon(_follow, view, nudge, draw)
            if keyboard is not None:
                nursery.start_soon(_listen, keyboard, view, draw, nursery.cancel_scope)


async def _renew(view: View, nudge: list[trio.Event]) -> None:
    """Asks for snapshots, and again before the lease ends; fails when the machine is gone."""
    import trio

    from xenlike.toolstack.statistics import ask

    lease_s = max(LEASE_S, 4 * view.period_s)
    while True:
        await ask(view.name, period_ms=round(1000 * view.period_s), lease_ms=round(1000 * lease_s))
        nudge[0] = trio.Event()
        with trio.move_on_after(lease_s / 3):
            await nudge[0].wait()


async def _follow(view: View, nudge: list[trio.Event], draw: Callable[[], None]) -> None:
    """Draws what is new, and once a second how old it is."""
    import trio

    from xenlike.errors import MachineError
    from xenlike.toolstack.statistics import read

    drawn_s = 0.0
    while True:
        is_new = False
        try:
            is_new = view.take(read(view.name))
            view.note = ""
        except FileNotFoundError:
            # Gone, or not there yet: whoever renews the lease hears which.
            nudge[0].set()
        except MachineError as error:
            view.note = str(error)
        if is_new or time.monotonic() - drawn_s > 1:
            draw()
            drawn_s = time.monotonic()
        await trio.sleep(view.period_s / LOOKS)


async def _listen(fd: int, view: View, draw: Callable[[], None], scope: trio.CancelScope) -> None:
    import trio

    while True:
        await trio.lowlevel.wait_readable(fd)
        for key in os.read(fd, 64).decode(errors="replace") or "q":
            if not view.press(key):
                scope.cancel()
                return
        draw()


@contextmanager
def _keyboard() -> Iterator[int | None]:
    """Has keys come one by one, without being shown; None where there is no keyboard."""
    if not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    raw = termios.tcgetattr(fd)
    raw[3] &= ~(termios.ICANON | termios.ECHO)
    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, raw)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
