"""A machine: a hypervisor, its store, and the domains of one user, as domain 0 sees them.

    async with open_machine("lab") as machine:
        await machine.spawn("store", backends=["vbd"])
        disk = Disk("disk.img", vdev="xvda", backend="store")
        guest = await machine.spawn("guest", main, devices=[disk])
        print(await guest.wait())

The same without `async` is in `sync.py`: `with open_machine("lab") as machine: …`.
Everything in the machine ends with the `with` block: domains, processes, sockets.
"""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import trio

from xenlike.abi import hypercall as hc
from xenlike.abi.driver import Driver
from xenlike.abi.xen import VIRQ_DOM_EXC
from xenlike.domain.domain import Domain
from xenlike.domain.groups import ungrouped
from xenlike.domain.resources import ResourceSender
from xenlike.errors import ConfigError, HypervisorGone, MachineError, NoSuchDomain, PeerGone, XenlikeError
from xenlike.toolstack.config import Action
from xenlike.toolstack.console_log import ConsoleLog
from xenlike.toolstack.consoles import GuestConsole, LinePrinter, Sink
from xenlike.toolstack.control_server import ControlServer
from xenlike.toolstack.control_wire import DomainInfo
from xenlike.toolstack.devices import Device, Disk
from xenlike.toolstack.exits import DESTROYED, Exit, exit_of
from xenlike.toolstack.guest import Guest, Running
from xenlike.toolstack.images import close_images
from xenlike.toolstack.launch import Launched, launch, lock_name, remove_stale
from xenlike.toolstack.nodes import domain_nodes
from xenlike.toolstack.paths import MachinePaths
from xenlike.toolstack.plug import Plugs
from xenlike.toolstack.report import describe
from xenlike.toolstack.spec import BUSES, MAX_WINDOWS, DomainSpec, Entry, make_spec
from xenlike.toolstack.storeserver import STORE_DOMID, StoreServer
from xenlike.toolstack.tracing.server import Tracing
from xenlike.toolstack.tracing.updates import TraceParams, TraceUpdate
from xenlike.toolstack.why import Explanation
from xenlike.toolstack.why.machine import Inspector

# A cold start takes a third of a second; this is for a host that is very busy.
START_PATIENCE_S = 30
LIVING = (hc.XENLIKE_DOMAIN_BUILDING, hc.XENLIKE_DOMAIN_RUNNING)
DEAD = (hc.XENLIKE_DOMAIN_DYING, hc.XENLIKE_DOMAIN_DEAD)


