"""A machine to measure in: its name and images are its own, and its guests report by console lines."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from xenlike.benchmarks.guests import MARK
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.machine import Machine
from xenlike.toolstack.sync import open_machine

PATIENCE_S = 60
"""A guest that has not reported by then never will."""

STORE = "store"
"""The driver domain's name."""


class Lab:
    """One machine with a driver domain.

    Attributes:
        machine: the machine.
        folder: for images; in memory where the host has such a place.
    """

    def __init__(self, folder: Path) -> None:
        self.machine: Machine
        self.folder = folder
        self._partial: dict[str, bytes] = defaultdict(bytes)
        self._reports: dict[str, list[list[str]]] = defaultdict(list)
        self._heard = trio.Event()
        self._names = 0

    def name(self) -> str:
        """Returns a name for a guest that no other has had."""
        self._names += 1
        return f"guest{self._names}"

    def image(self, name: str, size: int) -> Path:
        """Makes an image whose every 4 KiB block begins with its own offset."""
        path = self.folder / name
        with path.open("wb") as file:
            for offset in range(0, size, 4096):
                file.write(offset.to_bytes(8, "little") * 512)
        return path

    def disk(self, image: Path) -> Disk:
        """Returns the words that give an image to a guest, read-only, served by the driver domain."""
        return Disk(str(image), access="r", backend=STORE)

    async def heard(self, guest: str) -> list[str]:
        """Waits for the next report of a guest and returns its words.

        Raises:
            trio.TooSlowError: it says nothing.
        """
        with trio.fail_after(PATIENCE_S):
            while not self._reports[guest]:
                await self._heard.wait()
        return self._reports[guest].pop(0)

    def listen(self, name: str, data: bytes) -> None:
        """Takes console output: reports are kept, anything else (a traceback) is printed."""
        *lines, self._partial[name] = (self._partial[name] + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if text.startswith(f"{MARK} "):
                self._reports[name].append(text.split()[1:])
            else:
                print(f"{name} | {text}")
        self._heard.set()
        self._heard = trio.Event()


@asynccontextmanager
async def open_lab() -> AsyncIterator[Lab]:
    """Starts a machine with a driver domain, and ends it with the block."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="xenlike-bench-", dir=where) as folder:
        lab = Lab(Path(folder))
        async with open_machine(f"bench-{os.getpid()}", console=lab.listen) as lab.machine:
            await lab.machine.spawn(STORE, backends=["vbd"])
            yield lab
