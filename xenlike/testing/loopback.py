"""A machine in one process: both halves of a driver, through real rings, without a hypervisor.

    async with Loopback() as machine:
        echo = await machine.attach("echo")
        assert await echo.frontend.upper(b"hello") == b"HELLO"
        await machine.kill(machine.driver)

Ring, event pipes, xenbus and the drivers are the real ones. Domains, grants and the store are simulated, and
keep the real rules. The toolstack's part is in the methods of `Loopback`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from xenlike.testing.fakestore import FakeStore, FakeTree
from xenlike.testing.loopdomain import LoopDomain
from xenlike.testing.stopping import Stopper
from xenlike.xenbus import XenbusState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from xenlike.testing.fakedomain import FakeDomain
    from xenlike.testing.faults import Faults
    from xenlike.xenbus.bus import DriverLike

__all__ = ["LoopDomain", "Loopback", "Plugged"]

PATIENCE_S = 30.0
"""How long anything here waits: a guard against hangs, not a measure."""


@dataclass
class Plugged:
    """A device of a loopback machine.

    Attributes:
        frontend: the frontend's object.
        backend: the backend's object, of its present life.
        front_path, back_path: their directories in the store.
    """

    machine: Loopback
    front: LoopDomain
    back: LoopDomain
    front_path: str
    back_path: str

    # Any: a test knows its driver's class, and uses operations that are that class's own.

    @property
    def frontend(self) -> Any:
        """The guest's half."""
        return self.front.find(self.front_path)

    @property
    def backend(self) -> Any:
        """The driver domain's half."""
        return self.back.find(self.back_path)

    def states(self) -> tuple[XenbusState, XenbusState]:
        """Returns the states in the store, the frontend's first."""
        nodes = self.machine.tree.nodes
        front, back = (int(nodes.get(f"{path}/state", "0")) for path in (self.front_path, self.back_path))
        return XenbusState(front), XenbusState(back)

    async def wait_states(self, front: XenbusState, back: XenbusState) -> None:
        """Waits until the store holds these states."""
        await self.machine.wait_until(lambda: self.states() == (front, back))

    async def wait_connected(self) -> None:
        """Waits until both halves are connected."""
        await self.wait_states(XenbusState.Connected, XenbusState.Connected)


