"""`xenlike up`, `down` and `list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import Json, chosen_machine, options_of, print_json, stdout
from xenlike.cli.status import FAILED

if TYPE_CHECKING:
    from xenlike.toolstack.control_wire import DomainInfo

_STATES = {"running": "green", "crashed": "red", "dying": "yellow"}


def up(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="Describes the machine.")],
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all domains are started; `xenlike down` ends it.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the machine that a TOML file describes.

    Shows all consoles until the guests have ended or Ctrl-C ends the machine; nothing stays behind. Exits with 1 if a
    guest crashed.

    A small file:

        [[domain]]
        name = "storage"
        backends = ["vbd"]

        [[domain]]
        name = "guest"
        entry = "guest.py:main"

        [[domain.disk]]
        target = "disk.img"
        vdev = "xvda"
        backend = "storage"
    """
    from dataclasses import replace

    from xenlike.toolstack.config import load_machine

    config = load_machine(file)
    if (name := options_of(ctx).machine) is not None:
        from xenlike.toolstack.paths import check_name

        config = replace(config, name=check_name(name))
    if check:
        typer.echo(f"{file}: machine {config.name!r} with {len(config.domains)} domain(s) is good")
        return
    from xenlike.cli import running

    if detach:
        running.start_detached(config, options_of(ctx).verbose)
        typer.echo(f"machine {config.name} is up: see `xenlike -m {config.name} list`")
    elif not running.run_in_foreground(config, ready_fd):
        raise typer.Exit(FAILED)


def down(ctx: typer.Context) -> None:
    """End a running machine and all its domains; returns when nothing of it is left."""
    import trio

    from xenlike.toolstack.control import connect
    from xenlike.toolstack.paths import MachinePaths

    name = chosen_machine(ctx)
    folder = MachinePaths.of(name).folder

    async def run() -> None:
        async with connect(name) as control:
            await control.down()
        while folder.exists():  # noqa: ASYNC110 - another process removes it
            await trio.sleep(0.01)

    trio.run(run)


def list_domains(ctx: typer.Context, json: Json = False) -> None:
    """List the domains of the machine given by -m, or of all that are running."""
    import trio

    from xenlike.errors import NoSuchMachine
    from xenlike.toolstack.control import connect, running_machines

    named = options_of(ctx).machine
    found: list[tuple[str, DomainInfo]] = []

    async def ask(name: str) -> None:
        try:
            async with connect(name) as control:
                found.extend((name, info) for info in await control.domains())
        except NoSuchMachine:
            if named is not None:
                raise

    async def run() -> None:
        for name in [named] if named is not None else running_machines():
            await ask(name)

    trio.run(run)
    if json:
        import msgspec

        print_json([{"machine": name, **msgspec.structs.asdict(info)} for name, info in found])
    elif found:
        _print_table(found)
    else:
        typer.echo("no machine is running")


def _print_table(found: list[tuple[str, DomainInfo]]) -> None:
    from rich.table import Table

    from xenlike.toolstack.sizes import format_size

    several = len({name for name, _ in found}) > 1
    table = Table(box=None, pad_edge=False)
    for title in (
        *(["machine"] if several else []),
        "name",
        "domid",
        "state",
        "memory",
        "cpu s",
        "pid",
        "serves",
        "has",
    ):
        table.add_column(title, justify="right" if title in {"domid", "memory", "cpu s", "pid"} else "left")
    for name, info in found:
        colour = _STATES.get(info.state)
        row = (
            info.name,
            str(info.domid),
            f"[{colour}]{info.state}[/]" if colour else info.state,
            format_size(info.memory) if info.memory else "-",
            f"{info.cpu_s:.1f}",
            str(info.pid or "-"),
            " ".join(info.backends),
            " ".join(info.devices),
        )
        table.add_row(*([name] if several else []), *row)
    stdout().print(table)
