"""The zygote is killed: all domains live, births go on with the next one, and those that were under way are done."""

from __future__ import annotations

import trio

from tests.faults import leftovers
from tests.faults.moments import AT_LEAST, Moment, blaming, moments
from tests.faults.room import (
    AT_EASE_S,
    PATIENCE_S,
    Ear,
    Room,
    hypervisor_of,
    run_brief,
    start_steady,
    stop_steady,
    strangers,
    zygote_of,
)
from tests.faults.strike import HYPERCALL, Counter, is_birth, kill
from xenlike.toolstack.machine import Machine

TOGETHER = 2
"""Domains that are born side by side."""


async def test_the_zygote_is_killed(room, monkeypatch):
    """Before a birth, during one, and while it starts itself."""
    births = Counter(monkeypatch, HYPERCALL, counts=is_birth)
    with trio.fail_after(PATIENCE_S + 20):
        async with room.machine() as (machine, ear):
            storage = await machine.spawn("storage", backends=["vbd"], memory="8M")
            steady = await start_steady(machine, ear, "steady", room.image(1), "storage", rest_s=AT_EASE_S)
            pids = storage.pid, steady.pid
            held = leftovers.descriptors(hypervisor_of(machine))
            for moment in moments("zygote", TOGETHER, count=AT_LEAST, longest_spin=150_000):
                with blaming(moment):
                    await kill_zygote(room, machine, ear, births, moment)
            await ear.progress("steady")
            assert (storage.pid, steady.pid) == pids
            await leftovers.nothing(lambda: strangers(machine))
            await leftovers.nothing(lambda: leftovers.differences(held, leftovers.descriptors(hypervisor_of(machine))))
            assert (await stop_steady(machine, ear, steady))["connections"] == 1


async def kill_zygote(room: Room, machine: Machine, ear: Ear, births: Counter, moment: Moment) -> None:
    number = int(moment.name.rpartition("/")[2])
    how = moment.random("how").choice(("during", "during", "during", "before", "before", "twice"))
    if how == "twice":
        # Three in a row that have forked nothing would be the last ones; so this one has.
        await run_brief(machine, ear, f"brief{number}", room.image(moment.number, 6), "storage")
    victim = zygote_of(machine)
    if how == "during":
        births.after(moment.after, moment.spin, lambda: kill(victim))
    else:
        kill(victim)
    if how == "twice":
        # The next one is only about to start.
        await leftovers.nothing(lambda: zygote_of(machine) in (None, victim))
        kill(zygote_of(machine))
        births.after(moment.after, moment.spin, lambda: kill(victim))
    async with trio.open_nursery() as nursery:
        for index in range(TOGETHER):
            image = room.image(moment.number + index, 6)
            nursery.start_soon(run_brief, machine, ear, f"brief{number}.{index}", image, "storage")
