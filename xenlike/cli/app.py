"""The command's root: global options, and the list of commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from xenlike.cli import (
    bench,
    blocks,
    demo,
    dev,
    doctor,
    domains,
    header,
    lab,
    machines,
    new_driver,
    stats,
    store,
    top,
    trace,
    why,
    xenstore,
)
from xenlike.cli.options import Options
from xenlike.cli.status import guarded

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit status: 0 done, 1 failed, 2 wrong usage or machine file, 3 no such machine, domain or node, "
        "130 interrupted."
    ),
)

_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Start here": {
        "demo": demo.demo,
        "doctor": doctor.doctor,
    },
    "Machines and domains": {
        "up": machines.up,
        "down": machines.down,
        "list": machines.list_domains,
        "top": top.top,
        "stats": stats.stats,
        "console": domains.console,
        "shutdown": domains.shutdown,
        "destroy": domains.destroy,
    },
    "Disks": {
        "block-attach": blocks.attach,
        "block-detach": blocks.detach,
    },
    "Drivers": {
        "new-driver": new_driver.new_driver,
        "dev": dev.dev,
        "trace": trace.trace,
        "why": why.why,
        "header": header.header,
    },
    "Tools": {
        "xenstored": store.xenstored,
        "bench": bench.bench,
    },
}

for _panel, _commands in _PANELS.items():
    for _name, _function in _commands.items():
        app.command(_name, rich_help_panel=_panel)(guarded(_function))
app.add_typer(
    xenstore.app, name="xenstore", rich_help_panel="Tools", help="Read, write and watch the store of a machine."
)
app.add_typer(lab.app, name="lab", rich_help_panel="Tools", help="Experiments to look at: what cache lines cost.")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"xenlike {version('xenlike')}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            "-m",
            metavar="NAME",
            envvar="XENLIKE_MACHINE",
            help="Which machine is meant. Without it: the one that is running.",
        ),
    ] = None,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Log more to stderr: -v state changes, -vv every request."),
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Xen's paravirtual world as ordinary Linux processes.

    A machine is a set of domains described in a TOML file: driver domains that serve disks and other devices, and
    guests that use them. `xenlike up FILE.toml` starts one, `xenlike demo` shows all of it at work.
    """
    ctx.obj = Options(machine, verbose)
    if verbose:
        import logging

        level = logging.INFO if verbose == 1 else logging.DEBUG
        logging.basicConfig(level=level, format="%(relativeCreated)8.0f ms %(levelname)-7s %(name)s: %(message)s")