class Machine:
    """A running machine; made by `open_machine`.

    Attributes:
        name: what `xenlike -m` calls it.
        domain0: this process's own domain; its frontends and backends live in the caller's event loop.
        console: keeps the last output of every domain.
    """

    def __init__(self, paths: MachinePaths, launched: Launched, nursery: trio.Nursery, sink: Sink) -> None:
        self.name = paths.name
        self.paths = paths
        self._launched = launched
        self._nursery = nursery
        self._sink = sink
        self.domain0 = Domain(launched.dom0, config={"services": [BUSES], "backends": ["*"]}, fixed=False)
        self.hypercalls = self.domain0.hypercalls
        self.console = ConsoleLog()
        self._guests: dict[str, Guest] = {}
        self._plugs = Plugs(self.domain0, self._guests)
        self.tracing = Tracing(self.domain0, self._guests)
        self._down = trio.Event()
        with ExitStack() as undo:
            undo.callback(self.domain0.close)
            self._store_server = StoreServer(self.domain0, self.paths)
            undo.callback(self._store_server.close)
            self._death = self.domain0.events.bind_virq(VIRQ_DOM_EXC)
            undo.pop_all()

    # -- domains -----------------------------------------------------------------------------------

    @property
    def domains(self) -> Mapping[str, Guest]:
        """The domains by name, without domain 0 and the store's."""
        return self._guests

    async def spawn(
        self,
        name: str,
        entry: Entry = None,
        *,
        devices: Sequence[Disk | Device] = (),
        backends: Sequence[str] = (),
        drivers: Sequence[Driver] = (),
        memory: str | int = "64M",
        args: Sequence[object] = (),
        on_crash: Action = "destroy",
        on_reboot: Action = "restart",
        on_poweroff: Action = "destroy",
    ) -> Guest:
        """Starts a domain.

        Args:
            name: unique among the machine's domains.
            entry: an async or plain function (or its name, `module:function` or `file.py:function`), called
                with the `Domain` and `args`; an `Exec`; or None for a domain that only runs backends.
            devices: its disks and other devices.
            backends: device types that it serves to others.
            drivers: drivers that are in no entry point.
            memory: private RAM, and as much grantable memory, such as `64M`.
            args: for the entry; what JSON can say.
            on_crash: what follows a crash: `destroy`, `restart`, or `preserve` its record.
            on_reboot: what follows `reboot`.
            on_poweroff: what follows `poweroff`.

        Returns:
            Its handle; the domain's process is being forked.

        Raises:
            ConfigError: something is described wrongly. Nothing was started then.
            HypercallError: the host has no descriptors or memory left. Likewise.
        """
        spec = make_spec(
            name,
            entry,
            devices=devices,
            backends=backends,
            drivers=drivers,
            memory=memory,
            args=args,
            on_crash=on_crash,
            on_reboot=on_reboot,
            on_poweroff=on_poweroff,
        )
        return await self._start(spec, hc.XENLIKE_CREATE_FORK)

    async def adopt(
        self,
        name: str,
        *,
        devices: Sequence[Disk | Device] = (),
        backends: Sequence[str] = (),
        memory: str | int = "64M",
    ) -> tuple[Guest, socket.socket]:
        """Makes a domain for a process that already runs.

        Returns:
            The handle, and the hypercall socket to give to that process (`Domain(sock)` there). Closing the
            socket ends the domain.
        """
        # A process that was not started here cannot be started again here, whatever reason it gives.
        spec = make_spec(name, None, devices=devices, backends=backends, memory=memory, on_reboot="destroy")
        guest = await self._start(spec, hc.XENLIKE_CREATE_ADOPT)
        return guest, guest.running.take_socket()

    async def _start(self, spec: DomainSpec, how: int) -> Guest:
        if spec.name in self._guests:
            raise ConfigError(f"there is a domain named {spec.name!r} already")
        self._plugs.check(spec)
        guest = Guest(self.domain0, spec)
        # Taken at once: a second spawn of that name must not slip in while this one waits.
        self._guests[spec.name] = guest
        try:
            await self._boot(guest, how)
        except BaseException:
            del self._guests[spec.name]
            self._plugs.images.forget(spec.name)
            guest.enter("dead")
            raise
        self._is_up(guest)
        return guest

    def _is_up(self, guest: Guest) -> None:
        guest.enter("up")
        # It may have died on the way, when there was nothing to bury yet.
        if not self._lives(guest.domid):
            self._bury_the_dead()

    async def _boot(self, guest: Guest, how: int) -> None:
        """Creates the domain, its directories and its devices; undoes all of it on any error."""
        spec = guest.spec
        images = self._plugs.images.open(spec.name, spec.devices)
        resources: ResourceSender | None = None
        stdio_read = stdio_write = -1
        created: hc.CreateDomain | None = None
        console: GuestConsole | None = None
        adopted: socket.socket | None = None
        try:
            resources = ResourceSender()
            if how & hc.XENLIKE_CREATE_FORK:
                stdio_read, stdio_write = os.pipe2(os.O_CLOEXEC)
            arguments = hc.CreateDomain(
                flags=how | hc.XENLIKE_CREATE_PAUSED,
                max_windows=MAX_WINDOWS,
                nr_pages=spec.nr_pages,
                pool_pages=spec.nr_pages,
                store_domid=STORE_DOMID,
                console_domid=0,
                name=spec.name.encode(),
            )
            with resources.child_end() as theirs:
                created, fds = self.hypercalls.create_domain(
                    arguments, json.dumps(spec.config()).encode(), theirs.fileno(), stdio_write
                )
            adopted = socket.socket(fileno=fds[0]) if fds else None
            if stdio_write >= 0:
                os.close(stdio_write)
                stdio_write = -1
            self.tracing.look()
            directories = domain_nodes(
                created.domid, spec.name, spec.memory >> 10, created.console_port, created.store_port
            )
            # As xl does it, before the domain runs. It takes the store longer than what follows takes us.
            introduction = await self._plugs.introduce(spec, created.domid, created.store_port, directories, images)
            feed = self._feeder(spec.name)
            console = GuestConsole(self.domain0, created.domid, created.console_port, stdio_read, feed)
            stdio_read = -1
            guest.started(Running(created.domid, created.store_port, resources, console, adopted))
            if how & hc.XENLIKE_CREATE_FORK:
                # Not before somebody listens: a domain may end as soon as it begins.
                self.hypercalls.unpause_domain(created.domid)
            try:
                await introduction.answered()
            except OSError:
                if self._lives(created.domid):
                    raise
                # It has died, which is no error of ours: it is buried as any other.
        except BaseException as error:
            # Looked at first: an adopted one dies of what follows.
            try:
                dead = created is not None and not self._lives(created.domid)
            except HypervisorGone:
                dead, created = False, None
            for fd in (stdio_read, stdio_write):
                if fd >= 0:
                    os.close(fd)
            for held in (resources, console, adopted):
                if held is not None:
                    held.close()
            if created is not None:
                # The store may be closed already, when the whole machine is cancelled.
                with trio.CancelScope(shield=True), trio.move_on_after(5), suppress(PeerGone):
                    self.hypercalls.destroy_domain(created.domid)
                    await self._plugs.forget(guest, created.domid)
                if dead and isinstance(error, OSError):
                    raise MachineError(f"domain {spec.name!r} died while it was being started") from error
            raise
        finally:
            close_images(images)
        self._nursery.start_soon(console.run)

    def _lives(self, domid: int) -> bool:
        info = self.hypercalls.domain_info(domid)
        return info is not None and info.domid == domid and info.state in LIVING

    def _feeder(self, name: str) -> Callable[[bytes], None]:
        def feed(data: bytes) -> None:
            self.console.feed(name, data)
            self._sink(name, data)

        return feed

    # -- devices -----------------------------------------------------------------------------------

    def find(self, who: str) -> Guest:
        """Returns a domain by name.

        Raises:
            NoSuchDomain: there is none.
        """
        guest = self._guests.get(who)
        if guest is None:
            raise NoSuchDomain(
                f"machine {self.name!r} has no domain {who!r}; it has {', '.join(self._guests) or 'none'}"
            )
        return guest

    async def attach(self, domain: str, device: Disk | Device, *, timeout_s: float = 10.0) -> None:
        """Plugs a device into a running domain, and waits until both ends are connected.

        Raises:
            MachineError: the guest did not connect in time; the device was taken away again.
            ConfigError: it is described wrongly, or the domain has one of that name.
            NoSuchDomain: there is no such domain, or no such backend.
        """
        await self._plugs.attach(self.find(domain), device, timeout_s)

    async def attach_disk(self, domain: str, disk: Disk) -> None:
        """Plugs a disk into a running domain; see `attach`."""
        await self.attach(domain, disk)

    async def detach(self, domain: str, vdev: str, *, timeout_s: float = 5.0) -> None:
        """Unplugs a device by its name: `xvdb`, or `echo/0`.

        Both ends close in their order; ends that do not within the time are cut off.

        Raises:
            NoSuchDevice: the domain has none of that name.
        """
        await self._plugs.detach(self.find(domain), vdev, timeout_s)

    # -- for the control socket --------------------------------------------------------------------

    async def list(self) -> list[DomainInfo]:
        """What there is, as `xenlike list` shows it."""
        await trio.lowlevel.checkpoint()
        return describe(self.hypercalls.domain_infos(), self._guests)

    def open_console(self, domain: str) -> AbstractContextManager[trio.MemoryReceiveChannel[bytes]]:
        """Opens a domain's output: what is kept, then what comes."""
        return self.console.subscribe(self.find(domain).name)

    def publish(self, period_ms: int, lease_ms: int) -> int:
        """Has the hypervisor publish statistics; see `Hypercalls.publish`."""
        return self.hypercalls.publish(period_ms, lease_ms)

    async def trace(self, params: TraceParams, send: Callable[[TraceUpdate], Awaitable[None]]) -> None:
        """Sends what domains record to whoever follows it; see `Tracing.stream`."""
        await self.tracing.stream(params, send)

    async def why(self, device: str = "") -> Sequence[Explanation]:
        """Says why a device, or each of them, stands as it does; see `Inspector.why`."""
        return await Inspector(self.domain0, self._guests, self.console).why(device)

    def request_down(self) -> None:
        """Asks whoever runs the machine to end it; see `wait_down`."""
        self._down.set()

    async def wait_down(self) -> None:
        """Waits until somebody asked for the machine's end."""
        await self._down.wait()

    # -- life and death ----------------------------------------------------------------------------

    def close(self) -> None:
        """Hangs up, which ends the machine, and lets go of what this process held of it."""
        self.domain0.close()
        self._store_server.close()
        self._plugs.images.close()
        for guest in self._guests.values():
            guest.close()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        """Connects domain 0 and serves until cancelled."""
        self._store_server.start()
        async with self.domain0.running():
            await self._plugs.make(domain_nodes(0, "Domain-0", 0, 0, self.domain0.start_info.store_port))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_hypervisor)
                nursery.start_soon(self._watch_deaths)
                await nursery.start(ControlServer(self, self.paths.control).serve)
                task_status.started()

    async def _watch_hypervisor(self) -> None:
        await trio.lowlevel.wait_readable(self.hypercalls.socket)
        raise _gone(self.name)

    async def _watch_deaths(self) -> None:
        while True:
            self._bury_the_dead()
            await self._death.wait()

    def _bury_the_dead(self) -> None:
        infos = {info.domid: info for info in self.hypercalls.domain_infos()}
        store = infos.get(STORE_DOMID)
        if store is None or store.state == hc.XENLIKE_DOMAIN_DEAD:
            self.tracing.forget(STORE_DOMID)
            self._store_server.restart()
            self.tracing.look()
        for guest in list(self._guests.values()):
            if not guest.is_running or guest.phase != "up":
                continue
            info = infos.get(guest.domid)
            if info is None or info.state in DEAD:
                guest.enter("dead")
                self._nursery.start_soon(self._bury, guest, DESTROYED if info is None else exit_of(info))

    async def _bury(self, guest: Guest, ending: Exit) -> None:
        """A domain is dead: tells its peers, takes its nodes away, and starts it again if that was asked."""
        domid = guest.domid
        # Peers first: whoever waits for the dead must not wait longer than needed.
        await self._plugs.mourn(guest)
        await guest.running.console.finished.wait()
        guest.running.resources.close()
        self.tracing.forget(domid)
        try:
            self.hypercalls.destroy_domain(domid)
        except OSError:
            # Gone already: it was destroyed, and the record with it.
            pass
        action = "destroy" if guest.destroyed or ending == DESTROYED else guest.spec.action_after(ending.reason)
        if action == "restart" and not guest.restarts_too_fast():
            try:
                await self._restart(guest)
                return
            except (XenlikeError, OSError) as error:
                self._feeder(guest.name)(f"cannot start again: {error}\n".encode())
        self.console.end(guest.name)
        guest.ended(ending)
        self._plugs.images.forget(guest.name)
        if action != "preserve":
            self._guests.pop(guest.name, None)

    async def _restart(self, guest: Guest) -> None:
        guest.enter("starting")
        try:
            await self._boot(guest, hc.XENLIKE_CREATE_FORK)
        except BaseException:
            guest.enter("dead")
            raise
        # Those who were served by the dead find the living under its new number.
        guest.enter("relinking")
        await self._plugs.relink(guest)
        self._is_up(guest)


