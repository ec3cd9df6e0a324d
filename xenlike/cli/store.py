"""`xenlike xenstored`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def xenstored(
    socket: Annotated[Path, typer.Option("--socket", metavar="PATH", help="Unix socket to make and serve.")],
) -> None:
    """Run the store daemon alone, without a machine, until Ctrl-C or SIGTERM.

    Xen's own tools talk to it: `XENSTORED_PATH=PATH xenstore-ls`.
    """
    from xenlike.xenstored.main import run_alone

    run_alone(socket)
