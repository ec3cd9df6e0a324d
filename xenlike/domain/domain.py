"""A domain, seen from inside: its identity, memory, grants, event channels, store and devices.

Domain(socket)         bootstrap: start-info and descriptors, mappings in place
async with .running()  the store is connected; services (the device buses) run
await .disk("xvda")    a device, once it is connected
"""

from __future__ import annotations

import builtins
import errno
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple, cast, overload

import trio

from xenlike.abi.recorder import XENLIKE_TRACE_TEXT, XENLIKE_TRACE_USER
from xenlike.abi.start_info import XENLIKE_START_CONSOLE, XENLIKE_START_STORE
from xenlike.domain.console import Console
from xenlike.domain.events import EventChannel, Events
from xenlike.domain.grants import GrantTable
from xenlike.domain.groups import ungrouped
from xenlike.domain.hypercalls import Hypercalls
from xenlike.domain.memory import Memory
from xenlike.domain.reference import resolve
from xenlike.domain.resources import Resources
from xenlike.domain.store import Store
from xenlike.errors import ConfigError, HypercallError, MachineError

if TYPE_CHECKING:
    from xenlike.frontends.block import BlockFront
    from xenlike.xenbus import Frontend

T = TypeVar("T")
F = TypeVar("F", bound="Frontend")
Ts = TypeVarTuple("Ts")

RENEW_DELAY_MAX_S = 0.05


class Devices(Protocol):
    """The frontends of a domain, as its bus offers them."""

    async def device(self, type: str, name: int | str) -> Frontend:
        """Waits until the device is connected, and returns its frontend."""
        ...


