"""`xenlike bench`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from xenlike.cli.status import FAILED
from xenlike.errors import ConfigError, MachineError


class Runner(Protocol):
    """The benchmarks' common part, `xenlike.benchmarks.runner`."""

    Options: Callable[..., object]

    def run(
        self, subject: str, *, json_path: Path | None, check: bool, repeat: int, quick: bool, options: object
    ) -> int:
        """Measures and prints; returns how many goals were missed, if `check`."""


class Subject(StrEnum):
    """What can be measured."""

    domains = "domains"
    block = "block"
    ring = "ring"
    idle = "idle"
    xenstore = "xenstore"
    driver = "driver"
    trace = "trace"


def bench(
    subject: Annotated[
        Subject,
        typer.Argument(
            help="domains: start-up; block: disks; ring: rings alone; idle: CPU when nothing happens; "
            "xenstore: the store; driver: the operations of a driver; trace: what recording costs."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="driver: a device type, a reference or a folder, as for `header`."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results here, too.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the goals; exit with 1 if one is missed.")
    ] = False,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Samples of each figure; medians are shown.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="A fraction of the time, for a first look.")] = False,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="ring: beside other projects' rings and queues, where installed.")
    ] = True,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="ring: draw it, too (needs matplotlib).")
    ] = None,
    entry: Annotated[
        int | None, typer.Option("--entry", metavar="BYTES", help="ring: only entries of this size.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", metavar="N", help="ring: only rings of so many entries.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="ring: only so many at a time.")] = None,
) -> None:
    """Measure, and print a table: medians, spread, and where it was measured."""
    from importlib import import_module

    if (subject is Subject.driver) != (name is not None):
        raise ConfigError(
            "say which driver: xenlike bench driver NAME" if name is None else f"{subject.value} takes no {name!r}"
        )
    try:
        runner = cast("Runner", import_module("xenlike.benchmarks.runner"))
    except ModuleNotFoundError as error:
        raise MachineError(f"the benchmarks are not installed: {error}") from None
    from xenlike.cli.running import orderly_end

    options = runner.Options(peers=peers, plot=plot, entry=entry, slots=slots, batch=batch, driver=name)
    with orderly_end():
        missed = runner.run(subject.value, json_path=json, check=check, repeat=repeat, quick=quick, options=options)
    if missed:
        raise typer.Exit(FAILED)
