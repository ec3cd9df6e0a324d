"""`xenlike new-driver`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new_driver(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Python identifier; the device type, too.")],
    batch: Annotated[
        bool, typer.Option("--batch", help="Work in batches: more requests a second, a little more code.")
    ] = False,
    c: Annotated[bool, typer.Option("--c", help="With the guest's half in C beside the one in Python.")] = False,
) -> None:
    """Make a small package of a new driver: protocol, both halves, tests. It works as it is.

    The driver computes checksums of what a guest puts into granted pages. Replace that by what yours is to do; the
    tutorial docs/your-first-driver.md goes through it file by file.
    """
    from xenlike.cli.new_driver_files import make_package

    folder = make_package(Path.cwd(), name, batch=batch, c=c)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            typer.echo(f"  {file.relative_to(folder.parent)}")
    typer.echo(f"\nNow: cd {name}; pytest; xenlike dev .")
