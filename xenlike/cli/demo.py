"""`xenlike demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import Json, print_json, stdout
from xenlike.cli.status import FAILED

if TYPE_CHECKING:
    from xenlike.cli.demonstration.report import Report


def demo(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="DIR", exists=True, file_okay=False, help="Use these files, not Python's library."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="150 files, not 1,500.")] = False,
    json: Json = False,
) -> None:
    """Show all of it at work: a guest reads a real disk while its driver domain dies and comes back.

    Makes an ext4 image of real files. A driver domain serves it, a guest reads every file through its block frontend,
    the driver domain is killed half-way, and all checksums must be those of the originals. The guest then writes a file
    to a second disk, and the host looks for it in the image. Leaves nothing behind.
    """
    from xenlike.cli.demonstration.report import Display, run_demo

    report = run_demo(source, 150 if quick else 1500, Display(stdout(), silent=json))
    _print(report, json)
    if not report.is_good:
        raise typer.Exit(FAILED)


def _print(report: Report, json: bool) -> None:
    if json:
        print_json(report.figures())
    else:
        report.print(stdout())
