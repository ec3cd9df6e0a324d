"""The host's part of the demo: a machine of two domains, and the murder of one of them half-way."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from xenlike.abi.xenbus import XenbusState
from xenlike.cli.demonstration.image import Originals
from xenlike.errors import MachineError, NoEntry
from xenlike.toolstack.control_wire import DomainInfo
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.guest import Guest
from xenlike.toolstack.machine import Machine
from xenlike.toolstack.sync import open_machine

GUEST, STORAGE = "guest", "storage"


class Show(Protocol):
    """Whom the host tells how it goes."""

    def say(self, text: str) -> None:
        """One line of news."""

    def progress(self, nr_files: int, nr_bytes: int) -> None:
        """So much is read in all."""


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        domains: as `xenlike list` would have shown them half-way.
        sums: SHA-256 of what the guest read, by path.
        read_bytes: by the guest, files only.
        written: SHA-256 and size of what the guest wrote.
        stats: requests, notifications and wakes of the guest's two disks.
        read_s: from the guest's start to its last file.
        recovery_s: from the driver domain's death to the guest's reconnection.
        storage_again: the driver domain's number after that.
    """

    domains: list[DomainInfo] = field(default_factory=list)
    sums: dict[str, str] = field(default_factory=dict)
    read_bytes: int = 0
    written: tuple[str, int] | None = None
    stats: dict[str, int] = field(default_factory=dict)
    read_s: float = 0.0
    recovery_s: float | None = None
    storage_again: int = 0


class Demo:
    """One run of the machine.

    Args:
        originals: what the first image holds.
        images: the first, ext4, and the second, empty.
        show: told how it goes.
    """

    def __init__(self, originals: Originals, images: tuple[Path, Path], show: Show) -> None:
        self._originals = originals
        self._images = images
        self._show = show
        self._outcome = Outcome()
        self._half = trio.Event()
        self._done = trio.Event()
        self._pending = b""
        self._start = time.monotonic()

    async def run(self) -> Outcome:
        """Runs it from start to end.

        Raises:
            MachineError: the guest crashed.
        """
        async with open_machine(f"demo-{os.getpid()}", console=self._hear) as machine, trio.open_nursery() as nursery:
            timeline = Timeline(machine)
            await nursery.start(timeline.run)
            storage = await machine.spawn(STORAGE, backends=["vbd"], on_crash="restart")
            disks = [
                Disk(str(image), vdev=vdev, access=access, backend=STORAGE)
                for image, vdev, access in zip(self._images, ("xvda", "xvdb"), ("ro", "rw"), strict=True)
            ]
            self._start = time.monotonic()
            entry, largest = "xenlike.cli.demonstration.guest:main", self._originals.largest
            guest = await machine.spawn(GUEST, entry, devices=disks, args=[largest])
            nursery.start_soon(self._show_handshake, timeline, _ends(guest.domid, storage.domid, disks[0]))
            nursery.start_soon(self._lead, machine, timeline, guest, storage, disks[0])
            exit = await guest.wait()
            nursery.cancel_scope.cancel()
        if not exit.ok or not self._done.is_set():
            raise MachineError(f"the demo's guest ended with {exit}")
        return self._outcome

    def _hear(self, name: str, data: bytes) -> None:
        """Takes what the domains print: the guest's reports, and anything else is shown."""
        *lines, self._pending = (
            (self._pending + data).split(b"\n") if name == GUEST else (*data.split(b"\n"), self._pending)
        )
        for line in filter(None, lines):
            if name != GUEST or not self._report(line.decode(errors="replace")):
                self._show.say(f"{name} | {line.decode(errors='replace')}")

    def _report(self, line: str) -> bool:
        """Reads a line of the guest's; returns whether it is one of those that it owes."""
        out = self._outcome
        match line.split(" ", 3):
            case ["disk", *_]:
                pass
            case ["file", digest, size, path]:
                out.sums[path] = digest
                out.read_bytes += int(size)
                out.read_s = time.monotonic() - self._start
                self._show.progress(len(out.sums), out.read_bytes)
                if 2 * len(out.sums) >= len(self._originals.sums):
                    self._half.set()
            case ["wrote", digest, size]:
                out.written = digest, int(size)
            case ["stats", *words]:
                out.stats = json.loads(" ".join(words))
                self._done.set()
            case _:
                return False
        return True

    async def _show_handshake(self, timeline: Timeline, ends: tuple[str, str]) -> None:
        for end in ends:
            await timeline.wait(end, XenbusState.Connected)
        lines = {
            end: [f"{state.name} {(at - self._start) * 1000:.1f}" for at, end_, state in timeline.steps if end_ == end]
            for end in ends
        }
        for title, end in zip(("frontend", "backend "), ends, strict=True):
            self._show.say(f"{title} {' -> '.join(lines[end])} ms  [dim]{end}[/]")

    async def _lead(self, machine: Machine, timeline: Timeline, guest: Guest, storage: Guest, disk: Disk) -> None:
        """Kills the driver domain half-way, and ends the guest when it has done its job."""
        await self._half.wait()
        await self._kill(machine, timeline, guest, storage, disk)
        await self._done.wait()
        await guest.shutdown(timeout_s=10)

    async def _kill(self, machine: Machine, timeline: Timeline, guest: Guest, storage: Guest, disk: Disk) -> None:
        self._outcome.domains = await machine.list()
        victim, domid = storage.pid, storage.domid
        if victim is None:
            return
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        self._show.say(f"[red]driver domain d{domid} is killed[/] when {len(self._outcome.sums)} files are read")
        fresh = await storage.wait_restarted(domid)
        for end in _ends(guest.domid, fresh, disk):
            await timeline.wait(end, XenbusState.Connected, since=killed)
        self._outcome.storage_again = fresh
        self._outcome.recovery_s = time.monotonic() - killed
        milliseconds = self._outcome.recovery_s * 1000
        self._show.say(f"[green]it is back as d{fresh}, and the guest connected to it[/] after {milliseconds:.0f} ms")


class Timeline:
    """Takes note of every xenbus state that any device of a machine enters.

    Attributes:
        steps: (time, directory of the device's end, state), in order.
    """

    def __init__(self, machine: Machine) -> None:
        self._store = machine.domain0.store
        self._changed = trio.Event()
        self.steps: list[tuple[float, str, XenbusState]] = []

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Watches until cancelled."""
        async with self._store.watch("/local/domain") as paths:
            task_status.started()
            async for path in paths:
                directory, _, name = path.rpartition("/")
                if name == "state" and "/vbd/" in directory:
                    await self._note(directory)

    async def _note(self, directory: str) -> None:
        try:
            state = XenbusState(int(await self._store.read(f"{directory}/state")))
        except (NoEntry, ValueError):
            return
        if state != next((last for _, end, last in reversed(self.steps) if end == directory), None):
            self.steps.append((time.monotonic(), directory, state))
            self._changed.set()
            self._changed = trio.Event()

    async def wait(self, end: str, state: XenbusState, since: float = 0.0) -> None:
        """Waits until a device's end has entered a state after the time `since`."""
        while not any(at >= since and where == end and entered == state for at, where, entered in self.steps):
            await self._changed.wait()


def _ends(frontend: int, backend: int, disk: Disk) -> tuple[str, str]:
    """Returns the paths of both ends of a disk."""
    return (
        f"/local/domain/{frontend}/device/vbd/{disk.id}",
        f"/local/domain/{backend}/backend/vbd/{frontend}/{disk.id}",
    )
