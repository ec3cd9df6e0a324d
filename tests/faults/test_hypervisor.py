"""The hypervisor is killed: every process of the machine is gone, and only its caller lives, with an error."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import trio

from tests.faults import leftovers
from tests.faults.moments import AT_LEAST, Moment, blaming, moments, spin
from tests.faults.room import AT_EASE_S, PATIENCE_S, Ear, Room, start_steady
from tests.faults.strike import kill
from xenlike.domain.hypercalls import Hypercalls
from xenlike.errors import HypervisorGone
from xenlike.toolstack import machine as toolstack
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.launch import Launched, launch
from xenlike.toolstack.sync import open_machine

SIDE_BY_SIDE = 2
HYPERCALLS = 60
"""About as many as domain 0 makes until a driver domain and a guest run."""


class Victims:
    """The hypervisors of several machines, each with the moment of its death, which is counted in hypercalls.

    Args:
        patch: undoes it all at the end of the test.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.launched: dict[str, Launched] = {}
        self.killed: dict[str, float] = {}
        self.someone_died = threading.Event()
        self._moments: dict[str, Moment] = {}
        self._calls: dict[str, int] = {}
        original, call = launch, Hypercalls.call

        def launch_and_note(paths: Any, *args: Any) -> Launched:
            launched = self.launched[paths.name] = original(paths, *args)
            return launched

        def call_and_count(calls: Hypercalls, *args: Any, **kwargs: Any) -> Any:
            reply = call(calls, *args, **kwargs)
            self._count(calls)
            return reply

        patch.setattr(toolstack, "launch", launch_and_note)
        patch.setattr(Hypercalls, "call", call_and_count)

    def plan(self, name: str, moment: Moment) -> None:
        """Says when a machine's hypervisor is to die, before that machine is made."""
        self._moments[name], self._calls[name] = moment, 0

    def _count(self, calls: Hypercalls) -> None:
        for name, launched in self.launched.items():
            if launched.dom0 is calls.socket and name in self._moments:
                self._calls[name] += 1
                if self._calls[name] == self._moments[name].after:
                    self.kill(name)

    def kill(self, name: str) -> None:
        """Kills one, unless its moment has come already."""
        if name not in self.killed:
            spin(self._moments[name].spin)
            self.killed[name] = time.monotonic()
            kill(self.launched[name].hypervisor.pid)
            self.someone_died.set()


async def test_the_hypervisor_is_killed(room, monkeypatch):
    """While its machine starts, while domains are born, while their disks are at work."""
    victims = Victims(monkeypatch)
    limit = trio.CapacityLimiter(SIDE_BY_SIDE)
    drawn = moments("hypervisor", HYPERCALLS, count=AT_LEAST + 1)

    async def one(moment: Moment) -> None:
        async with limit:
            with blaming(moment):
                await kill_hypervisor(room, victims, moment)

    with trio.fail_after(PATIENCE_S):
        await one(drawn[0])
        held = leftovers.descriptors()
        async with trio.open_nursery() as nursery:
            for moment in drawn[1:]:
                nursery.start_soon(one, moment)
    assert leftovers.differences(held, leftovers.descriptors()) == {}


async def kill_hypervisor(room: Room, victims: Victims, moment: Moment) -> None:
    name = "m" + moment.name.rpartition("/")[2]
    victims.plan(name, moment)
    ear = Ear()
    image = room.image(moment.number)
    with pytest.raises(HypervisorGone):
        async with open_machine(name, runtime_dir=room.runtime, console=ear) as machine:
            await machine.spawn("storage", backends=["vbd"], memory="8M")
            await start_steady(machine, ear, "steady", image, "storage", rest_s=AT_EASE_S)
            # It made fewer hypercalls than that; so it is while the disk is at work.
            ear.on_line = lambda *_: victims.kill(name)
            await trio.sleep_forever()
    await nothing_left(room, victims, name)
    image.check()


async def nothing_left(room: Room, victims: Victims, name: str) -> None:
    launched = victims.launched[name]
    since = trio.current_time() - (time.monotonic() - victims.killed[name])
    session = launched.hypervisor.pid
    await leftovers.nothing(lambda: leftovers.living(leftovers.of_session(session)), since)
    await leftovers.nothing(lambda: leftovers.process(launched.reaper.pid), since)
    await leftovers.nothing(lambda: leftovers.names_below(room.runtime / name), since)


@pytest.mark.parametrize("index", range(3))
async def test_a_script_is_told(room, monkeypatch, index):
    """A machine without `async`: whoever waits for a guest, or asks for anything, gets the error."""
    victims = Victims(monkeypatch)
    moment = moments("hypervisor of a script", HYPERCALLS)[index]
    image = room.image(moment.number)
    disk = Disk(str(image.path), backend="storage")
    arguments = [image.seed, moment.name, "retry", AT_EASE_S]

    def script() -> None:
        with open_machine("script", runtime_dir=room.runtime, console=Ear()) as machine:
            machine.spawn("storage", backends=["vbd"], memory="8M")
            guest = machine.spawn("guest", "tests.faults.programs:steady", devices=[disk], args=arguments, memory="8M")
            guest.wait()

    with trio.fail_after(PATIENCE_S), blaming(moment):
        victims.plan("script", moment)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_some_time, victims)
            with pytest.raises(HypervisorGone):
                await trio.to_thread.run_sync(script)
        await nothing_left(room, victims, "script")


async def kill_some_time(victims: Victims) -> None:
    """Kills a hypervisor that is asked for less than its moment says."""
    await trio.to_thread.run_sync(victims.someone_died.wait, 2.0)
    victims.kill("script")
