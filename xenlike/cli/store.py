"""`xenlike xenstored`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def xenstored(
    socket: Annotated[Path, typer.Option("--socket", metavar="PATH", help="Unix socket to make and serve.")],
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="Keep the tree in this file, and begin with what it has."),
    ] = None,
) -> None:
    """Run the store daemon alone, without a machine, until Ctrl-C or SIGTERM.

    Xen's own tools talk to it: `XENSTORED_PATH=PATH xenstore-ls`. So does `xenlike xenstore --socket PATH`.

    With --log, whatever was answered survives the daemon, also when it is killed. Nothing is synced to the disk: the
    end of the log may be lost if the whole host goes down.
    """
    from xenlike.errors import ConfigError
    from xenlike.xenstored.main import run_alone

    try:
        run_alone(socket, log_path=log)
    except ValueError as error:
        raise ConfigError(f"{log}: {error}") from None