@asynccontextmanager
async def run_machine(name: str, runtime_dir: Path | str | None, console: Sink | None) -> AsyncIterator[Machine]:
    """Starts a machine and ends it with the block; `open_machine` is the way in."""
    paths = MachinePaths.of(name, runtime_dir)
    remove_stale(paths.folder.parent)
    launched = launch(paths, await trio.to_thread.run_sync(lock_name, paths), STORE_DOMID)
    machine: Machine | None = None
    try:
        with ungrouped():
            async with trio.open_nursery() as nursery:
                machine = Machine(paths, launched, nursery, console or LinePrinter())
                try:
                    with trio.fail_after(START_PATIENCE_S):
                        await nursery.start(machine._run)
                except trio.TooSlowError:
                    raise MachineError(f"the store did not answer within {START_PATIENCE_S} s") from None
                yield machine
                nursery.cancel_scope.cancel()
    except (XenlikeError, OSError, ExceptionGroup) as error:
        if isinstance(error, HypervisorGone) or not _is_ours(error) or not _has_hung_up(launched.dom0):
            raise
        # Whoever noticed it first took it for something else.
        raise _gone(name) from error
    finally:
        # Hanging up is what ends the machine; the hypervisor kills what is left of it.
        if machine is not None:
            machine.close()
        launched.dom0.close()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(launched.wait)
        paths.remove()


def _gone(name: str) -> HypervisorGone:
    return HypervisorGone(f"the hypervisor of machine {name!r} died, and all its domains with it")


def _is_ours(error: Exception) -> bool:
    """Says whether it is an error that the hypervisor's death could be seen as, or nothing but a group of such."""
    if isinstance(error, ExceptionGroup):
        return all(_is_ours(part) for part in error.exceptions)
    return isinstance(error, XenlikeError | OSError)


def _has_hung_up(sock: socket.socket) -> bool:
    """Says whether the hypervisor has closed its end: nothing else ever makes this socket readable by itself."""
    if sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