class Loopback:
    """A machine with a driver domain and a guest; more domains by `add_domain`.

    Args:
        frontends: frontend drivers by device type; those of entry points need not be named.
        backends: backend drivers likewise.
        faults: what is to go wrong; see `xenlike.testing.faults`.
        prepare: called with this machine and a device before its directories are written, each time that it gets
            a backend: gives the backend what it needs of its host, such as a disk's image.

    Attributes:
        tree: the store's nodes, and their history.
        driver: domain 1, where backends run.
        guest: domain 2, where frontends run.
        domains: all domains by number.
        record: classes of events that domains record beside the usual ones, `XENLIKE_TRACE_RING` for one; for
            domains that are made after it was set.
    """

    record = 0

    driver: LoopDomain
    guest: LoopDomain

    def __init__(
        self,
        frontends: Mapping[str, DriverLike] | None = None,
        backends: Mapping[str, DriverLike] | None = None,
        *,
        faults: Faults | None = None,
        prepare: Callable[[Loopback, Plugged], None] | None = None,
    ) -> None:
        self.tree = FakeTree()
        self.faults = faults
        self.stopper = Stopper()
        self._prepare = prepare
        self.domains: dict[int, FakeDomain] = {}
        self.frontend_drivers = dict(frontends or {})
        self.backend_drivers = dict(backends or {})
        self.store = FakeStore(self.tree, 0)
        self._stack = AsyncExitStack()
        self._next_domid = 1

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self.stopper)
        if self.faults is not None:
            self._stack.enter_context(self.faults)
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        self.driver = await self.add_domain("driver")
        self.guest = await self.add_domain("guest")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._nursery.cancel_scope.cancel()
        for domain in self.domains.values():
            if isinstance(domain, LoopDomain):
                domain.go()
        try:
            return await self._stack.__aexit__(kind, error, traceback)
        finally:
            for domain in self.domains.values():
                if domain.alive:
                    domain.die()

    async def add_domain(self, name: str, *, buses: bool = True) -> LoopDomain:
        """Makes a domain and starts its buses; without them, its devices are left to a mock peer."""
        domid, self._next_domid = self._next_domid, self._next_domid + 1
        domain = LoopDomain(self, domid, name, buses=buses)
        domain.recorder.mask |= self.record
        if self.faults is not None:
            self.faults.attend(domain)
        for part in ("device", "backend", "error"):
            self.tree.write(f"{domain.home}/{part}", "")
        await self._nursery.start(domain.run)
        return domain

    # The toolstack's part.

    def plug(
        self,
        type: str,
        id: int = 0,
        *,
        guest: LoopDomain | None = None,
        driver: LoopDomain | None = None,
        front_nodes: Mapping[str, str] | None = None,
        back_nodes: Mapping[str, str] | None = None,
    ) -> Plugged:
        """Writes a device's directories; its halves begin when other tasks get to run."""
        front, back = guest or self.guest, driver or self.driver
        front_path = f"{front.home}/device/{type}/{id}"
        back_path = f"{back.home}/backend/{type}/{front.domid}/{id}"
        device = Plugged(self, front, back, front_path, back_path)
        if self._prepare is not None:
            self._prepare(self, device)
        self._write_backend(device, back_nodes or {})
        self._write_frontend(device, front_nodes or {})
        return device

    def _write_backend(self, device: Plugged, nodes: Mapping[str, str]) -> None:
        common = {"frontend": device.front_path, "frontend-id": str(device.front.domid), "online": "1", "state": "1"}
        self._write(device.back_path, {**nodes, **common})

    def _write_frontend(self, device: Plugged, nodes: Mapping[str, str]) -> None:
        common = {"backend": device.back_path, "backend-id": str(device.back.domid), "state": "1"}
        self._write(device.front_path, {**nodes, **common})

    def _write(self, directory: str, nodes: Mapping[str, str]) -> None:
        for name, value in nodes.items():
            self.tree.write(f"{directory}/{name}", value)

    async def attach(
        self,
        type: str,
        id: int = 0,
        *,
        guest: LoopDomain | None = None,
        driver: LoopDomain | None = None,
        front_nodes: Mapping[str, str] | None = None,
        back_nodes: Mapping[str, str] | None = None,
    ) -> Plugged:
        """Plugs a device and waits until both halves are connected."""
        device = self.plug(type, id, guest=guest, driver=driver, front_nodes=front_nodes, back_nodes=back_nodes)
        await device.wait_connected()
        return device

    async def detach(self, device: Plugged) -> None:
        """Takes a device away in order: both halves close, then the directories go."""
        self._write(device.back_path, {"online": "0", "state": str(int(XenbusState.Closing))})
        await self.wait_until(lambda: device.states()[1] in (XenbusState.Closed, XenbusState.Unknown))
        self.tree.remove(device.front_path)
        self.tree.remove(device.back_path)
        while device.front.has(device.front_path) or device.back.has(device.back_path):
            await trio.lowlevel.checkpoint()

    async def kill(self, domain: LoopDomain) -> None:
        """Kills a domain; nothing else happens, as if nobody had noticed yet."""
        await domain.kill()

    def mourn(self, device: Plugged) -> None:
        """Writes the state that a dead backend cannot write any more."""
        self._write(device.back_path, {"state": str(int(XenbusState.Closed))})

    def relink(self, device: Plugged, driver: LoopDomain, back_nodes: Mapping[str, str] | None = None) -> None:
        """Points a frontend to a backend in another domain, in one step, and back to its beginning."""
        device.back = driver
        type, id = device.front_path.split("/")[-2:]
        device.back_path = f"{driver.home}/backend/{type}/{device.front.domid}/{id}"
        if self._prepare is not None:
            self._prepare(self, device)
        self._write_backend(device, back_nodes or {})
        self._write_frontend(device, {})

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that comes with a change of the store; `TooSlowError` after `PATIENCE_S`."""
        with trio.fail_after(PATIENCE_S):
            async with self.store.watch("/") as changes:
                if condition():
                    return
                async for _ in changes:
                    if condition():
                        return
