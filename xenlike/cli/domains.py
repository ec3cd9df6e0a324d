"""`xenlike console`, `shutdown` and `destroy`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import DomainName, Json, print_json, with_machine
from xenlike.cli.status import FAILED

if TYPE_CHECKING:
    from xenlike.toolstack.control import Control


class Reason(StrEnum):
    """Xen's reasons that a person may give."""

    poweroff = "poweroff"
    reboot = "reboot"
    suspend = "suspend"
    crash = "crash"


def console(
    ctx: typer.Context,
    domain: DomainName,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on until the domain ends, or print what there is.")
    ] = True,
) -> None:
    """Show a domain's console, from its last words on, and send it what is typed.

    Ctrl-C leaves; the domain goes on.
    """
    with_machine(ctx, lambda control: _console(control, domain, follow))


async def _console(control: Control, domain: str, follow: bool) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        if follow:
            nursery.start_soon(_type_into, control, domain)
        async for data in control.console(domain, follow=follow):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        nursery.cancel_scope.cancel()


async def _type_into(control: Control, domain: str) -> None:
    """Sends what comes on our standard input, until its end."""
    import os

    import trio

    try:
        fd = sys.stdin.fileno()
        while True:
            await trio.lowlevel.wait_readable(fd)
            if not (data := os.read(fd, 4096)):
                return
            await control.console_input(domain, data)
    except (OSError, ValueError):
        return  # no standard input, or a file, which epoll refuses


def shutdown(
    ctx: typer.Context,
    domain: DomainName,
    reason: Annotated[Reason, typer.Option(help="What the domain is asked for.")] = Reason.poweroff,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for its end.")] = 10.0,
    json: Json = False,
) -> None:
    """Ask a domain to shut down, and wait for its end.

    One that has not ended in time is destroyed, and the exit status is 1.
    """
    ended = with_machine(ctx, lambda control: control.shutdown(domain, reason.value, timeout))
    if json:
        print_json(ended)
    else:
        how = f", signal {ended.signal}" if ended.signal else f", status {ended.code}" if ended.code else ""
        typer.echo(f"{domain}: {ended.reason}{how}")
    if ended.reason == "destroyed":
        raise typer.Exit(FAILED)


def destroy(ctx: typer.Context, domain: DomainName) -> None:
    """End a domain at once, without asking it."""
    with_machine(ctx, lambda control: control.destroy(domain))
