"""A driver domain is killed: its frontends say so or wait for its successor, and no byte is wrong."""

from __future__ import annotations

import trio

from tests.faults import leftovers
from tests.faults.fate import death, nr_lives
from tests.faults.moments import AT_LEAST, SEED, Moment, moments
from tests.faults.mortal_block import HANDSHAKE_PLACES, MORTAL, REQUEST_PLACES
from tests.faults.room import PATIENCE_S, hypervisor_of, run_brief, start_steady, stop_steady, strangers
from tests.faults.strike import kill

IN_REQUESTS, IN_HANDSHAKES = AT_LEAST, 12


def deaths() -> list[str]:
    """Draws deaths, most of them in the middle of requests."""
    drawn = moments("driver domain", 40, count=IN_REQUESTS + IN_HANDSHAKES)
    places = [REQUEST_PLACES[index % len(REQUEST_PLACES)] for index in range(IN_REQUESTS)]
    places += [HANDSHAKE_PLACES[index % len(HANDSHAKE_PLACES)] for index in range(IN_HANDSHAKES)]
    drawn[0].random("places").shuffle(places)
    return [_death(moment, place) for moment, place in zip(drawn, places, strict=True)]


def _death(moment: Moment, place: str) -> str:
    # A handshake has one event for each of the two disks.
    events = moment.after if place in REQUEST_PLACES else 1 + moment.after % 2
    return death(place, events, moment.spin * (10 if place == "aside" else 1))


async def test_a_driver_domain_is_killed(room, monkeypatch):
    """One guest waits for each successor, one is told of each death; all that was flushed is in the images."""
    # The guard against endless restarts is not what is looked at here.
    monkeypatch.setattr("xenlike.toolstack.guest.RESTART_SPAN_S", 0.0)
    plan = room.folder / "deaths"
    plan.write_text("")
    drawn = deaths()
    with trio.fail_after(PATIENCE_S + 20):
        async with room.machine() as (machine, ear):
            storage = await machine.spawn(
                "storage", backends=["vbd"], drivers=[MORTAL], args=[str(plan)], on_crash="restart", memory="8M"
            )
            patient = await start_steady(machine, ear, "patient", room.image(1), "storage")
            wary = await start_steady(machine, ear, "wary", room.image(2), "storage", on_peer_gone="fail")

            async def live_through(lines: list[str]) -> None:
                # This life has no fate; each one from the next on has, and then there is another without.
                expected = nr_lives(plan) + len(lines) + 1
                plan.write_text("".join(lines))
                kill(storage.pid)
                while nr_lives(plan) < expected:
                    await ear.progress("patient")
                for guest in (patient, wary):
                    await ear.progress(guest.name, 100)

            def held() -> list[dict[str, int]]:
                return [leftovers.descriptors(), leftovers.descriptors(hypervisor_of(machine))]

            async def spawn_others() -> None:
                # Devices that are plugged while their backend dies, comes back, or is neither here nor there.
                number = 0
                while nr_lives(plan) < len(drawn):
                    number += 1
                    await run_brief(machine, ear, f"brief{number}", room.image(100 + number, 6), "storage")

            try:
                await live_through(drawn[:4])
                before = held()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(spawn_others)
                    await live_through(drawn[4:])
            except BaseException as error:
                error.add_note(f"in life {nr_lives(plan)} of {drawn}; repeat with XENLIKE_FAULT_SEED={SEED}")
                raise
            await leftovers.nothing(lambda: [d for d in map(leftovers.differences, before, held()) if d])
            await leftovers.nothing(lambda: strangers(machine))
            assert (await stop_steady(machine, ear, patient))["lost"] == 0
            assert (await stop_steady(machine, ear, wary))["lost"] > IN_REQUESTS // 2
