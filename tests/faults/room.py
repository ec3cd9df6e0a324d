"""A place for machines under test: their folder, what their guests say, and the law that nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.faults import content, leftovers
from tests.faults.programs import SLOT
from tests.faults.stacks import stacks
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.guest import Guest
from xenlike.toolstack.machine import Machine
from xenlike.toolstack.sync import open_machine

PATIENCE_S = 60
"""Hang guard."""
SPARE = "xl-spare"
"""A child of the zygote's that is no domain yet."""
PROGRAMS = "tests.faults.programs"
DISK_SLOTS = 24
AT_EASE_S = 0.005
"""What bystanders rest, so that there is time for what is looked at."""
EXPECTED = ("DEBUG ", "INFO ", "WARNING ")
"""Beginnings of log lines that are no failure."""


@dataclass
class Image:
    """A disk, and what its image must hold."""

    path: Path
    seed: int
    floor: dict[int, int] = field(default_factory=dict)

    @classmethod
    def make(cls, path: Path, seed: int, slots: int = DISK_SLOTS) -> Image:
        with path.open("wb") as file:
            file.truncate(slots * SLOT)
        return cls(path, seed)

    def disk(self, backend: str) -> Disk:
        return Disk(str(self.path), vdev="xvda", backend=backend)

    def check(self) -> None:
        """Every sector is some version of what belongs there, and nothing that was flushed is missing."""
        data = self.path.read_bytes()
        for slot in range(len(data) // SLOT):
            found = content.versions(data[slot * SLOT : (slot + 1) * SLOT], self.seed, slot * SLOT)
            flushed = self.floor.get(slot, 0)
            assert min(found) >= flushed, f"slot {slot} holds {found}, and {flushed} was flushed"


@dataclass
class Said:
    """What one guest has said so far."""

    done: int = 0
    lost: int = 0
    end: dict[str, int] | None = None
    log: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    image: Image | None = None


class Ear:
    """Listens to the consoles of a machine."""

    def __init__(self) -> None:
        self._said: dict[str, Said] = {}
        self._partial: dict[str, bytes] = {}
        self._news = trio.Event()
        # Called with the guest's name and its line after each.
        self.on_line = lambda name, line: None

    def __call__(self, name: str, data: bytes) -> None:
        *lines, self._partial[name] = (self._partial.get(name, b"") + data).split(b"\n")
        for line in lines:
            self._take(name, line.decode(errors="replace"))
        self._news.set()
        self._news = trio.Event()

    def _take(self, name: str, line: str) -> None:
        said = self.said(name)
        match json.loads(line) if line.startswith("{") else line:
            case {"done": int(count)}:
                said.done = count
            case {"lost": int(count)}:
                said.lost = count
            case {"end": dict(end)}:
                said.end = end
            case {"flushed": dict(news)}:
                if said.image is not None:
                    said.image.floor.update({int(slot): version for slot, version in news.items()})
            case str(text) if text.startswith(EXPECTED):
                said.log.append(text)
            case _:
                said.other.append(line)
        self.on_line(name, line)

    def said(self, name: str) -> Said:
        return self._said.setdefault(name, Said())

    async def progress(self, name: str, more: int = 1) -> None:
        """Waits until a guest has done more than it had, whatever happened to it before."""
        goal = self.said(name).done + more
        while self.said(name).done < goal:
            if self.said(name).other:
                raise AssertionError("\n".join(self.said(name).other))
            await self._news.wait()


class Room:
    """Makes machines.

    Args:
        folder: below it are images, and the machines' runtime folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "run"
        self._images = 0

    def image(self, seed: int, slots: int = DISK_SLOTS) -> Image:
        self._images += 1
        return Image.make(self.folder / f"disk{self._images}.img", seed, slots)

    @asynccontextmanager
    async def machine(self, name: str = "faults") -> AsyncIterator[tuple[Machine, Ear]]:
        """Runs a machine; sees that nothing is left of it."""
        ear = Ear()
        async with open_machine(name, runtime_dir=self.runtime, console=ear) as machine:
            hypervisor = hypervisor_of(machine)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_guard, machine, ear)
                yield machine, ear
                nursery.cancel_scope.cancel()
        await leftovers.nothing(lambda: leftovers.living(leftovers.of_session(hypervisor)))
        assert not leftovers.names_below(self.runtime / name)


async def _guard(machine: Machine, ear: Ear) -> None:
    """Ends a hang, and tells what it was waiting for."""
    await trio.sleep(PATIENCE_S)
    print(stacks())
    with trio.move_on_after(5):
        await _describe(machine, ear)
    raise AssertionError(f"nothing has come of it for {PATIENCE_S} s")


async def _describe(machine: Machine, ear: Ear) -> None:
    for info in await machine.list():
        print(info)
    print(*leftovers.of_session(hypervisor_of(machine)), sep="\n")
    for guest in machine.domains.values():
        if guest.pid and guest.spec.entry is not None:
            os.kill(guest.pid, signal.SIGUSR1)
    await trio.sleep(0.5)
    for guest in machine.domains.values():
        said = ear.said(guest.name)
        print(guest, guest.phase, f"done {said.done}, lost {said.lost}", *said.log[-4:], *said.other, sep="\n    ")
    await _print_nodes(machine, "/local/domain")


async def _print_nodes(machine: Machine, path: str) -> None:
    print(path, "=", await machine.domain0.store.get(path))
    for name in await machine.domain0.store.ls(path):
        await _print_nodes(machine, f"{path}/{name}")


def hypervisor_of(machine: Machine) -> int:
    return machine._launched.hypervisor.pid


def _unknown_children(machine: Machine) -> list[leftovers.Process]:
    known = {info.pid for info in machine.hypercalls.domain_infos()}
    return [entry for entry in leftovers.children(hypervisor_of(machine)) if entry.pid not in known]


def zygote_of(machine: Machine) -> int | None:
    """Returns the zygote's pid, also while it starts; None while there is none."""
    for entry in _unknown_children(machine):
        if entry.state != "Z" and entry.comm != SPARE and not entry.comm.startswith("xl-d"):
            return entry.pid
    return None


def strangers(machine: Machine) -> list[leftovers.Process]:
    """Returns children of the hypervisor that are neither its zygote, with its spare, nor a domain that it knows."""
    return [
        entry
        for entry in _unknown_children(machine)
        if entry.pid != zygote_of(machine) and not (entry.comm == SPARE and entry.state != "Z")
    ]


async def start_steady(
    machine: Machine, ear: Ear, name: str, image: Image, backend: str, on_peer_gone: str = "retry", rest_s: float = 0.0
) -> Guest:
    """Starts a guest that works until `stop_steady`."""
    ear.said(name).image = image
    guest = await machine.spawn(
        name,
        f"{PROGRAMS}:steady",
        devices=[image.disk(backend)],
        args=[image.seed, f"{name}/{image.seed}", on_peer_gone, rest_s],
        memory="8M",
    )
    await ear.progress(name)
    return guest


async def stop_steady(machine: Machine, ear: Ear, guest: Guest) -> dict[str, int]:
    """Has a guest read everything back; returns its last words. Checks its image too."""
    said = ear.said(guest.name)
    await machine.domain0.store.write(f"/local/domain/{guest.domid}/data/stop", "1")
    ending = await guest.wait()
    assert (ending.reason, said.other) == ("poweroff", []), (str(ending), "\n".join(said.other))
    assert said.end is not None
    assert said.image is not None
    said.image.check()
    return said.end


async def run_brief(machine: Machine, ear: Ear, name: str, image: Image, backend: str, operations: int = 10) -> None:
    """Runs a guest from its birth to its end, with a little work between them."""
    said = ear.said(name)
    said.image = image
    guest = await machine.spawn(
        name,
        f"{PROGRAMS}:brief",
        devices=[image.disk(backend)],
        args=[image.seed, f"{name}/{image.seed}", operations],
        memory="8M",
    )
    ending = await guest.wait()
    assert (ending.reason, said.other) == ("poweroff", []), "\n".join([str(ending), *said.log, *said.other])
    assert said.end is not None
    image.check()
