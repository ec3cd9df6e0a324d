"""A guest is killed: its backend and the other guests go on, and nothing of it is left at the backend."""

from __future__ import annotations

import trio

from tests.faults import leftovers
from tests.faults.moments import Moment, blaming, moments
from tests.faults.room import (
    AT_EASE_S,
    PATIENCE_S,
    PROGRAMS,
    Ear,
    Room,
    hypervisor_of,
    start_steady,
    stop_steady,
    strangers,
)
from tests.faults.strike import HYPERCALL, STORE_REQUESTS, Counter, kill
from xenlike.toolstack.machine import Machine

SIDE_BY_SIDE = 3


async def test_a_guest_is_killed(room):
    """At any moment, from before its disk is connected to the middle of its requests."""
    with trio.fail_after(PATIENCE_S + 20):
        async with room.machine() as (machine, ear):
            storage = await machine.spawn("storage", backends=["vbd"])
            bystander = await start_steady(machine, ear, "bystander", room.image(7), "storage", rest_s=AT_EASE_S)
            limit = trio.CapacityLimiter(SIDE_BY_SIDE)
            drawn = moments("guest", 60, count=24)

            async def one(moment: Moment) -> None:
                async with limit:
                    with blaming(moment):
                        await kill_guest(room, machine, ear, moment)

            await kill_guest(room, machine, ear, drawn[0])
            held = leftovers.descriptors(storage.pid), leftovers.descriptors(hypervisor_of(machine))
            own = leftovers.descriptors()
            async with trio.open_nursery() as nursery:
                for moment in drawn[1:]:
                    nursery.start_soon(one, moment)
            await ear.progress("bystander")
            # Images that were sent for a guest which died too early are taken back when the next one is sent.
            await kill_guest(room, machine, ear, drawn[0])
            served = await machine.domain0.store.ls(f"/local/domain/{storage.domid}/backend/vbd")
            assert served == [str(bystander.domid)]
            hypervisor = hypervisor_of(machine)
            now = leftovers.descriptors(storage.pid), leftovers.descriptors(hypervisor)
            assert (now, leftovers.descriptors()) == (held, own)
            await leftovers.nothing(lambda: strangers(machine))
            await stop_steady(machine, ear, bystander)


async def kill_guest(room: Room, machine: Machine, ear: Ear, moment: Moment) -> None:
    source = moment.random("guest")
    name = "victim" + moment.name.rpartition("/")[2]
    image = room.image(moment.number)
    ear.said(name).image = image
    after, how = source.choice((0, moment.after, moment.after)), source.choice(("here", "aside"))
    spin = 50 * moment.spin if not after else moment.spin
    guest = await machine.spawn(
        name,
        f"{PROGRAMS}:doomed",
        devices=[image.disk("storage")],
        args=[image.seed, moment.name, after, spin, how],
        memory="8M",
    )
    domid = guest.domid
    ending = await guest.wait()
    assert (ending.reason, ending.signal) == ("crash", 9), "\n".join([str(ending), *ear.said(name).other])
    image.check()
    # Its pages are free, which the hypervisor says only when nobody maps them any more.
    assert domid not in [info.domid for info in machine.hypercalls.domain_infos()]
    assert not await machine.domain0.store.exists(f"/local/domain/{domid}")


async def test_a_guest_is_killed_while_it_is_started(room, monkeypatch):
    """Before the store knows it, or before its nodes are made: it has crashed, and that is all."""
    acts = Counter(monkeypatch, HYPERCALL, STORE_REQUESTS)
    with trio.fail_after(PATIENCE_S + 20):
        async with room.machine() as (machine, ear):
            storage = await machine.spawn("storage", backends=["vbd"])
            bystander = await start_steady(machine, ear, "bystander", room.image(8), "storage", rest_s=AT_EASE_S)
            for moment in moments("guest at birth", 8):
                with blaming(moment):
                    await kill_at_birth(room, machine, acts, moment)
            served = await machine.domain0.store.ls(f"/local/domain/{storage.domid}/backend/vbd")
            assert served == [str(bystander.domid)]
            await leftovers.nothing(lambda: strangers(machine))
            await stop_steady(machine, ear, bystander)


async def kill_at_birth(room: Room, machine: Machine, acts: Counter, moment: Moment) -> None:
    disk = room.image(moment.number, 1).disk("storage")

    killed = False

    def strike() -> None:
        nonlocal killed
        # A domain that is still paused, or being forked, has no process to kill: that one dies below.
        pid = next(info.pid for info in machine.hypercalls.domain_infos() if info.name == b"victim")
        if pid:
            kill(pid)
            killed = True

    with acts.striking(moment, strike):
        victim = await machine.spawn("victim", f"{PROGRAMS}:steady", devices=[disk], args=[1, "victim"], memory="8M")
    while not killed:
        strike()
        await trio.lowlevel.checkpoint()
    ending = await victim.wait()
    assert (ending.reason, ending.signal) == ("crash", 9)
    assert victim.domid not in [info.domid for info in machine.hypercalls.domain_infos()]
    assert not await machine.domain0.store.exists(f"/local/domain/{victim.domid}")
