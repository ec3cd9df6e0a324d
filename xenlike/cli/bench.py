"""`xenlike bench`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from xenlike.cli.status import FAILED
from xenlike.errors import MachineError


class Runner(Protocol):
    """The benchmarks' common part, `xenlike.benchmarks.runner`."""

    def run(self, subject: str, *, json_path: Path | None, check: bool, repeat: int, quick: bool) -> int:
        """Measures and prints; returns how many goals were missed, if `check`."""


class Subject(StrEnum):
    """What can be measured."""

    domains = "domains"
    block = "block"
    ring = "ring"
    idle = "idle"


def bench(
    subject: Annotated[
        Subject,
        typer.Argument(help="domains: start-up; block: disks; ring: rings alone; idle: CPU when nothing happens."),
    ],
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results here, too.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the goals; exit with 1 if one is missed.")
    ] = False,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Samples of each figure; medians are shown.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="A fraction of the time, for a first look.")] = False,
) -> None:
    """Measure, and print a table: medians, spread, and where it was measured."""
    from importlib import import_module

    try:
        runner = cast("Runner", import_module("xenlike.benchmarks.runner"))
    except ModuleNotFoundError as error:
        raise MachineError(f"the benchmarks are not installed: {error}") from None
    from xenlike.cli.running import orderly_end

    with orderly_end():
        missed = runner.run(subject.value, json_path=json, check=check, repeat=repeat, quick=quick)
    if missed:
        raise typer.Exit(FAILED)
