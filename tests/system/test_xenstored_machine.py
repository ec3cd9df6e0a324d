"""The store of a whole machine: rings and tools side by side, dead domains, and daemons that come and go."""

from __future__ import annotations

import os
import random
import signal

import pytest
import trio

from xenlike.abi import hypercall as hc
from xenlike.domain.store_sync import SyncStore
from xenlike.toolstack import storeserver
from xenlike.toolstack.sync import open_machine

pytestmark = pytest.mark.system
GUARD_S = 60
HERE = "tests.system.test_xenstored_machine"
COUNTER = "/count"
STOP = "/stop"


async def count(domain, own) -> None:
    """A guest that adds to a number that others add to, until told to stop; `own` says how often it did."""
    store = domain.store

    async def add(tx) -> None:
        await tx.write(COUNTER, int(await tx.read(COUNTER)) + 1)

    done = 0
    while not await store.exists(STOP):
        await store.transact(add, attempts=10000)
        done += 1
        await store.write(own, done)


async def sleep(domain) -> None:
    """A guest that owns some nodes and waits."""
    await domain.store.write("data/here", "1")
    await trio.sleep_forever()


@pytest.fixture
async def machine(tmp_path):
    async with open_machine("store", runtime_dir=tmp_path / "run", console=lambda name, data: None) as machine:
        await machine.domain0.store.write(COUNTER, 0)
        await machine.domain0.store.set_perms(COUNTER, ["b0"])
        yield machine


def store_pid(machine) -> int:
    """Returns the process that is the store domain now, or 0."""
    for info in machine.hypercalls.domain_infos():
        if info.domid == storeserver.STORE_DOMID and info.state == hc.XENLIKE_DOMAIN_RUNNING:
            return int(info.pid)
    return 0


async def kill_store(machine) -> None:
    """Kills the daemon, and waits until another one answers."""
    pid = store_pid(machine)
    os.kill(pid, signal.SIGKILL)
    while store_pid(machine) in (pid, 0):
        await machine.domain0.store.read("/tool")


async def start_counting(machine, how_many):
    """Starts guests; returns them and the nodes in which they count."""
    store = machine.domain0.store
    nodes = [f"/counted/{number}" for number in range(how_many)]
    guests = []
    for number, node in enumerate(nodes):
        # Domain 0's own, so that they outlive the guests.
        await store.write(node, 0)
        await store.set_perms(node, ["b0"])
        guests.append(await machine.spawn(f"guest-{number}", f"{HERE}:count", args=[node]))
    return guests, nodes


async def stop_counting(machine, guests) -> None:
    await machine.domain0.store.write(STOP, "")
    await machine.domain0.store.set_perms(STOP, ["r0"])
    for guest in guests:
        assert str((await guest.wait()).reason) == "poweroff"


async def reach(store, target) -> None:
    """Waits until so much was counted."""
    async with store.watch(COUNTER) as changes:
        async for _ in changes:
            if int(await store.read(COUNTER)) >= target:
                return


async def test_guests_and_tools_see_one_tree(machine):
    with trio.fail_after(GUARD_S):
        guests, nodes = await start_counting(machine, 3)
        await reach(machine.domain0.store, 30)
        await stop_counting(machine, guests)

    def look() -> list[int]:
        with SyncStore(machine.paths.xenstored) as store:
            return [int(store.read(path)) for path in (COUNTER, *nodes)]

    total, *each = await trio.to_thread.run_sync(look)
    assert total == sum(each) >= 30


async def test_what_a_dead_domain_owned_is_gone_and_whoever_watches_is_told(machine):
    store = machine.domain0.store
    with trio.fail_after(GUARD_S):
        async with store.watch("@releaseDomain") as released:
            await released.__anext__()
            guest = await machine.spawn("guest", f"{HERE}:sleep")
            domid = guest.domid
            async with store.watch(f"/local/domain/{domid}/data/here") as here:
                while not await store.exists(here.path):
                    await here.__anext__()
            assert await store.is_domain_introduced(domid)
            os.kill(guest.pid, signal.SIGKILL)
            while await store.is_domain_introduced(domid):
                await released.__anext__()
            assert not await store.exists(f"/local/domain/{domid}/data/here")


async def test_guests_go_on_when_the_store_is_killed_again_and_again(machine, monkeypatch):
    """SIGKILL at seeded moments; no increment that was acknowledged is lost."""
    seed = int(os.environ.get("XENLIKE_SEED") or random.randrange(1 << 30))
    print(f"XENLIKE_SEED={seed}")
    chance = random.Random(seed)
    # Whole lives of the daemon are shorter here than what the toolstack takes for a defect.
    monkeypatch.setattr(storeserver, "MAX_DEATHS", 1000)
    store = machine.domain0.store
    kills = 20
    with trio.fail_after(GUARD_S):
        guests, nodes = await start_counting(machine, 2)
        for _ in range(kills):
            await reach(store, int(await store.read(COUNTER)) + chance.randrange(1, 12))
            await kill_store(machine)
        await reach(store, int(await store.read(COUNTER)) + 20)
        await stop_counting(machine, guests)
        total, *each = [int(value or 0) for value in await store.read_many([COUNTER, *nodes])]
    # A commit whose answer died with the daemon is done, and its guest does it again.
    assert sum(each) <= total <= sum(each) + kills * len(guests)
    assert store.statistics().reconnections == kills
