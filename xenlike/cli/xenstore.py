"""`xenlike xenstore`: the store of a running machine, or of any xenstored, from the command line.

Exit status 3 where a node does not exist, as for machines and domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import Json, chosen_machine, options_of, print_json
from xenlike.cli.status import NOT_FOUND, guarded
from xenlike.errors import ConfigError, Conflict, MachineError, NoEntry, NoSuchMachine, StoreDenied, XenstoreError

if TYPE_CHECKING:
    from xenlike.domain.store_sync import SyncStore, SyncTransaction

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Socket = Annotated[
    Path | None,
    typer.Option("--socket", metavar="PATH", help="The daemon's Unix socket, instead of a machine's (-m)."),
]
Node = Annotated[str, typer.Argument(metavar="PATH", help="A node, such as /local/domain/3.")]
Nodes = Annotated[list[str], typer.Argument(metavar="PATH...", help="Nodes, such as /local/domain/3/name.")]

_ADVICE = {
    "EINVAL": "not a path: it begins with / and has parts of A-Z a-z 0-9 - _ @",
    "E2BIG": "too much for one message of 4096 bytes",
    "EAGAIN": "somebody else changed it again and again; try later",
    "ENOSPC": "a quota is used up; `xenstore-control quota DOMID` shows it",
}


@contextmanager
def _opened(ctx: typer.Context, path: Path | None) -> Iterator[SyncStore]:
    """Connects to the store that is meant; errors come out as the command shows them.

    Raises:
        ConfigError: the command line was wrong.
        NoSuchMachine: the machine does not run.
        MachineError: anything else.
        typer.Exit: with `NOT_FOUND`, after the message.
    """
    from xenlike.domain.store_sync import SyncStore
    from xenlike.toolstack.paths import MachinePaths

    if path is not None and options_of(ctx).machine is not None:
        raise ConfigError("a machine (-m) and a socket (--socket) were given: say which of the two is meant")
    if path is not None:
        missing: MachineError = MachineError(
            f"{path}: no xenstored serves this socket; `xenlike xenstored --socket {path}` starts one"
        )
    else:
        name = chosen_machine(ctx)
        path = MachinePaths.of(name).xenstored
        missing = NoSuchMachine(f"machine {name!r} is not running; `xenlike list` shows which are")
    try:
        store = SyncStore(path)
    except (FileNotFoundError, ConnectionRefusedError):
        raise missing from None
    except PermissionError:
        raise MachineError(f"{path}: this socket belongs to another user") from None
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror or error}") from None
    with store:
        try:
            yield store
        except NoEntry as error:
            typer.echo(f"xenlike: {error.what}: there is no such node", err=True)
            raise typer.Exit(NOT_FOUND) from None
        except StoreDenied as error:
            raise MachineError(f"{error.what}: not allowed") from None
        except XenstoreError as error:
            advice = _ADVICE.get(error.name, "xenstored refused it")
            wrong = ConfigError if error.name in {"EINVAL", "E2BIG"} else MachineError
            raise wrong(f"{error.what}: {advice} ({error.name})") from None


def shown(value: bytes) -> str:
    r"""Returns a value as one line of text; what does not print is `\xNN`, `\n` and the like, as in Xen's tools."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
        return "".join(c if c.isascii() and c.isprintable() and c != "\\" else _escaped(c) for c in text)
    return "".join(c if c.isprintable() and c != "\\" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _for_json(value: bytes) -> str | dict[str, str]:
    """Returns a value for JSON: text, or `{"hex": "00ff"}` where it is none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}


def ls(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A node.")] = "/",
    socket: Socket = None,
    json: Json = False,
) -> None:
    """List the names below a node, in the order of their creation."""
    with _opened(ctx, socket) as store:
        names = store.ls(path)
    if json:
        print_json(names)
    else:
        for name in names:
            typer.echo(name)


def read(ctx: typer.Context, paths: Nodes, socket: Socket = None, json: Json = False) -> None:
    r"""Print the values of nodes, one a line.

    Bytes that do not print are shown as `\xNN`; in JSON a value that is no text is {"hex": "00ff"}.
    """
    with _opened(ctx, socket) as store:
        values = {path: store.read_bytes(path) for path in paths}
    if json:
        print_json({path: _for_json(value) for path, value in values.items()})
    else:
        for value in values.values():
            typer.echo(shown(value))


def write(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="PATH VALUE...", help="Each node, and what it is given.")],
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Give nodes their values, all of them or, if one is refused, none. Missing nodes are made, with all above them."""
    if len(words) % 2:
        raise ConfigError(f"{words[-1]}: which value? Write a value behind every path, '' for an empty one")
    values = dict(zip(words[::2], words[1::2], strict=True))
    with _opened(ctx, socket) as store:

        def put(tx: SyncTransaction) -> None:
            for path, value in values.items():
                tx.write(path, value)

        _together(store, put, sorted(values))
    if json:
        print_json(values)


def rm(ctx: typer.Context, paths: Nodes, socket: Socket = None, json: Json = False) -> None:
    """Remove nodes and all that is below them, all or none. One that is not there is an error."""
    with _opened(ctx, socket) as store:

        def remove(tx: SyncTransaction) -> None:
            for path in paths:
                tx.read_bytes(path)
                tx.rm(path)

        _together(store, remove, paths)
    if json:
        print_json(paths)


def _together(store: SyncStore, action: Callable[[SyncTransaction], None], paths: list[str]) -> None:
    try:
        store.transact(action)
    except Conflict:
        raise XenstoreError("EAGAIN", ", ".join(paths)) from None


def watch(
    ctx: typer.Context,
    paths: Nodes,
    socket: Socket = None,
    json: Json = False,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="End after so many events; 0 is never.")] = 0,
) -> None:
    """Print the path of whatever changes at or below nodes, until Ctrl-C; each node itself once at the start.

    With --json, a line for each event: {"watched": ..., "path": ..., "value": ...}, the value being null when the node
    is gone.
    """
    import msgspec

    with _opened(ctx, socket) as store:
        for path in dict.fromkeys(paths):
            store.watch(path, token=path)
        seen = 0
        while not count or seen < count:
            event = store.wait_event()
            if event is None:
                continue
            seen += 1
            path, watched = event
            if json:
                value = _value_or_none(store, path)
                typer.echo(msgspec.json.encode({"watched": watched, "path": path, "value": value}).decode())
            else:
                typer.echo(path)


