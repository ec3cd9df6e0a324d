"""A machine of real processes around one example driver."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from xenlike import Machine, open_machine


class Heard:
    """What the domains have printed, by name."""

    def __init__(self) -> None:
        self.text: dict[str, str] = {}
        self._more = trio.Event()

    def __call__(self, name: str, data: bytes) -> None:
        self.text[name] = self.text.get(name, "") + data.decode()
        self._more.set()

    async def wait_for(self, name: str, words: str) -> None:
        """Waits until a domain has printed something."""
        while words not in self.text.get(name, ""):
            self._more = trio.Event()
            await self._more.wait()


@asynccontextmanager
async def machine_with(backend: str, folder: Path) -> AsyncIterator[tuple[Machine, Heard]]:
    """Opens a machine whose domain `driver` serves devices of one type, and starts again when it dies."""
    heard = Heard()
    with trio.fail_after(30):
        async with open_machine(f"{backend}-{os.getpid()}", runtime_dir=folder, console=heard) as machine:
            await machine.spawn("driver", backends=[backend], on_crash="restart")
            try:
                yield machine, heard
            except BaseException:
                print(heard.text)
                raise
