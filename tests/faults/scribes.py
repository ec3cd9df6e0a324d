"""Who works on the store while its daemon is killed, and knows what must be in it: in a guest, and in domain 0."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from tests.faults.programs import say
from tests.faults.stacks import tell_on_signal
from xenlike.errors import NoEntry

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain
    from xenlike.domain.store import Store, Transaction

KEYS = 8
REST_S = 0.002
"""Left to others after each operation."""


class Scribe:
    """Works on a directory of its own.

    Args:
        store: its connection.
        home: the directory; nobody else writes there.
        source: says what comes next.
    """

    def __init__(self, store: Store, home: str, source: random.Random) -> None:
        self._store = store
        self._home = home
        self._random = source
        self._known: dict[str, str] = {}
        self._seen: dict[str, str | None] = {}
        self._news = trio.Event()
        self._sums = self._sums_begun = 0
        self.done = 0

    async def run(self, is_over: Callable[[], bool], on_done: Callable[[], object]) -> None:
        """Works until it is over, and looks at everything once more."""
        await self._store.write(f"{self._home}/sum", "0")
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch)
            while not is_over():
                await self._random.choice((self._write, self._remove, self._add, self._add_in_vain, self._list))()
                self.done += 1
                on_done()
                await trio.sleep(REST_S)
            await self.check()
            nursery.cancel_scope.cancel()

    async def check(self) -> None:
        """Everything that was answered is there, and nothing else."""
        await self._list()
        for key, value in self._known.items():
            await self._expect(f"{self._home}/keys/{key}", value)

    async def _expect(self, path: str, value: str) -> None:
        found = await self._store.read(path)
        assert found == value, f"{path} = {found!r}, and {value!r} was written"

    async def _list(self) -> None:
        try:
            found = set(await self._store.ls(f"{self._home}/keys"))
        except NoEntry:
            found = set()
        assert found == self._known.keys(), f"there are {found}, and written were {self._known.keys()}"
        total = int(await self._store.read(f"{self._home}/sum"))
        # A commit whose answer was lost with the daemon counts, or is done once more.
        assert self._sums <= total <= self._sums_begun, f"{self._sums} <= {total} <= {self._sums_begun} is not true"

    async def _write(self) -> None:
        key, value = f"k{self._random.randrange(KEYS)}", str(self._random.getrandbits(32))
        path = f"{self._home}/keys/{key}"
        await self._store.write(path, value)
        self._known[key] = value
        await self._expect(path, value)
        await self._until_seen(key, value)

    async def _remove(self) -> None:
        key = f"k{self._random.randrange(KEYS)}"
        await self._store.rm(f"{self._home}/keys/{key}")
        if self._known.pop(key, None) is not None:
            await self._until_seen(key, None)

    async def _add(self) -> None:
        async def attempt(tx: Transaction) -> None:
            self._sums_begun += 1
            await self._increment(tx)

        await self._store.transact(attempt)
        self._sums += 1

    async def _add_in_vain(self) -> None:
        """Gives a transaction up: nothing of it may be seen, whichever daemon it was begun with."""
        before = await self._store.read(f"{self._home}/sum")
        try:
            async with self._store.transaction() as tx:
                await self._increment(tx)
                raise _GivenUp
        except (_GivenUp, OSError):
            pass
        await self._expect(f"{self._home}/sum", before)

    async def _increment(self, tx: Transaction) -> None:
        path = f"{self._home}/sum"
        await tx.write(path, str(int(await tx.read(path)) + 1))

    async def _watch(self, task_status: trio.TaskStatus[None]) -> None:
        folder = f"{self._home}/keys"
        async with self._store.watch(folder) as changes:
            task_status.started()
            async for path in changes:
                # Told of the folder itself, as one is by each new daemon: anything in it may be different.
                for key in [f"k{n}" for n in range(KEYS)] if path == folder else [path.rpartition("/")[2]]:
                    self._seen[key] = await self._store.get(f"{folder}/{key}")
                self._news.set()
                self._news = trio.Event()

    async def _until_seen(self, key: str, value: str | None) -> None:
        while self._seen.get(key) != value:
            await self._news.wait()


class _GivenUp(Exception):
    pass


async def scribe(domain: Domain, name: str) -> None:
    """Works on its domain's directory until the host writes `data/stop`."""
    tell_on_signal()
    stopping = trio.Event()

    async def wait_for_stop() -> None:
        async with domain.store.watch("data/stop") as changes:
            async for _ in changes:
                if await domain.store.exists("data/stop"):
                    stopping.set()
                    return

    worker = Scribe(domain.store, "data/scribe", random.Random(name))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_stop)
        await worker.run(stopping.is_set, lambda: say(done=worker.done) if worker.done % 10 == 0 else None)
    say(end={"done": worker.done, "restarts": domain.store.statistics().reconnections})
