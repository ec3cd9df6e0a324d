"""Clients of a store whose daemon is killed, each with a directory of its own, that know what must be in it.

    k0 ..      plain writes and removals, each seen by the keeper's own watch before the next one
    b0 ..      written together, in this order, in one go
    left right written by transactions, always both, always the same
    /sum       everybody's: each keeper adds to it in transactions that conflict

What was answered is there; what was sent and not answered is there or not; nothing else ever is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from xenlike.domain.store import Store, Transaction
from xenlike.domain.store_sync import SyncStore
from xenlike.errors import Conflict

KEYS = 8
BATCH = 24
POISON = -1
"""Written only by transactions that are given up."""


@dataclass
class Sum:
    """What everybody's additions may amount to."""

    acknowledged: int = 0
    tried: int = 0


@dataclass
class Keeper:
    """One client's knowledge, and what it does.

    Args:
        home: its directory.
        source: says what comes next.
        total: shared by all keepers.
        on_done: called after every acknowledged operation.
    """

    home: str
    source: random.Random
    total: Sum
    on_done: Callable[[], None]
    acknowledged: dict[str, int] = field(default_factory=dict)
    tried: dict[str, list[int]] = field(default_factory=dict)
    watched: int = 0
    _number: int = 0
    _seen: dict[str, int] = field(default_factory=dict)
    _news: trio.Event = field(default_factory=trio.Event)

    async def work(self, store: Store) -> None:
        """Works until the connection ends, or for ever."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch, store)
            while True:
                operation = self.source.choice((self._write, self._remove, self._batch, self._both, self._neither))
                await operation(store)
                self.on_done()
                if self.source.random() < 0.3:
                    await self._add(store)
                    self.on_done()

    # --- what it does ---

    async def _write(self, store: Store) -> None:
        key = f"k{self.source.randrange(KEYS)}"
        await store.write(f"{self.home}/{key}", self._try(key))
        self._done(key)
        while self._seen.get(key) != self.acknowledged[key]:
            await self._news.wait()
        self.watched += 1

    async def _remove(self, store: Store) -> None:
        key = f"k{self.source.randrange(KEYS)}"
        self.tried.setdefault(key, []).append(0)
        await store.rm(f"{self.home}/{key}")
        self._done(key)
        while self._seen.get(key, 0):
            await self._news.wait()

    async def _batch(self, store: Store) -> None:
        keys = [f"b{number}" for number in range(BATCH)]
        await store.write_many({f"{self.home}/{key}": self._try(key, again=key != "b0") for key in keys})
        for key in keys:
            self._done(key)

    async def _both(self, store: Store) -> None:
        async def attempt(tx: Transaction) -> None:
            await tx.write(f"{self.home}/left", self._try("left"))
            await tx.write(f"{self.home}/right", self._try("right", again=True))

        await store.transact(attempt)
        self._done("left")
        self._done("right")

    async def _neither(self, store: Store) -> None:
        try:
            async with store.transaction() as tx:
                await tx.write(f"{self.home}/left", POISON)
                raise _GivenUp
        except (_GivenUp, Conflict):
            # Or its daemon was gone before it could be given up.
            pass

    async def _add(self, store: Store) -> None:
        async def attempt(tx: Transaction) -> None:
            value = int(await tx.read("/sum"))
            self.total.tried += 1
            await tx.write("/sum", value + 1)

        await store.transact(attempt, attempts=1000)
        self.total.acknowledged += 1

    async def _watch(self, store: Store, task_status: trio.TaskStatus[None]) -> None:
        async with store.watch(self.home) as changes:
            task_status.started()
            async for path in changes:
                # Told of the directory itself, as each new daemon tells: anything in it may be different.
                keys = [f"k{n}" for n in range(KEYS)] if path == self.home else [path.rpartition("/")[2]]
                values = await store.read_many([f"{self.home}/{key}" for key in keys])
                for key, value in zip(keys, values, strict=True):
                    self._seen[key] = int(value or 0)
                self._news.set()
                self._news = trio.Event()

    def _try(self, key: str, again: bool = False) -> int:
        self._number += not again
        self.tried.setdefault(key, []).append(self._number)
        return self._number

    def _done(self, key: str) -> None:
        self.acknowledged[key] = self.tried[key][-1]
        self.tried[key].clear()

    # --- what must be there ---

    def audit(self, store: SyncStore) -> None:
        """Compares the directory with what may be in it."""
        found = {key: int(store.read(f"{self.home}/{key}")) for key in store.ls(self.home)}
        for key in {*found, *self.acknowledged, *self.tried}:
            allowed = {self.acknowledged.get(key, 0), *self.tried.get(key, [])}
            value = found.get(key, 0)
            assert value in allowed, f"{self.home}/{key} is {value}, and may be {allowed}"
        assert found.get("left") == found.get("right"), f"half of a transaction: {found}"
        batch = [found.get(f"b{number}", 0) for number in range(BATCH)]
        assert batch == sorted(batch, reverse=True), f"later writes are there and earlier ones are not: {batch}"


class _GivenUp(Exception):
    pass
