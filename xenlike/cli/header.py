"""`xenlike header`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xenlike.errors import MachineError

DriverName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A device type such as echo, package.module:DRIVER, path/file.py:DRIVER, or the folder of a package.",
    ),
]


def header(
    name: DriverName,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
) -> None:
    """Print the C header of a driver's protocol: for its other half in C.

    Structures with the offsets that Python uses (asserted), the constants of the protocol's module, the sizes of ring
    macros, and the nodes. `#include <xen/io/ring.h>` before it has it declare the ring's types too.
    """
    from xenlike.abi.driver_header import generate
    from xenlike.toolstack.driver_source import find_driver

    text = generate(find_driver(name).driver)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{output} cannot be written: {error.strerror}") from None
