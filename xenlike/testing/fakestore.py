"""A xenstore in memory: tree, watches and transactions, without permissions and without a daemon."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from xenlike.abi import recorder as tr
from xenlike.errors import Conflict, NoEntry, PeerGone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from typing import Self

    from xenlike._core import Recorder

T = TypeVar("T")


class FakeTree:
    """The nodes of all domains, by absolute path.

    Attributes:
        history: every change in order, as (path, value); None for a removal. Tests read handshakes off it.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {"/": ""}
        self.history: list[tuple[str, str | None]] = []
        self._changed_at: dict[str, int] = {}
        self._watches: list[FakeWatch] = []

    @property
    def version(self) -> int:
        """Counts changes."""
        return len(self.history)

    def write(self, path: str, value: str) -> None:
        """Writes a node; makes what is missing above it."""
        parent = path.rpartition("/")[0]
        if parent and parent not in self.nodes:
            self.write(parent, "")
        self.nodes[path] = value
        self._record(path, value)

    def remove(self, path: str) -> None:
        """Removes a node and all below it."""
        gone = [node for node in self.nodes if node == path or node.startswith(f"{path}/")]
        for node in gone:
            del self.nodes[node]
            self._changed_at[node] = self.version + 1
        if gone:
            self._record(path, None)

    def names_below(self, path: str) -> list[str]:
        """Returns the names of a node's children."""
        prefix = "/" if path == "/" else f"{path}/"
        below = (node.removeprefix(prefix) for node in self.nodes if node.startswith(prefix))
        return [name for name in below if name and "/" not in name]

    def changed_since(self, path: str, version: int) -> bool:
        """Says whether a node was written or removed after that version."""
        return self._changed_at.get(path, 0) > version

    def _record(self, path: str, value: str | None) -> None:
        self.history.append((path, value))
        self._changed_at[path] = self.version
        for watch in self._watches:
            if path == watch.path or path.startswith(f"{watch.path.rstrip('/')}/"):
                watch.fire(path)
            elif value is None and watch.path.startswith(f"{path}/"):
                watch.fire(watch.path)

    def watch(self, watch: FakeWatch) -> None:
        """Registers a watch, which fires once at once."""
        self._watches.append(watch)
        watch.fire(watch.path)

    def unwatch(self, watch: FakeWatch) -> None:
        """Ends a watch."""
        self._watches.remove(watch)


class FakeWatch:
    """Yields the paths that changed; several changes of one path that were not looked at are one."""

    def __init__(self, store: FakeStore, path: str) -> None:
        self._store = store
        self.path = store.absolute(path)
        self._home = self.path.removesuffix(path) if not path.startswith("/") else ""
        self._changed: dict[str, None] = {}
        self._ready = trio.Event()

    def fire(self, path: str) -> None:
        """Adds a change."""
        changed = path.removeprefix(self._home)
        self._changed[changed] = None
        self._store.trace(tr.XENLIKE_TRACE_WATCH, changed)
        self._ready.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._changed:
            self._ready = trio.Event()
            await self._ready.wait()
            self._store.check()
        path = next(iter(self._changed))
        del self._changed[path]
        await trio.lowlevel.checkpoint()
        return path

    def close(self) -> None:
        """Ends it."""
        self._store.tree.unwatch(self)


class FakeTransaction:
    """What a transaction has read and will write."""

    def __init__(self, tree: FakeTree) -> None:
        self.began = tree.version
        self.read: set[str] = set()
        self.writes: dict[str, str | None] = {}


class FakeAhead:
    """A transaction as `Store.begin` makes it.

    Args:
        store: whose.
    """

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self._tx = FakeTransaction(store.tree)
        self._seen: list[str | None] | None = None

    async def capture(self, paths: Sequence[str]) -> None:
        """Reads nodes."""
        self._tx.began = self._store.tree.version
        self._seen = await self._store.read_many(paths, self._tx)

    async def seen(self, paths: Sequence[str]) -> list[str | None]:
        """Returns what was read, or reads it."""
        if self._seen is None:
            await self.capture(paths)
        await trio.lowlevel.checkpoint()
        assert self._seen is not None
        return self._seen

    async def commit(self, nodes: Mapping[str, str]) -> None:
        """Writes nodes, unless what was read was changed meanwhile."""
        await self._store.write_many(nodes, self._tx)
        if not await self._store.commit(self._tx):
            raise Conflict("EAGAIN", "transaction")

    def discard(self) -> None:
        """Ends it without effect."""


