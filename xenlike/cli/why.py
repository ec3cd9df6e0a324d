"""`xenlike why`: what a device waits for, and from whom."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import Json, print_json, stdout, with_machine

if TYPE_CHECKING:
    from rich.console import RenderableType

    from xenlike.toolstack.why import Explanation


def why(
    ctx: typer.Context,
    device: Annotated[
        str,
        typer.Argument(
            metavar="[DEVICE]",
            help="As `guest/xvda`, `guest/vbd/51712`, `guest/echo/0`, `d2/echo/0`. Without it: a line for each device.",
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Say why a device does not move: what is awaited, from whom, and how that was found out.

    Looks at both ends: their store nodes, domains, grants, event channels and rings, and the last things that they did.
    It changes nothing, and takes a tenth of a second.
    """
    told = with_machine(ctx, lambda control: control.why(device))
    if json:
        print_json(told if not device else told[0])
    elif device:
        show(told[0])
    elif told:
        show_all(told)
    else:
        typer.echo("this machine has no devices")


def show_all(told: list[Explanation]) -> None:
    """Prints a line for each device."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in told:
        table.add_row(Text(one.device), Text(one.sentence, style="green" if one.healthy else ""))
    stdout().print(table)


def show(told: Explanation) -> None:
    """Prints one explanation: the sentence, what to do, both ends side by side, and the trace."""
    from rich.text import Text

    console = stdout()
    console.print(Text(told.sentence, style="bold green" if told.healthy else "bold"), soft_wrap=True)
    if told.hint:
        console.print(Text(told.hint, style="dim"), soft_wrap=True)
    if told.evidence.store:
        console.print()
        console.print(_ends(told))
    if told.evidence.trace:
        console.print()
        for line in told.evidence.trace:
            console.print(Text(line), soft_wrap=True)


def _ends(told: Explanation) -> RenderableType:
    """Returns both ends in a table; a row has the same of both where both have it."""
    from rich.table import Table
    from rich.text import Text

    from xenlike.toolstack.why.facts import facts

    evidence = told.evidence
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", style="dim", no_wrap=True)
    for end in (evidence.front, evidence.back):
        table.add_column(end.title, overflow="fold")
    sides = [dict(facts(evidence, end)) for end in (evidence.front, evidence.back)]
    for name in dict.fromkeys(name for pair in zip_longest(*sides) for name in pair if name is not None):
        table.add_row(Text(name), *(Text(side.get(name, "")) for side in sides))
    return table
