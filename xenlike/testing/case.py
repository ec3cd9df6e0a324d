"""One law, one driver, one seed: what a law's function has in its hands."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.abi.recorder import XENLIKE_TRACE_RING
from xenlike.errors import XenlikeError
from xenlike.testing.law import Broken, Inapplicable
from xenlike.testing.loopback import Loopback
from xenlike.testing.peer import MockBackend, MockFrontend
from xenlike.testing.running import limited
from xenlike.testing.trace import Trace
from xenlike.testing.waiting import waiting
from xenlike.xenbus import XenbusState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from xenlike.abi.driver import Driver
    from xenlike.abi.protocol import Protocol
    from xenlike.testing.faults import Faults
    from xenlike.testing.load import Load
    from xenlike.testing.loopback import LoopDomain, Plugged

PATIENCE_S = 1000.0
"""How long a law may take on its own clock, which only goes on when everybody sleeps."""


@dataclass
class Kit:
    """A driver, and how to handle it; `check_driver` explains the members.

    Attributes:
        told: the nodes that each half published in an honest handshake, "frontend" and "backend".
        unplayable: halves that no mock peer can play, and why: they share more than a ring.
    """

    driver: Driver
    exercise: Callable[[Any, random.Random], Awaitable[None]]
    prepare: Callable[[Loopback, Plugged], None] | None = None
    front_nodes: Mapping[str, str] = field(default_factory=dict)
    back_nodes: Mapping[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, str]] = field(default_factory=lambda: {"frontend": {}, "backend": {}})

    unplayable: dict[str, str] = field(default_factory=dict)

    @property
    def protocol(self) -> Protocol:
        """The driver's."""
        return self.driver.protocol