class FakeStore:
    """One domain's connection; the methods of `xenlike.domain.store.Store` that drivers use.

    Args:
        tree: the nodes.
        domid: relative paths are below its directory.
        recorder: the domain's.

    Attributes:
        refuse: raised by every request while it is set, to test what a driver does then.
    """

    def __init__(self, tree: FakeTree, domid: int, recorder: Recorder | None = None) -> None:
        self.tree = tree
        self.recorder = recorder
        self.home = f"/local/domain/{domid}/"
        self.refuse: Exception | None = None

    def absolute(self, path: str) -> str:
        """Returns the absolute form of a path."""
        return path if path.startswith("/") else self.home + path

    def check(self) -> None:
        """Raises what the connection is to raise."""
        if self.refuse is not None:
            raise self.refuse

    def cut(self) -> None:
        """Ends the connection, as a domain's death does."""
        self.refuse = PeerGone("the connection to the store is closed")
        for watch in self.tree._watches:
            if watch._store is self:
                watch._ready.set()

    def trace(self, event: int, text: str, a: int = 0) -> None:
        """Records an event, if this is a domain's."""
        if self.recorder is not None:
            self.recorder.trace(tr.XENLIKE_TRACE_STORE, event, text, a)

    async def read_many(self, paths: Sequence[str], tx: object = None) -> list[str | None]:
        """Returns values in order, None for missing nodes."""
        await trio.lowlevel.checkpoint()
        self.check()
        for path in paths:
            self.trace(tr.XENLIKE_TRACE_READ, path)
        paths = [self.absolute(path) for path in paths]
        if isinstance(tx, FakeTransaction):
            tx.read.update(paths)
            return [tx.writes.get(path, self.tree.nodes.get(path)) for path in paths]
        return [self.tree.nodes.get(path) for path in paths]

    async def write_many(self, nodes: Mapping[str, str], tx: object = None) -> None:
        """Writes nodes in order."""
        await trio.lowlevel.checkpoint()
        self.check()
        for path, value in nodes.items():
            self.trace(tr.XENLIKE_TRACE_WRITE, f"{path} = {value}", int(tx is not None))
            if isinstance(tx, FakeTransaction):
                tx.writes[self.absolute(path)] = str(value)
            else:
                self.tree.write(self.absolute(path), str(value))

    async def read(self, path: str, tx: object = None) -> str:
        """Returns a value; raises `NoEntry`."""
        (value,) = await self.read_many([path], tx)
        if value is None:
            raise NoEntry("ENOENT", path)
        return value

    async def write(self, path: str, value: str, tx: object = None) -> None:
        """Writes one node."""
        await self.write_many({path: value}, tx)

    async def exists(self, path: str, tx: object = None) -> bool:
        """Says whether a node is there."""
        return (await self.read_many([path], tx))[0] is not None

    async def ls(self, path: str, tx: object = None) -> list[str]:
        """Returns the names below a node; raises `NoEntry`."""
        await trio.lowlevel.checkpoint()
        self.check()
        path = self.absolute(path)
        if path not in self.tree.nodes:
            raise NoEntry("ENOENT", path)
        return self.tree.names_below(path)

    async def rm(self, path: str, tx: object = None) -> None:
        """Removes a node and all below it."""
        await trio.lowlevel.checkpoint()
        self.check()
        if isinstance(tx, FakeTransaction):
            tx.writes[self.absolute(path)] = None
        else:
            self.tree.remove(self.absolute(path))

    @asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[FakeWatch]:
        """Watches a node and all below it."""
        await trio.lowlevel.checkpoint()
        self.check()
        watch = FakeWatch(self, path)
        self.tree.watch(watch)
        try:
            yield watch
        finally:
            watch.close()

    def begin_watch(self, path: str) -> FakeWatch:
        """As `watch`."""
        self.check()
        watch = FakeWatch(self, path)
        self.tree.watch(watch)
        return watch

    def begin(self) -> FakeAhead:
        """Begins a transaction."""
        self.check()
        return FakeAhead(self)

    async def commit(self, tx: FakeTransaction) -> bool:
        """Carries out what a transaction has written, unless what it has read was changed meanwhile."""
        await trio.lowlevel.checkpoint()
        self.check()
        if any(self.tree.changed_since(path, tx.began) for path in tx.read | tx.writes.keys()):
            return False
        for path, value in tx.writes.items():
            if value is None:
                self.tree.remove(path)
            else:
                self.tree.write(path, value)
        return True

    async def transact(self, action: Callable[[FakeTransaction], Awaitable[T]]) -> T:
        """Runs an action as a transaction, again when something it read was changed meanwhile."""
        for _ in range(100):
            tx = FakeTransaction(self.tree)
            result = await action(tx)
            if await self.commit(tx):
                return result
        raise Conflict("EAGAIN", "transaction")
