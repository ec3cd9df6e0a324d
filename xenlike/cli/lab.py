"""`xenlike lab`: experiments to look at, and to show."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from xenlike.cli.status import guarded
from xenlike.errors import MachineError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


def _part(name: str) -> Any:
    try:
        return import_module(f"xenlike.benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise MachineError(f"the experiments are not installed: {error}") from None


@app.callback()
def lab() -> None:
    """Experiments for teaching: each changes one thing at a time, and explains what came out."""


def cache_thrash(
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw it (needs matplotlib).")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results here, too.")] = None,
    rounds: Annotated[int, typer.Option("--repeat", min=1, help="Runs of each configuration.")] = 9,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds, for a first look.")] = False,
) -> None:
    """What cache lines cost: a ring's indices in one line, in lines of their own, shadowed, or replaced by tags.

    Two processes on two CPUs; entries of 8 and 64 bytes, one and 32 at a time, with and without a fence.
    """
    if plot is not None:
        _part("ring.native.plots").check(plot)
    thrash = _part("ring.native.thrash")
    if json is not None:
        _part("runner").check_writable(json)
    found = thrash.measure(3 if quick else rounds, 0.01 if quick else 0.03)
    thrash.show(found)
    if json is not None:
        thrash.write_json(found, json)
    if plot is not None:
        _part("ring.native.plots").plot_thrash(found, plot)
        typer.echo(f"drawn: {plot}")


app.command("cache-thrash")(guarded(cache_thrash))
