"""The machine behind `xenlike dev`: a driver domain and a guest, started anew whenever a file is saved.

Each life is a machine of its own, so nothing of the code before is left in any process, and nothing of the nodes before
in the store.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from xenlike.abi.driver import Driver
from xenlike.cli.dev_display import Display, Screen, described
from xenlike.cli.dev_saves import watch_saves
from xenlike.cli.running import watch_signals
from xenlike.errors import ConfigError, XenlikeError
from xenlike.toolstack import exerciser
from xenlike.toolstack.devices import Device, Disk
from xenlike.toolstack.driver_source import FoundDriver, find_driver, forget
from xenlike.toolstack.follower import NodeChange, follow
from xenlike.toolstack.guest import Guest
from xenlike.toolstack.machine import Machine
from xenlike.toolstack.sync import open_machine

DRIVER_DOMAIN, GUEST = "driver", "guest"
PAUSE_S = 0.02
"""Between two operations: enough to look at, little enough for a processor to rest."""
STUCK_S = 3.0
"""Without an operation for so long, the user is told what is waited for."""
ENOUGH = 10
"""Operations after which `--once` is content."""
PATIENCE_S = 30.0
"""How long `--once` waits for them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for.

    Attributes:
        name: the driver, as `find_driver` takes it.
        once: end after a few operations, or at the first failure.
        for_s: end after so long; None for never.
    """

    name: str
    once: bool = False
    for_s: float | None = None


class Session:
    """One `xenlike dev`.

    Args:
        wish: what the user asked for.
        display: is told everything.
    """

    def __init__(self, wish: Wish, display: Display) -> None:
        self._wish = wish
        self._display = display
        self._lives = 0
        self._saved = trio.Event()
        self._enough = trio.Event()
        self._started = trio.Event()
        self.done = self.failed = 0
        """Operations of the present life."""
        self._given_up = self._only_connects = False
        self._states: dict[str, NodeChange] = {}

    async def run(self) -> bool:
        """Runs until it is interrupted or has done what was asked for.

        Returns:
            Whether the device works: it was used, and nothing failed in the last life.

        Raises:
            ConfigError: there is no such driver, or it does not import at the start.
            KeyboardInterrupt: by Ctrl-C or SIGTERM; nothing is left.
        """
        found = find_driver(self._wish.name).load_halves()
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals)
            nursery.start_soon(self._draw)
            await nursery.start(watch_saves, folders_of(found), self._save)
            nursery.start_soon(self._end_in_time)
            await self._live_again_and_again(found)
            nursery.cancel_scope.cancel()
        works = (self.done > 0 or self._only_connects) and not self.failed and not self._given_up
        self._display.note(self._verdict(works))
        return works

    def _verdict(self, works: bool) -> str:
        if works and self._only_connects:
            return "both ends are connected; this driver names no exercise"
        if works:
            return f"it works: {self.done} operations, none failed"
        states = ", ".join(f"the {side} is {described(state)}" for side, state in self._states.items())
        return f"it does not work: {self.done} operations, {self.failed} failed; {states or 'it never started'}"

    async def _end_in_time(self) -> None:
        """Waits until both halves run for the first time: what `--for` says begins then."""
        await self._started.wait()
        if self._wish.for_s is not None or self._wish.once:
            await trio.sleep(PATIENCE_S if self._wish.for_s is None else self._wish.for_s)
            self._enough.set()

    async def _draw(self) -> None:
        while isinstance(self._display, Screen):
            self._display.tick()
            await trio.sleep(0.1)

    def _save(self, files: set[Path]) -> None:
        self._saved.set()

    async def _live_again_and_again(self, found: FoundDriver | None) -> None:
        files = found.files if found is not None else frozenset()
        while True:
            self._saved = trio.Event()
            if found is not None:
                await self._live(found)
                files = found.files
            else:
                await first(self._saved, self._enough)
            if self._enough.is_set():
                return
            forget(files)
            try:
                found = find_driver(self._wish.name).load_halves()
            except ConfigError as error:
                found = None
                for state in self._states.values():
                    self._display.changed(replace(state, value=None))
                self._states.clear()
                self._display.error(str(error))
                self._display.note("both halves are down; they start again when you save")

    async def _live(self, found: FoundDriver) -> None:
        """One machine, until a file is saved or there is nothing more to see.

        It is never cancelled for that: a spawn that is cut off together with its machine could not clean up.
        """
        driver, self._lives = found.driver, self._lives + 1
        self.done = self.failed = 0
        self._given_up = self._only_connects = False
        self._states = {}
        name = f"dev-{driver.type}"
        async with open_machine(name, console=self._display.said) as machine, trio.open_nursery() as nursery:
            self._display.begin(self._lives, f"{driver.type}: {driver.doc or driver.protocol.doc} (machine {name})")
            if not driver.exercise:
                self._display.note(f"{driver.type} names no `exercise`, so the guest only connects")
            await nursery.start(self._follow, machine, driver.type)
            for domain in await self._spawn(machine, driver):
                nursery.start_soon(self._mourn, domain)
            nursery.start_soon(self._go_down, machine)
            nursery.start_soon(self._explain, machine)
            self._started.set()
            await first(self._saved, self._enough)
            nursery.cancel_scope.cancel()

    async def _explain(self, machine: Machine) -> None:
        """Says what is waited for, when the device has not been used for a while."""
        before, said = -1, ""
        while True:
            await trio.sleep(STUCK_S)
            count = self.done + self.failed
            if count == before and not self._only_connects:
                with suppress(XenlikeError):
                    for explanation in await machine.why():
                        if explanation.sentence != said:
                            said = explanation.sentence
                            self._display.note(f"nothing for {STUCK_S:.0f} s: {said}")
            elif said:
                said = ""
                self._display.note("it goes on")
            before = count

    async def _go_down(self, machine: Machine) -> None:
        """`xenlike down` ends it, too."""
        await machine.wait_down()
        self._enough.set()

    async def _spawn(self, machine: Machine, driver: Driver) -> tuple[Guest, Guest]:
        backend = await machine.spawn(
            DRIVER_DOMAIN, backends=[driver.type], drivers=[driver], on_crash="restart", on_reboot="restart"
        )
        device: Device | Disk = Device(driver.type, backend=DRIVER_DOMAIN, driver=driver)
        if driver.type == "vbd":
            # The only device that cannot be had without something of the host's.
            device = Disk("64M", format="memory", backend=DRIVER_DOMAIN)
        guest = await machine.spawn(
            GUEST,
            f"{exerciser.__name__}:main",
            devices=[device],
            args=[device.type, device.id, driver.exercise, PAUSE_S],
        )
        return backend, guest

    async def _follow(self, machine: Machine, type: str, *, task_status: trio.TaskStatus[None]) -> None:
        await follow(machine.domain0.store, type, self._changed, task_status=task_status)

    async def _mourn(self, domain: Guest) -> None:
        ending = await domain.wait()
        self._given_up = True
        self._display.error(f"the domain {domain.name} ended: {ending}")
        if self._wish.once:
            self._enough.set()

    def _changed(self, change: NodeChange) -> None:
        if change.kind == "data" and change.name == exerciser.COUNTS and change.value:
            self.done, self.failed = (int(word) for word in change.value.split())
            self._only_connects = not self.done + self.failed
            self._display.counted(self.done, self.failed)
            if self._wish.once and (self.done >= ENOUGH or self.failed or self._only_connects):
                self._enough.set()
        elif change.kind == "data" and change.name == exerciser.ERROR and change.value:
            self._display.error(change.value)
        elif change.kind != "data":
            self._display.changed(change)
            if change.name == "state" and change.value is not None:
                self._states[change.kind] = change
            if change.kind == "error" and change.value is not None:
                self._given_up = True
                if self._wish.once:
                    self._enough.set()


def folders_of(found: FoundDriver) -> set[Path]:
    """Returns the folders in which a driver's files are, those of what they have imported beside them included."""
    folders = {file.parent for file in found.files}
    for module in list(sys.modules.values()):
        file = Path(getattr(module, "__file__", None) or "/")
        folders |= {file.parent} if any(folder in file.parents for folder in folders) else set()
    return folders


async def first(*events: trio.Event) -> None:
    """Waits until one of some events has happened."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
