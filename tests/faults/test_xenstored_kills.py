"""SIGKILL for the store daemon at seeded moments under load: nothing that was acknowledged is lost, nothing is half.

Keepers on sockets and on rings write, watch and run transactions; after every death the log is given to
the next daemon and all that they know is compared with what is there. 20 moments always; all hundred with
`XENLIKE_STORE_KILLS=100 pytest tests/faults/test_xenstored_kills.py`. `XENLIKE_FAULT_SEED` takes other moments.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.faults.moments import SEED, Moment, blaming, moments, spin
from tests.faults.store_keepers import Keeper, Sum
from tests.faults.store_lives import PLACES, PORT, Lives, lives
from xenlike.domain.store import Store
from xenlike.domain.store_wire import Perm
from xenlike.errors import PeerGone

KILLS = int(os.environ.get("XENLIKE_STORE_KILLS") or 20)
DOMIDS = (3, 4, 5)
TOOLS = 2
OPERATIONS = 80
"""Of all keepers together, after which the latest death comes."""


class Load:
    """The keepers, and who waits for what they do."""

    def __init__(self, store: Lives) -> None:
        self.lives = store
        self.done = 0
        self.total = Sum()
        self.killed = False
        self._more = trio.Event()
        self.rings = {domid: self._keeper(f"/local/domain/{domid}/data") for domid in DOMIDS}
        self.tools = [self._keeper(f"/tool-{number}") for number in range(TOOLS)]

    def _keeper(self, home: str) -> Keeper:
        return Keeper(home, random.Random(f"{SEED}/{home}"), self.total, self._note)

    def _note(self) -> None:
        self.done += 1
        self._more.set()
        self._more = trio.Event()

    async def reach(self, count: int) -> None:
        """Waits until so much more was done."""
        count += self.done
        while self.done < count:
            await self._more.wait()

    async def prepare(self) -> None:
        """Makes the domains and everybody's directory: the only time that the domains are introduced."""
        async with Store.over_socket(self.lives.path) as store:
            await store.write("/sum", "0")
            await store.set_perms("/sum", ["b0"])
            for keeper in self.tools:
                await store.mkdir(keeper.home)
            for domid, keeper in self.rings.items():
                home = await store.get_domain_path(domid)
                await store.mkdir(keeper.home)
                await store.set_perms(home, [f"n{domid}"])
                await store.set_perms(keeper.home, [f"n{domid}"])
                await store.introduce(domid, 1, PORT)

    async def work(self, task_status: trio.TaskStatus[None]) -> None:
        """Has all of them work."""
        async with trio.open_nursery() as nursery:
            for domid in self.rings:
                nursery.start_soon(self._on_ring, domid)
            for keeper in self.tools:
                nursery.start_soon(self._on_sockets, keeper)
            task_status.started()

    async def _on_ring(self, domid: int) -> None:
        """One connection for all lives of the daemon: the client sees to it."""
        page, channel = memoryview(self.lives.pages[domid]), self.lives.channel(domid)
        with page:
            async with Store.over_ring(page, channel, reconnect=self.lives.reconnect(domid)) as store:
                await self.rings[domid].work(store)

    async def _on_sockets(self, keeper: Keeper) -> None:
        while True:
            life = self.lives.count
            try:
                async with Store.over_socket(self.lives.path) as store:
                    await keeper.work(store)
            except* (PeerGone, ConnectionError):
                pass
            while self.lives.count == life:
                await self.lives.born.wait()

    def audit(self) -> None:
        """Looks at everything, by a tool of its own."""
        with self.lives.ask() as store:
            for keeper in (*self.rings.values(), *self.tools):
                keeper.audit(store)
            total = int(store.read("/sum"))
            assert self.total.acknowledged <= total <= self.total.tried, (self.total, total)
            for domid, keeper in self.rings.items():
                assert store.is_domain_introduced(domid)
                assert store.get_perms(keeper.home) == [Perm(domid, "n")]
                for key in keeper.acknowledged:
                    if store.exists(f"{keeper.home}/{key}"):
                        assert store.get_perms(f"{keeper.home}/{key}") == [Perm(domid, "n")]


@pytest.mark.slow
@pytest.mark.timeout(60 + 3 * KILLS)
async def test_nothing_acknowledged_is_lost_and_nothing_is_half_done(tmp_path: Path) -> None:
    with lives(tmp_path, DOMIDS) as store:
        store.start()
        load = Load(store)
        await load.prepare()
        async with trio.open_nursery() as nursery:
            await nursery.start(load.work)
            await load.reach(1)
            store.kill()
            fates = itertools.cycle(("", *PLACES))
            for moment, place in zip(moments("store", OPERATIONS, count=KILLS), fates, strict=False):
                with blaming(moment):
                    store.start(place, moment.after)
                    load.audit()
                    await (store.death() if place else strike(load, moment))
            store.start()
            load.audit()
            with blaming(moment):
                # Everybody goes on, whose watches still tell them: nobody writes again before it saw the last one.
                watched = [keeper.watched for keeper in (*load.rings.values(), *load.tools)]
                keepers = (*load.rings.values(), *load.tools)
                while not all(now.watched > before for now, before in zip(keepers, watched, strict=True)):
                    await load.reach(1)
            nursery.cancel_scope.cancel()


async def strike(load: Load, moment: Moment) -> None:
    """Kills the daemon from outside."""
    await load.reach(moment.after)
    spin(moment.spin)
    load.lives.kill()
    if moment.random("noticed").random() < 0.5:
        # Its clients notice before there is another one.
        await trio.testing.wait_all_tasks_blocked()
