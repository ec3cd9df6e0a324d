"""`xenlike dev`."""

from __future__ import annotations

from typing import Annotated

import typer

from xenlike.cli.header import DriverName
from xenlike.cli.status import FAILED


def dev(
    name: DriverName,
    once: Annotated[
        bool, typer.Option("--once", help="End after the first few operations; exits with 1 if one failed.")
    ] = False,
    for_s: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0, help="End after so long; likewise.")
    ] = None,
) -> None:
    """Run both halves of a driver, watch them connect, and reload them when a file is saved.

    A driver domain serves the device, a guest runs the driver's `exercise` in a calm loop. Shown are the states of both
    ends as they move, the nodes as they are published, both consoles, operations and the last error. The machine is
    called dev-TYPE, so `xenlike -m dev-TYPE list`, and what else looks at machines, work beside it.
    """
    import os
    import sys

    import trio

    from xenlike.cli.dev_display import Lines, Screen
    from xenlike.cli.dev_session import Session, Wish
    from xenlike.cli.options import stdout
    from xenlike.cli.running import orderly_end

    # A file saved twice in a second must not be taken for its compiled self; in domains neither.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    console = stdout()
    wish = Wish(name, once, for_s)
    with orderly_end():
        if console.is_terminal and not once:
            screen = Screen(console)
            with screen.live():
                works = trio.run(Session(wish, screen).run)
        else:
            works = trio.run(Session(wish, Lines(console)).run)
    if not works:
        raise typer.Exit(FAILED)
