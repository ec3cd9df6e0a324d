"""What several commands share: the machine that is meant, and output for people and for scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from xenlike.errors import ConfigError, NoSuchMachine

if TYPE_CHECKING:
    from rich.console import Console

    from xenlike.toolstack.control import Control

_T = TypeVar("_T")

WIDE = 150

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DomainName = Annotated[str, typer.Argument(metavar="DOMAIN", help="Name or domid.")]


@dataclass(frozen=True)
class Options:
    """The global options.

    Attributes:
        machine: as given by `-m` or `$XENLIKE_MACHINE`.
        verbose: how often `-v` was given.
    """

    machine: str | None = None
    verbose: int = 0


def options_of(ctx: typer.Context) -> Options:
    """Returns the global options of this call."""
    found = ctx.find_object(Options)
    return found if found is not None else Options()


def chosen_machine(ctx: typer.Context) -> str:
    """Returns the machine that is meant.

    Raises:
        NoSuchMachine: none was named, and none runs.
        ConfigError: none was named, and several run.
    """
    from xenlike.toolstack.control import running_machines

    if (name := options_of(ctx).machine) is not None:
        return name
    running = running_machines()
    if not running:
        raise NoSuchMachine("no machine is running; `xenlike up FILE.toml -d` starts one")
    if len(running) > 1:
        raise ConfigError(f"several machines are running, say which with -m: {', '.join(running)}")
    return running[0]


def with_machine(ctx: typer.Context, use: Callable[[Control], Awaitable[_T]]) -> _T:
    """Connects to the machine that is meant, and returns what `use` makes of it.

    Raises:
        XenlikeError: there is no such machine, or `use` failed.
    """
    import trio

    from xenlike.toolstack.control import connect

    name = chosen_machine(ctx)

    async def run() -> _T:
        async with connect(name) as control:
            return await use(control)

    return trio.run(run)


def stdout() -> Console:
    """Returns the console that tables go to."""
    from rich.console import Console

    return Console(highlight=False)


def wide_stdout() -> Console:
    """Returns a console for tables of numbers, which are better broken by the terminal than cut off by us."""
    from rich.console import Console

    usual = stdout()
    return usual if usual.width >= WIDE else Console(highlight=False, width=WIDE)


def print_json(value: object) -> None:
    """Prints a value as indented JSON."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
