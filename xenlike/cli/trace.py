"""`xenlike trace`: follows what domains record."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import with_machine
from xenlike.errors import ConfigError, MachineError

if TYPE_CHECKING:
    from typing import TextIO

    import trio

    from xenlike.cli.trace_output import Output
    from xenlike.toolstack.control import Control
    from xenlike.toolstack.tracing.client import TraceClient

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def trace(
    ctx: typer.Context,
    device: Annotated[
        str,
        typer.Argument(
            metavar="[DEVICE]",
            help="Only this device, both ends: `guest/xvda`, `guest/echo/0`, `d2/echo/0`. Or only this domain.",
        ),
    ] = "",
    entries: Annotated[
        bool, typer.Option("--entries/--no-entries", help="Show requests and responses themselves.")
    ] = True,
    classes: Annotated[
        str,
        typer.Option("--class", metavar="NAMES", help="Only these: ring,entry,event,grant,store,xenbus,user."),
    ] = "",
    last: Annotated[bool, typer.Option("--last", help="Print what has been recorded so far, and end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line, for scripts.")] = False,
    perfetto: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a trace for https://ui.perfetto.dev or chrome://tracing instead."),
    ] = None,
) -> None:
    """Show what domains and their devices do, as it happens.

    Each domain keeps its last 8192 events of states, store, grants and event channels. What rings do is recorded only
    while somebody looks, so `--last` has it only of such moments. Ctrl-C ends.
    """
    wanted = chosen_classes(classes, entries)

    async def run(control: Control) -> bool:
        from xenlike.toolstack.tracing.client import TraceClient

        return await _run(TraceClient(control, device, wanted, follow=not last), json, perfetto)

    if with_machine(ctx, run):
        raise KeyboardInterrupt


def chosen_classes(names: str, entries: bool) -> int:
    """Returns the bits of the classes that are wanted.

    Raises:
        ConfigError: a name is no class.
    """
    from xenlike.toolstack.tracing.event import CLASSES

    chosen = 0
    for name in filter(None, map(str.strip, names.split(","))):
        if name not in CLASSES:
            raise ConfigError(f"there is no class of events {name!r}; there are: {', '.join(CLASSES)}")
        chosen |= CLASSES[name]
    chosen = chosen or sum(CLASSES.values())
    return chosen if entries else chosen & ~CLASSES["entry"]


async def _run(client: TraceClient, json: bool, perfetto: Path | None) -> bool:
    """Writes the trace; returns whether it was ended by a signal."""
    import trio

    from xenlike.cli.trace_output import JsonOutput, LineOutput, PerfettoOutput

    output: Output
    if perfetto is not None:
        output = PerfettoOutput(lambda: _open(perfetto))
    elif json:
        output = JsonOutput(sys.stdout, client.protocols)
    else:
        output = LineOutput(sys.stdout, client.protocols)
    interrupted = False
    async with trio.open_nursery() as nursery:

        async def interrupt(task_status: trio.TaskStatus[None]) -> None:
            nonlocal interrupted
            # Not as an exception: that could come amid a line of a file.
            with trio.open_signal_receiver(*_ENDS) as signals:
                task_status.started()
                async for _ in signals:
                    interrupted = True
                    nursery.cancel_scope.cancel()

        await nursery.start(interrupt)
        try:
            await _follow(client, output)
        finally:
            output.finish(client)
        nursery.cancel_scope.cancel()
    if perfetto is not None:
        typer.echo(f"{output.count} events in {perfetto}; open it in https://ui.perfetto.dev", err=True)
    for domid, count in client.lost.items():
        typer.echo(
            f"xenlike: {count} records of d{domid} were overwritten before they were read: it keeps the last 8,192",
            err=True,
        )
    return interrupted


async def _follow(client: TraceClient, output: Output) -> None:
    from contextlib import aclosing

    begun = False
    try:
        async with aclosing(client.batches()) as batches:
            async for events in batches:
                begun = True
                output.write(client, events)
    except MachineError as error:
        if not begun or type(error) is not MachineError:
            raise
        typer.echo(f"xenlike: {error}", err=True)


def _open(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
