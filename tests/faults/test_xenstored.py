"""xenstored is killed: its successor has the same tree, everybody reconnects, and nobody hears of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.faults import leftovers
from tests.faults.fate import death, nr_lives
from tests.faults.moments import AT_LEAST, SEED, Moment, blaming, moments
from tests.faults.mortal_store import ENTRY, PLACES, PLAN_VARIABLE, STARTING_PLACES
from tests.faults.room import AT_EASE_S, PATIENCE_S, Ear, Room, run_brief, start_steady, stop_steady, strangers
from tests.faults.scribes import Scribe
from tests.faults.strike import HYPERCALL, STORE_REQUESTS, Counter, is_birth, kill
from xenlike.toolstack.machine import Machine
from xenlike.toolstack.storeserver import STORE_DOMID


@pytest.fixture(autouse=True)
def unguarded(monkeypatch):
    """The guard against a daemon that cannot live is not what is looked at here."""
    monkeypatch.setattr("xenlike.toolstack.storeserver.DEATHS_SPAN_S", 0.0)


class Witnesses:
    """A machine whose domains work on their disks and on the store, so that they would see if it forgot anything."""

    def __init__(self, room: Room, machine: Machine, ear: Ear) -> None:
        self.machine = machine
        self.ear = ear
        self._room = room
        self._number = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Has a guest and domain 0 work on the store, another guest on its disk; sees that nothing went wrong."""
        machine, ear = self.machine, self.ear
        await machine.spawn("storage", backends=["vbd"], memory="8M")
        steady = await start_steady(machine, ear, "steady", self._room.image(1), "storage", rest_s=AT_EASE_S)
        scribe = await machine.spawn("scribe", "tests.faults.scribes:scribe", args=["scribe"], memory="8M")
        await ear.progress("scribe")
        worker = Scribe(machine.domain0.store, "/tool/scribe", random.Random("domain 0"))
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, over.is_set, lambda: None)
            yield
            over.set()
        await ear.progress("scribe")
        await leftovers.nothing(lambda: strangers(machine))
        assert (await stop_steady(machine, ear, steady))["connections"] == 1
        await machine.domain0.store.write(f"/local/domain/{scribe.domid}/data/stop", "1")
        assert (await scribe.wait()).reason == "poweroff"
        assert ear.said("scribe").other == []

    async def live_and_die(self) -> None:
        """Has a guest with a disk be born, connect, work and end."""
        self._number += 1
        image = self._room.image(1000 + self._number, 6)
        await run_brief(self.machine, self.ear, f"brief{self._number}", image, "storage")


async def test_xenstored_is_killed(room, monkeypatch):
    """In the middle of what domain 0 asks: births, handshakes and burials among it; and in its own start."""
    requests = Counter(monkeypatch, STORE_REQUESTS)
    starts = Counter(monkeypatch, HYPERCALL, counts=is_birth)
    with trio.fail_after(PATIENCE_S + 20):
        async with room.machine() as (machine, ear):
            witnesses = Witnesses(room, machine, ear)
            drawn = moments("xenstored", 60, count=12)
            async with witnesses.at_work():
                for moment in drawn:
                    with blaming(moment):
                        await kill_xenstored(witnesses, requests, starts, moment)
            assert machine.domain0.store.statistics().reconnections >= len(drawn)


async def kill_xenstored(witnesses: Witnesses, requests: Counter, starts: Counter, moment: Moment) -> None:
    twice = moment.random("twice").random() < 0.3

    def strike() -> None:
        info = witnesses.machine.hypercalls.domain_info(STORE_DOMID)
        if info is not None and info.domid == STORE_DOMID:
            kill(info.pid)

    def strike_and_prepare() -> None:
        strike()
        if twice:
            # It is being forked then, or reads its log; there is nothing there that we could count.
            starts.after(1, moment.spin * 50, strike)

    with requests.striking(moment, strike_and_prepare):
        await witnesses.live_and_die()


async def test_xenstored_dies(room, monkeypatch):
    """At places of its own: with a change made, logged or answered; with its log read, some rings taken up, or all."""
    drawn = moments("xenstored inside", 40, count=AT_LEAST)
    places = [place for _, place in zip(drawn, itertools.cycle(PLACES * 2 + STARTING_PLACES), strict=False)]
    drawn[0].random("places").shuffle(places)
    plan = room.folder / "deaths"
    lines = []
    for moment, place in zip(drawn, places, strict=True):
        events = {"replayed": 1, "started": 1, "introduced": 1, "attached": 1 + moment.after % 3}.get(
            place, moment.after
        )
        lines.append(death(place, events, moment.spin * (10 if place == "aside" else 1)))
    plan.write_text("\n" + "".join(lines))
    monkeypatch.setenv(PLAN_VARIABLE, str(plan))
    monkeypatch.setattr("xenlike.toolstack.storeserver.ENTRY", ENTRY)
    with trio.fail_after(PATIENCE_S + 20):
        async with room.machine() as (machine, ear):
            witnesses = Witnesses(room, machine, ear)
            try:
                async with witnesses.at_work():
                    kill(next(info.pid for info in machine.hypercalls.domain_infos() if info.domid == STORE_DOMID))
                    while nr_lives(plan) < len(lines) + 2:
                        await witnesses.live_and_die()
            except BaseException as error:
                error.add_note(f"in life {nr_lives(plan)} of {lines}; repeat with XENLIKE_FAULT_SEED={SEED}")
                raise
