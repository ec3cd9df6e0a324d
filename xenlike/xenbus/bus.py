"""The devices of a domain: one task each, from the appearance of a directory to its removal.

A frontend bus serves the directories below `device/`, a backend bus those below `backend/`:

    device/<type>/<id>                  backend/<type>/<frontend's domid>/<id>

One watch tells of all of them; hot attach and detach are nothing but its events. A device that fails
takes nothing else with it.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Generic, TypeAlias, TypeVar

import trio

from xenlike.abi.driver import Driver
from xenlike.errors import ConfigError, HypervisorGone, NoEntry, NoSuchDevice, StoreDenied, XenlikeError
from xenlike.xenbus.backend import Backend
from xenlike.xenbus.device import error_node, error_text, innermost
from xenlike.xenbus.frontend import Frontend
from xenlike.xenbus.interface import DomainLike
from xenlike.xenbus.registry import load_backend, load_driver, load_frontend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
    from typing import Self

log = logging.getLogger(__name__)

DriverLike: TypeAlias = "type[Frontend | Backend] | Driver | str"
"""A driver, its half for this bus, or a reference to either, such as `/path/file.py:DRIVER`."""

DeviceT = TypeVar("DeviceT", Frontend, Backend)


class _Bus(Generic[DeviceT]):
    """What both buses do."""

    root: ClassVar[str]
    depth: ClassVar[int]
    """Names in a nodename."""
    names: ClassVar[tuple[str, ...]]
    """Nodes of a device's directory that the toolstack may write."""

    def __init__(self, domain: DomainLike, drivers: Mapping[str, DriverLike] | None = None) -> None:
        self.domain = domain
        self.drivers = dict(drivers or {})
        # None while a device is being looked at, so that it is not looked at twice.
        self._devices: dict[str, DeviceT | None] = {}
        # Directories in which something changed while they were being looked at.
        self._missed: set[str] = set()
        self._refused: dict[str, Exception] = {}
        self._changed = trio.lowlevel.ParkingLot()

    def __iter__(self) -> Iterator[DeviceT]:
        """Iterates over the attached devices."""
        return iter([device for device in self._devices.values() if device is not None])

    async def run(self, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves the bus until cancelled; `started` with the bus as soon as it watches."""
        changes = self.domain.store.begin_watch(self.root)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(self)
                # What was there before; its first request takes that for the watch along.
                types = await self._scan(nursery, [self.root])
                async for path in changes:
                    names = self._names(path)
                    if types is not None and names == [self.root]:
                        # Probably no more than the word that the watch is there. What came below is told by itself.
                        if await self._ls(self.root) != types:
                            await self._scan(nursery, names)
                        types = None
                    elif len(names) < self.depth:
                        await self._scan(nursery, names)
                    else:
                        self._notice(nursery, "/".join(names[: self.depth]), "/".join(names[self.depth :]))
        finally:
            changes.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serves the bus for the length of an `async with`."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run)
            yield self
            nursery.cancel_scope.cancel()

    async def _run(self, *, task_status: trio.TaskStatus[Self]) -> None:
        await self.run(task_status=task_status)

    def _names(self, path: str) -> list[str]:
        """Splits a path that may be relative or absolute, as the store tells it; begins with `root`."""
        names = path.split("/")
        return names[names.index(self.root) :] if self.root in names else [self.root]

    async def _ls(self, path: str) -> Sequence[str] | None:
        """Returns the names below a node; None where it is not made yet, or not ours yet: we are told when it is."""
        try:
            return await self.domain.store.ls(path)
        except (NoEntry, StoreDenied):
            return None

    async def _scan(self, nursery: trio.Nursery, names: Sequence[str]) -> Sequence[str] | None:
        """Looks at everything below a node above the devices: something came, went, or is new to us.

        Returns:
            What is right below it, None where it cannot be seen.
        """
        path = "/".join(names)
        for nodename in [*self._devices, *self._refused]:
            if nodename.startswith(f"{path}/"):
                self._notice(nursery, nodename, "")
        below = await self._ls(path)
        for name in below or ():
            if len(names) + 1 < self.depth:
                await self._scan(nursery, [*names, name])
            else:
                self._notice(nursery, f"{path}/{name}", "")
        return below

    def _notice(self, nursery: trio.Nursery, nodename: str, what: str) -> None:
        if nodename not in self._devices:
            if nodename not in self._refused or not what:
                self._devices[nodename] = None
                nursery.start_soon(self._live, nodename)
            return
        device = self._devices[nodename]
        if device is None:
            self._missed.add(nodename)
        else:
            device.notice(what)

    async def _live(self, nodename: str) -> None:
        """One device's life, or several, one after the other; whatever ends it, other devices go on."""
        try:
            while (own := await self._look(nodename)) is not None:
                if nodename in self._refused:
                    return
                try:
                    device = self._make(nodename)
                    device._on_bus = True
                    if nodename not in self._missed:
                        device.know(own)
                    self._devices[nodename] = device
                    self._changed.unpark_all()
                    await device.run()
                except Exception as error:
                    error = innermost(error)
                    if isinstance(error, HypervisorGone):
                        raise error from None
                    await self._refuse(nodename, error)
                    return
                self._devices[nodename] = None
            self._refused.pop(nodename, None)
        finally:
            del self._devices[nodename]
            self._missed.discard(nodename)
            self._changed.unpark_all()

    async def _look(self, nodename: str) -> dict[str, str | None] | None:
        """Returns what a device's directory says to begin with; None where there is no directory."""
        self._missed.discard(nodename)
        paths = [nodename, *(f"{nodename}/{name}" for name in self.names)]
        there, *own = await self.domain.store.read_many(paths)
        return None if there is None else dict(zip(self.names, own, strict=True))

    async def _refuse(self, nodename: str, error: Exception) -> None:
        """Has nothing to do with a device until it is removed: it has no driver, or the driver broke."""
        self._refused[nodename] = error
        if isinstance(error, XenlikeError):
            log.error("d%d/%s: %s", self.domain.domid, nodename, error)
        else:
            log.error("d%d/%s: %s", self.domain.domid, nodename, error_text(error), exc_info=error)
        await self._report(nodename, error)

    async def _report(self, nodename: str, error: Exception) -> None:
        try:
            await self.domain.store.write_many({f"error/{nodename}/error": error_node(error)})
        except XenlikeError as refused:
            log.warning("cannot report the error of %s: %s", nodename, refused)

    def _make(self, nodename: str) -> DeviceT:
        return self._class(nodename.split("/")[1])(self.domain, nodename)

    def _class(self, type_: str) -> type[DeviceT]:
        return self._half(self.drivers.get(type_) or load_driver(type_))

    @abstractmethod
    def _half(self, driver: DriverLike) -> type[DeviceT]:
        """Returns the half that this bus runs."""


class FrontendBus(_Bus[Frontend]):
    """The frontends of a domain.

    Args:
        domain: this domain.
        drivers: drivers by device type, each as a `Driver`, a `Frontend` class, or a reference such as
            `/path/file.py:DRIVER`; types that are not here are looked up in the entry points.
    """

    root = "device"
    depth = 3
    names = Frontend._own_names

    async def device(self, type: str, name: int | str = 0, *, timeout_s: float | None = 10.0) -> Frontend:
        """Returns a device's frontend once it is connected.

        Args:
            type: the device type, such as `vbd`.
            name: its id, or what users call it, such as `xvda`.
            timeout_s: how long it may take to appear and connect; None for ever.

        Raises:
            NoSuchDevice: it did not; the text says which devices there are.
            ConfigError: there is no driver for this type.
            PeerGone, ProtocolError: its backend came and went; see `Frontend.wait_connected`.
        """
        nodename = f"{self.root}/{type}/{self._class(type).device_id(name)}"
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            while True:
                device = self._devices.get(nodename)
                if device is not None:
                    await device.wait_connected()
                    return device
                if nodename in self._refused:
                    raise NoSuchDevice(f"{nodename}: {self._refused[nodename]}") from self._refused[nodename]
                await self._changed.park()
        there = ", ".join(f"{device.nodename} ({device.state.name})" for device in self) or "none"
        raise NoSuchDevice(f"{nodename} is not connected after {timeout_s} s; devices here: {there}")

    async def quiesce(self) -> None:
        """Quiesces all frontends, before the domain is suspended."""
        async with trio.open_nursery() as nursery:
            for device in self:
                nursery.start_soon(device.quiesce)

    async def revive(self) -> None:
        """Has all frontends connect again, after the domain was resumed."""
        async with trio.open_nursery() as nursery:
            for device in self:
                nursery.start_soon(device.revive)

    def _half(self, driver: DriverLike) -> type[Frontend]:
        return load_frontend(driver)


class BackendBus(_Bus[Backend]):
    """The backends of a domain.

    Args:
        domain: this domain.
        drivers: as for `FrontendBus`, with `Backend` classes.
        types: device types that it serves; None for all that have a driver.
    """

    root = "backend"
    depth = 4
    names = Backend._own_names

    def __init__(
        self,
        domain: DomainLike,
        drivers: Mapping[str, DriverLike] | None = None,
        types: Collection[str] | None = None,
    ) -> None:
        super().__init__(domain, drivers)
        self._types = types

    def _class(self, type_: str) -> type[Backend]:
        if self._types is not None and type_ not in self._types:
            raise ConfigError(f"this domain serves {', '.join(self._types) or 'nothing'}, and not {type_!r}")
        return super()._class(type_)

    def _half(self, driver: DriverLike) -> type[Backend]:
        return load_backend(driver)