class Domain:
    """One domain.

    Args:
        sock: its hypercall socket; taken over.
        config: the toolstack's words, if they were fetched before; else they are fetched now.
        resource_fd: the resource channel that came with them.
        fixed: map memory where the start-info says, as a process of its own does.

    Attributes:
        domid: its number.
        name: what the toolstack calls it.
        memory: private RAM and grantable windows.
        grants: its grant table, and mappings of others' pages.
        events: makes event channels.
        resources: what the toolstack hands over.
        config: the toolstack's words to this domain.
        console: its console, or None for one without.
        recorder: its counters and its trace, which tools may read; `trace` writes a line of one's own.
        nursery: lives as long as `running`; for tasks of services and entries.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        config: Mapping[str, object] | None = None,
        resource_fd: int = -1,
        fixed: bool = True,
    ) -> None:
        self.hypercalls = Hypercalls(sock)
        # First, for what the bootstrap brings would be left open if this failed.
        self.recorder = self.hypercalls.recorder()
        if config is None:
            raw, resource_fd = self.hypercalls.config()
            config = json.loads(raw) if raw else {}
        self.config = config
        self.resources = Resources(resource_fd)
        self.start_info, descriptors = info, fds = self.hypercalls.bootstrap()
        self.domid: int = info.domid
        self.name = info.name.decode(errors="replace")
        self.memory = Memory(self.hypercalls, info, fds[0], fixed=fixed)
        self.grants = GrantTable(self.hypercalls, fds[1], info.nr_grant_frames, self.recorder)
        self.events = Events(self.hypercalls, self.recorder)
        has_store = bool(info.flags & XENLIKE_START_STORE)
        has_console = bool(info.flags & XENLIKE_START_CONSOLE)
        windows, ends = descriptors[2 : 2 + has_store + has_console], descriptors[2 + has_store + has_console :]
        self._store_page: memoryview | None = None
        self.console: Console | None = None
        if has_store:
            window = self.memory.adopt(info.store_pfn, 1, info.store_domid, windows[0])
            self._store_page = window.buffer
            self._store_channel = self.events.adopt(info.store_port, info.store_domid, *ends[:2])
        if has_console:
            window = self.memory.adopt(info.console_pfn, 1, info.console_domid, windows[-1])
            channel = self.events.adopt(info.console_port, info.console_domid, *ends[-2:])
            self.console = Console(window.buffer, channel)
        self._store: Store | None = None
        self._nursery: trio.Nursery | None = None
        self._devices: Devices | None = None

    @property
    def store(self) -> Store:
        """The connection to xenstored, while `running`."""
        if self._store is None:
            raise MachineError("this domain has no connection to a store: use it inside `running()`")
        return self._store

    @property
    def nursery(self) -> trio.Nursery:
        """Tasks that end with the domain."""
        if self._nursery is None:
            raise MachineError("the domain is not running: use it inside `running()`")
        return self._nursery

    # -- life --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connects to the store and runs the services that the configuration names.

        A service is an async function `service(domain, task_status)`; the device buses are some. What a
        service returns by `task_status.started` and offers `device()` is what `device` asks.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(ungrouped())
            if self._store_page is not None:
                self._store = await stack.enter_async_context(
                    Store.over_ring(
                        self._store_page, self._store_channel, reconnect=self._reconnect, recorder=self.recorder
                    )
                )
            nursery = await stack.enter_async_context(trio.open_nursery())
            self._nursery = nursery
            nursery.start_soon(self.resources.run)
            try:
                for reference in _strings(self.config.get("services")):
                    service = resolve(reference)
                    if not callable(service):
                        raise ConfigError(f"the service {reference} is no function")
                    started = await nursery.start(service, self)
                    if hasattr(started, "device"):
                        self._devices = started
                yield
            finally:
                nursery.cancel_scope.cancel()
                self._nursery = self._devices = None
        self._store = None

    async def _reconnect(self) -> EventChannel:
        """xenstored died: gets a fresh channel on the same port, for its successor to bind."""
        delay_s = 0.001
        while True:
            await trio.sleep(delay_s)
            try:
                self._store_channel.renew()
                return self._store_channel
            except HypercallError as error:
                # The kernel told us of the death before it told the hypervisor.
                if error.errno != errno.EBUSY:
                    raise
            delay_s = min(delay_s * 2, RENEW_DELAY_MAX_S)

    def close(self) -> None:
        """Hangs up and unmaps everything; for domains that live in somebody's process."""
        self.hypercalls.close()
        self.resources.close()
        self.events.close()
        self.grants.close()
        self.memory.close()

    # -- devices -----------------------------------------------------------------------------------

    @overload
    async def device(self, type: str, name: int | str = 0) -> Frontend: ...
    @overload
    async def device(self, type: str, name: int | str = 0, *, kind: builtins.type[F]) -> F: ...
    async def device(self, type: str, name: int | str = 0, *, kind: builtins.type[Frontend] | None = None) -> Frontend:
        """Waits for a device and returns its connected frontend.

        Args:
            type: Xen's name of the kind, such as `vbd`.
            name: its number, or a disk's name such as `xvda`.
            kind: the frontend's class, if the caller wants to be sure, as a type checker does.

        Raises:
            ConfigError: the device is driven by another class than `kind`.
            NoSuchDevice: this domain was given none of that name.
            PeerGone: its backend is gone and the device does not wait for another.
        """
        if self._devices is None:
            raise MachineError("this domain runs no frontends")
        frontend = await self._devices.device(type, name)
        if kind is not None and not isinstance(frontend, kind):
            raise ConfigError(f"{type}/{name} is driven by {builtins.type(frontend).__name__}, not by {kind.__name__}")
        return frontend

    async def disk(self, name: str = "xvda") -> BlockFront:
        """Waits for a disk; see `device`."""
        return cast("BlockFront", await self.device("vbd", name))

    def run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Calls an async function from a synchronous entry, such as `domain.run(disk.read, 0, 512)`."""
        return trio.from_thread.run(function, *args)

    # -- trace -------------------------------------------------------------------------------------

    def trace(self, text: str) -> None:
        """Writes a line into this domain's trace, which `xenlike trace` shows among the events."""
        self.recorder.trace(XENLIKE_TRACE_USER, XENLIKE_TRACE_TEXT, text)

    # -- shutdown ----------------------------------------------------------------------------------

    async def shutdown_requests(self) -> AsyncIterator[str]:
        """Yields what the toolstack asks for through `control/shutdown`, and acknowledges each.

        Words are Xen's: `poweroff`, `reboot`, `suspend`, `halt`, `crash`.
        """
        async with self.store.watch("control/shutdown") as changes:
            async for _ in changes:
                word = (await self.store.read_many(["control/shutdown"]))[0]
                if word:
                    await self.store.write("control/shutdown", "")
                    yield word


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