def _value_or_none(store: SyncStore, path: str) -> str | dict[str, str] | None:
    if path.startswith("@"):
        return None
    try:
        return _for_json(store.read_bytes(path))
    except (NoEntry, StoreDenied):
        return None


def chmod(
    ctx: typer.Context,
    path: Node,
    perms: Annotated[
        list[str],
        typer.Argument(
            metavar="PERM...",
            help="First the owner and what everybody else may do, then exceptions: n nothing, r read, w write, b both, "
            "and a domid, as in n0 r3.",
        ),
    ],
    socket: Socket = None,
    recurse: Annotated[bool, typer.Option("--recurse", "-r", help="Also all below it.")] = False,
    json: Json = False,
) -> None:
    """Set the permissions of a node."""
    from xenlike.domain.store_wire import Perm

    try:
        parsed = [Perm.parse(perm) for perm in perms]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with _opened(ctx, socket) as store:
        changed = [below for below, _ in store.walk(path)] if recurse else []
        for node in changed or [path]:
            store.set_perms(node, parsed)
    if json:
        print_json({node: list(map(str, parsed)) for node in changed or [path]})


def tree(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A node.")] = "/",
    socket: Socket = None,
    perms: Annotated[bool, typer.Option("--perms", "-p", help="Show the permissions, too.")] = False,
    json: Json = False,
) -> None:
    """Show a node and all below it, as Xen's xenstore-ls does.

    With --json, an object by path: {"/a": {"value": "1", "perms": ["n0"]}, ...}, parents before their children.
    """
    with _opened(ctx, socket) as store:
        found = dict(store.walk(path))
        if not found:
            # Says why.
            store.read_bytes(path)
        shape = {}
        for node in list(found) if perms or json else []:
            try:
                shape[node] = [str(perm) for perm in store.get_perms(node)]
            except NoEntry:
                # Removed since.
                del found[node]
    if json:
        print_json({node: {"value": _for_json(value), "perms": shape[node]} for node, value in found.items()})
        return
    depth = path.rstrip("/").count("/") + 1
    for node, value in list(found.items())[1:]:
        name = node.rpartition("/")[2]
        suffix = f"   ({','.join(shape[node])})" if perms else ""
        typer.echo(f'{" " * (node.count("/") - depth)}{name} = "{shown(value)}"{suffix}')


for _command in (ls, read, write, rm, watch, chmod, tree):
    app.command()(guarded(_command))