class Case:
    """What a law is given.

    Args:
        kit: the driver.
        name: the law's name.
        seed: the seed.

    Attributes:
        dice: for whatever the law chooses.
        steps: what the law has done so far, the last one last.
        faults: what was to go wrong, if something was.
    """

    def __init__(self, kit: Kit, name: str, seed: int) -> None:
        self.kit = kit
        self.name = name
        self.seed = seed
        self.dice = random.Random(f"{name} {seed}")
        self.trace = Trace()
        self.steps: list[str] = []
        self.faults: Faults | None = None

    @property
    def protocol(self) -> Protocol:
        """The driver's."""
        return self.kit.protocol

    def step(self, text: str) -> None:
        """Says what is done next; a report names the last one."""
        self.steps.append(text)
        self.trace.add(f"step   {text}")

    def expect(self, condition: object, message: str) -> None:
        """Breaks the law unless the condition holds."""
        if not condition:
            raise Broken(message)

    # Machines and devices.

    @asynccontextmanager
    async def machine(self, faults: Faults | None = None) -> AsyncIterator[Loopback]:
        """Makes a loopback machine with the driver in it."""
        type, self.faults = self.kit.driver.type, faults
        drivers = {type: self.kit.driver}
        machine = Loopback(drivers, drivers, faults=faults, prepare=self.kit.prepare)
        machine.record = XENLIKE_TRACE_RING
        self.trace.begin(machine)
        if faults is not None:
            faults.log = self.trace.add
        async with machine:
            try:
                with trio.fail_after(PATIENCE_S):
                    yield machine
            except trio.TooSlowError:
                self.trace.look(machine)
                raise Broken("; ".join(["nothing moves any more", *waiting(machine)])) from None
            except BaseException:
                self.trace.look(machine)
                raise

    def plug(
        self, machine: Loopback, id: int = 0, *, guest: LoopDomain | None = None, driver: LoopDomain | None = None
    ) -> Plugged:
        """Writes a device's directories."""
        kit = self.kit
        nodes = {"front_nodes": kit.front_nodes, "back_nodes": kit.back_nodes}
        return machine.plug(kit.driver.type, id, guest=guest, driver=driver, **nodes)

    async def attach(
        self, machine: Loopback, id: int = 0, *, guest: LoopDomain | None = None, driver: LoopDomain | None = None
    ) -> Plugged:
        """Plugs a device in and waits until both halves are connected; `Broken` if they never are."""
        device = self.plug(machine, id, guest=guest, driver=driver)
        await self.connected(device)
        return device

    async def connected(self, device: Plugged) -> None:
        """Waits until both halves are connected."""
        await self.until(
            device.machine,
            lambda: device.states() == (XenbusState.Connected, XenbusState.Connected),
            lambda: f"the halves never got connected: {self.say_states(device)}",
        )

    async def relink(self, device: Plugged, driver: LoopDomain) -> None:
        """Points a frontend to a backend in another domain, as the toolstack does; waits until it is connected."""
        device.machine.relink(device, driver, self.kit.back_nodes)
        await self.connected(device)

    async def detach(self, device: Plugged) -> None:
        """Takes a device away in order."""
        with limited(), suppress(trio.TooSlowError):
            await device.machine.detach(device)
            return
        raise Broken(f"the device was to be detached, and never was: {self.say_states(device)}")

    async def until(self, machine: Loopback, condition: Callable[[], bool], complaint: Callable[[], str]) -> None:
        """Waits for something that comes with a change of the store; when nothing moves any more the law is broken."""
        with limited(), suppress(trio.TooSlowError):
            await machine.wait_until(condition)
            return
        raise Broken("; ".join([complaint(), *waiting(machine)]))

    def say_states(self, device: Plugged) -> str:
        """Returns the states of both halves, and their error nodes, in words."""
        front, back = device.states()
        errors = [f"; {side} error: {text}" for side, text in self.errors(device).items()]
        return f"the frontend is {front.name}, the backend {back.name}{''.join(errors)}"

    def errors(self, device: Plugged) -> dict[str, str]:
        """Returns what the halves have written to their error nodes."""
        nodes, found = device.machine.tree.nodes, {}
        for side, domain, path in (
            ("frontend", device.front, device.front_path),
            ("backend", device.back, device.back_path),
        ):
            text = nodes.get(f"{domain.home}/error/{path.removeprefix(f'{domain.home}/')}/error")
            if text:
                found[side] = text
        return found

    async def settle(self) -> None:
        """Waits until all tasks sleep; `Broken` if they never do."""
        with limited() as steps:
            await wait_all_tasks_blocked()
            return
        raise Broken(f"tasks run round in circles, and never sleep: most of all {steps.names()}")

    async def settle_or(self, faults: Faults, load: Load, *, rounds: int = 400) -> None:
        """Lets a load run until a fault has struck, but not for ever: it may be one that this driver never meets."""
        struck = faults.struck
        if struck.is_set():
            return
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
            if struck.is_set():
                await self.settle()
                break
        else:
            faults.disarm()
        load.check()

    async def mock_backend(self, machine: Loopback, id: int = 0) -> MockBackend:
        """Plugs a device in whose backend is played by the law."""
        self._need("backend")
        driver = await machine.add_domain("mock", buses=False)
        return MockBackend(machine, self.plug(machine, id, driver=driver))

    async def mock_frontend(self, machine: Loopback, id: int = 0) -> MockFrontend:
        """Plugs a device in whose frontend is played by the law."""
        self._need("frontend")
        guest = await machine.add_domain("mock", buses=False)
        return MockFrontend(machine, self.plug(machine, id, guest=guest))

    def _need(self, side: str) -> None:
        if side in self.kit.unplayable:
            raise Inapplicable(f"no mock can play its {side}: {self.kit.unplayable[side]}")

    @property
    def front_nodes(self) -> dict[str, str]:
        """What an honest frontend publishes, beside its ring."""
        return dict(self.kit.told["frontend"])

    @property
    def back_nodes(self) -> dict[str, str]:
        """What an honest backend publishes."""
        return dict(self.kit.told["backend"])

    # Use.

    async def exercise(self, device: Plugged, dice: random.Random | None = None) -> None:
        """Uses a connected device once; `Broken` if that fails, or the answer is wrong."""
        try:
            await self.kit.exercise(device.frontend, dice or self.dice)
        except AssertionError as error:
            raise Broken(f"an operation got a wrong answer{_detail(error)}") from error
        except XenlikeError as error:
            raise Broken(f"an operation failed with {type(error).__name__}: {error}") from error

    async def try_out(self, device: Plugged) -> Exception | None:
        """Uses a device whose peer lies: a wrong answer, xenlike's errors and `OSError` are in order; returns those.

        Raises:
            Broken: it raised something that its caller cannot expect.
        """
        if not device.front.has(device.front_path):
            return None
        try:
            await self.kit.exercise(device.frontend, self.dice)
        except (XenlikeError, AssertionError, OSError) as error:
            return error
        except Exception as error:
            raise Broken(f"an operation raised {type(error).__name__}: {error}") from error
        return None


def _detail(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return f": {text}" if text else ""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yields the errors in a group, of groups too."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
