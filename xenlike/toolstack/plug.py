"""Plugging devices: the toolstack's part of a device's life, in the store.

    toolstack                                  backend                       frontend
    image opened, sent to the backend's domain
    both directories, in one transaction   ->  Initialising ...              Initialising ...
                                               (they connect)
    detach: online=0, state=Closing        ->  Closing                   ->  Closing, Closed
                                               Closed
    directories removed

For a domain that died the toolstack writes what the dead cannot: its backends are Closed, its frontends
are gone. A driver domain that was started again is found under its new number by `relink`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from xenlike.abi.xenbus import XenbusState
from xenlike.domain.store_requests import Pipeline
from xenlike.errors import ConfigError, MachineError, NoSuchDevice, NoSuchDomain, XenstoreError
from xenlike.io.vdev import parse_vdev
from xenlike.toolstack.devices import DOMAIN_0, Device, Disk
from xenlike.toolstack.images import Images, ImageShelf, close_images
from xenlike.toolstack.nodes import Attachment, Directory, backend_directory, frontend_directory, home
from xenlike.toolstack.spec import DomainSpec, Exec
from xenlike.xenbus.registry import driver_types, reference_to

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain
    from xenlike.domain.store import Store, Transaction
    from xenlike.domain.store_ahead import Sent
    from xenlike.toolstack.guest import Guest

log = logging.getLogger(__name__)

# How long a backend whose guest died may take to let go before its directory is removed under it.
CLOSING_PATIENCE_S = 2.0
# What a domain that serves devices may have in the store: some twenty nodes and one watch for each. Xen's
# default, a thousand nodes and 128 watches, is for guests.
BACKEND_QUOTAS = {"nodes": 100_000, "watches": 5_000}
CLOSED = (None, str(int(XenbusState.Closed)), str(int(XenbusState.Unknown)))


class Plugs:
    """The devices of one machine.

    Args:
        domain0: speaks with the store and the hypervisor.
        guests: the machine's domains by name, as they come and go.
    """

    def __init__(self, domain0: Domain, guests: Mapping[str, Guest]) -> None:
        self._domain0 = domain0
        self._guests = guests
        self.images = ImageShelf()

    @property
    def _store(self) -> Store:
        return self._domain0.store

    # -- checks ------------------------------------------------------------------------------------

    def check(self, spec: DomainSpec) -> None:
        """Sees that a domain's backends and devices can be had in this machine.

        Raises:
            ConfigError: an unknown driver, or a backend that is not there or does not serve the type.
        """
        known = set(driver_types()) | set(spec.drivers)
        for type in spec.backends:
            if type not in known:
                raise ConfigError(
                    f"{spec.name!r} is to serve {type!r}, and no such driver is installed; {_list(known)}"
                )
            if type not in spec.drivers:
                reference_to(type)
        spec.devices[:] = [self.check_device(spec, device) for device in spec.devices]

    def check_device(self, spec: DomainSpec, device: Disk | Device) -> Disk | Device:
        """The same for one device; returns it with its backend by name, which outlives a domid."""
        wanted = device.driver if isinstance(device, Device) else None
        if wanted is not None and spec.drivers.get(device.type) != wanted:
            raise ConfigError(
                f"{spec.name!r} was not started with the driver of {device.name}, {wanted.frontend}: a domain gets its "
                "drivers when it starts, by drivers=[DRIVER] or with a first device of that type"
            )
        known = set(driver_types()) | set(spec.drivers)
        if device.type not in known:
            raise ConfigError(
                f"{spec.name!r} has a device of type {device.type!r}, and no such driver is installed; {_list(known)}"
            )
        if device.type not in spec.drivers:
            reference_to(device.type)
        domid = self._backend_domid(device)
        names = [guest.name for guest in self._guests.values() if guest.is_running and guest.domid == domid]
        return replace(device, backend=names[0] if names else DOMAIN_0)

    def _backend_domid(self, device: Disk | Device) -> int:
        """Who serves a device."""
        if device.backend in ("0", "Domain-0"):
            return 0
        for guest in self._guests.values():
            if guest.is_running and device.backend in (guest.name, str(guest.domid)):
                # What a program serves is its own affair.
                if device.type not in guest.spec.backends and not isinstance(guest.spec.entry, Exec):
                    raise ConfigError(
                        f"domain {guest.name!r} does not serve {device.type!r}: start it with "
                        f"backends=[{device.type!r}]"
                    )
                return guest.domid
        raise ConfigError(f"{device.name} has backend {device.backend!r}, and no domain of that name is running")

    # -- making ------------------------------------------------------------------------------------

    async def make(self, directories: Sequence[Directory], tx: Transaction | None = None) -> None:
        """Makes directories with their permissions and nodes, in one round trip."""
        async with (tx or self._store).pipeline() as requests:
            _make(requests, directories)

    async def introduce(
        self, spec: DomainSpec, domid: int, store_port: int, directories: Sequence[Directory], images: Images
    ) -> Sent:
        """Introduces a new domain to the store, with its directories and devices.

        Args:
            spec: its description.
            domid: its number.
            store_port: where the store's daemon binds.
            directories: its own.
            images: of its disks.

        Returns:
            The requests, on their way: the store has enough to do for a domain to be started meanwhile.
        """
        every = list(directories)
        for device in spec.devices:
            attachment = Attachment(device.type, device.id, domid, self._backend_domid(device))
            await self._send_image(attachment, device, images)
            every += self._directories(attachment, device)
        requests = Pipeline()
        _make(requests, every)
        # Not before: a domain that looks for its directories finds them, and may read them.
        requests.introduce(domid, 0, store_port)
        if spec.backends:
            for name, value in BACKEND_QUOTAS.items():
                requests.set_quota(domid, name, value)
        return self._store.send(requests)

    def _attachment(self, guest: Guest, device: Disk | Device) -> Attachment:
        return Attachment(device.type, device.id, guest.domid, self._backend_domid(device))

    def _directories(self, attachment: Attachment, device: Disk | Device) -> list[Directory]:
        front: dict[str, str] = {}
        back: dict[str, str] = {}
        if isinstance(device, Disk):
            front = {"virtual-device": str(device.id), "device-type": "disk"}
            back = {
                "dev": device.name,
                "params": device.target,
                "type": "file" if device.format == "raw" else device.format,
                "mode": "r" if device.readonly else "w",
                "device-type": "disk",
                "removable": "0",
                "bootable": "1",
            }
        else:
            back = {name: str(value) for name, value in device.nodes.items()}
        # The backend first: a frontend that sees its directory finds the other end's.
        return [backend_directory(attachment, back), frontend_directory(attachment, front)]

    async def _send_image(self, attachment: Attachment, device: Disk | Device, images: Images) -> None:
        if not isinstance(device, Disk):
            return
        image = images[device.id]
        if attachment.back == 0:
            # Domain 0's own backends take it from the same kind of channel.
            self._domain0.resources.put(attachment.resource, image.fd, image.info)
            return
        backend = self._guest(attachment.back)
        try:
            await backend.running.resources.deliver(attachment.resource, image.fd, image.info)
        except TimeoutError:
            raise MachineError(f"domain {backend.name!r} does not take the images that it is to serve") from None
        except OSError as error:
            # It has just died. If it is started again, `relink` sends the image to its successor.
            if backend.spec.on_crash != "restart":
                raise MachineError(f"domain {backend.name!r}, which is to serve {device.name}, has died") from error

    def _guest(self, domid: int) -> Guest:
        for guest in self._guests.values():
            if guest.is_running and guest.domid == domid:
                return guest
        raise NoSuchDomain(f"d{domid} is not running")

    async def attach(self, guest: Guest, device: Disk | Device, timeout_s: float) -> None:
        """Plugs a device into a running domain, and waits until both ends are connected."""
        if not guest.is_running:
            raise NoSuchDomain(f"domain {guest.name!r} is not running")
        if any(other.type == device.type and other.id == device.id for other in guest.spec.devices):
            raise ConfigError(f"domain {guest.name!r} has a device {device.name} already")
        device = self.check_device(guest.spec, device)
        images = self.images.open(guest.name, [device])
        guest.spec.devices.append(device)
        try:
            attachment = self._attachment(guest, device)
            await self._send_image(attachment, device, images)
            await self._store.transact(lambda tx: self.make(self._directories(attachment, device), tx))
            try:
                await self._wait_connected(guest, attachment, timeout_s)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._close(attachment, CLOSING_PATIENCE_S)
                    await self._remove(attachment.frontend)
                    await self._remove_backend(attachment)
                raise
        except BaseException:
            guest.spec.devices.remove(device)
            self.images.forget(guest.name, device.id)
            raise
        finally:
            close_images(images)

    async def _wait_connected(self, guest: Guest, attachment: Attachment, timeout_s: float) -> None:
        state = f"{attachment.frontend}/state"
        seen: str | None = None
        with trio.move_on_after(timeout_s):
            async with self._store.watch(state) as changes:
                async for _ in changes:
                    seen = await self._store.get(state)
                    if seen == str(int(XenbusState.Connected)):
                        return
        word = XenbusState(int(seen)).name if seen is not None and seen.isdecimal() and int(seen) <= 8 else "gone"
        raise MachineError(
            f"{guest.name!r} did not connect to its new device within {timeout_s} s: its frontend is {word}; "
            "the device was taken away again"
        )

    # -- unplugging --------------------------------------------------------------------------------

    async def detach(self, guest: Guest, name: str, timeout_s: float) -> None:
        """Unplugs a device: asks both ends to close, waits for it, and removes its directories."""
        device = find_device(guest, name)
        attachment = self._attachment(guest, device)
        await self._close(attachment, timeout_s)
        guest.spec.devices.remove(device)
        self.images.forget(guest.name, device.id)
        await self._remove(attachment.frontend)
        await self._remove_backend(attachment)

    async def _close(self, attachment: Attachment, timeout_s: float) -> None:
        """Asks a backend to close, and waits until it has or the time is over."""
        state = f"{attachment.backend}/state"
        closing = str(int(XenbusState.Closing))

        async def ask(tx: Transaction) -> bool:
            """Returns whether there is something to wait for."""
            if (await tx.get(state)) in CLOSED:
                # Ahead of us; its word must not be written over, for it will not be said twice.
                return False
            await tx.write_many({f"{attachment.backend}/online": "0", state: closing})
            return True

        with trio.move_on_after(timeout_s):
            async with self._store.watch(state) as changes:
                if not await self._store.transact(ask):
                    return
                async for _ in changes:
                    if (await self._store.get(state)) in CLOSED:
                        return

    async def _write_existing(self, directory: str, nodes: Mapping[str, str]) -> bool:
        """Writes nodes of a directory, unless it was removed meanwhile."""

        async def attempt(tx: Transaction) -> bool:
            if not await tx.exists(f"{directory}/state"):
                return False
            await tx.write_many({f"{directory}/{name}": value for name, value in nodes.items()})
            return True

        return await self._store.transact(attempt)

    async def _remove(self, *paths: str) -> None:
        for path in paths:
            await self._store.rm(path)

    async def _remove_backend(self, attachment: Attachment) -> None:
        """Removes a backend's directory, and that of its guest with the last one in it, as libxl does.

        With them goes what the backend had said of its errors with this device: a guest that comes again
        and again must not fill its backend's store.
        """

        async def attempt(tx: Transaction) -> None:
            for path in (attachment.backend, f"{home(attachment.back)}/error/{attachment.resource}"):
                guest = path.rpartition("/")[0]
                if await tx.exists(guest):
                    await tx.rm(path)
                    if not await tx.ls(guest):
                        await tx.rm(guest)

        await self._store.transact(attempt)
        # The device may have gone before its backend came to take the image.
        if attachment.back == 0:
            self._domain0.resources.discard(attachment.resource)
            return
        try:
            self._guest(attachment.back).running.resources.withdraw(attachment.resource)
        except NoSuchDomain:
            pass

    # -- deaths ------------------------------------------------------------------------------------

    async def mourn(self, guest: Guest) -> None:
        """A domain died: writes what it cannot, and removes its directories."""
        domid = guest.domid
        closed = str(int(XenbusState.Closed))
        for other, device in self.served_by(guest.name):
            if other is not guest:
                backend = Attachment(device.type, device.id, other.domid, domid).backend
                await self._write_existing(backend, {"state": closed})
        attachments = []
        for device in guest.spec.devices:
            try:
                attachments.append(self._attachment(guest, device))
            except ConfigError:
                # Its backend is dead too.
                continue
        async with trio.open_nursery() as nursery:
            for attachment in attachments:
                nursery.start_soon(self._bury_frontend, attachment)
        await self.forget(guest, domid)

    async def _bury_frontend(self, attachment: Attachment) -> None:
        await self._remove(attachment.frontend)
        await self._close(attachment, CLOSING_PATIENCE_S)
        await self._remove_backend(attachment)

    async def forget(self, guest: Guest, domid: int) -> None:
        """Removes all that the store has of a domain."""
        for device in guest.spec.devices:
            try:
                await self._remove_backend(Attachment(device.type, device.id, domid, self._backend_domid(device)))
            except ConfigError:
                continue
        await self._remove(home(domid))
        try:
            await self._store.release(domid)
        except XenstoreError:
            # It was never introduced, or the store has seen the death itself.
            pass

    def served_by(self, name: str) -> list[tuple[Guest, Disk | Device]]:
        """Returns the devices whose backend the domain of that name is."""
        return [
            (guest, device)
            for guest in self._guests.values()
            if guest.is_running and guest.phase != "dead"
            for device in guest.spec.devices
            if device.backend == name
        ]

    async def relink(self, driver_domain: Guest) -> None:
        """A driver domain lives again: points every frontend it served to its new number."""
        for guest, device in self.served_by(driver_domain.name):
            if guest is driver_domain:
                continue
            # What it is being given was written for the backend's old number, and must not come after this.
            await guest.wait_started()
            try:
                images = self.images.open(guest.name, [device])
            except ConfigError as error:
                # The others have a backend again; this one waits for one that has an image.
                log.error("%s of %s has no backend any more: %s", device.name, guest.name, error)
                continue
            try:
                attachment = self._attachment(guest, device)
                await self._send_image(attachment, device, images)
                back, front = self._directories(attachment, device)

                async def link(tx: Transaction, back: Directory = back, front: Directory = front) -> None:
                    if not await tx.exists(front.path):
                        return  # taken away meanwhile, or its domain has died
                    # Every node there has permissions of its own, for the backend's old number.
                    await tx.rm(front.path)
                    await self.make([back, front], tx)

                await self._store.transact(link)
            except (NoSuchDomain, OSError) as error:
                log.warning("%s of %s: %s", device.name, guest.name, error)
            finally:
                close_images(images)


def _make(requests: Pipeline, directories: Sequence[Directory]) -> None:
    for directory in directories:
        requests.mkdir(directory.path)
        requests.set_perms(directory.path, directory.perms)
        for name, value in directory.nodes.items():
            requests.write(f"{directory.path}/{name}", value)


def find_device(guest: Guest, name: str) -> Disk | Device:
    """Finds a domain's device by `xvdb`, `51728` or `echo/0`.

    Raises:
        NoSuchDevice: it has none of that name.
    """
    try:
        number = parse_vdev(name)
    except ValueError:
        number = -1
    for device in guest.spec.devices:
        if device.name == name or (isinstance(device, Disk) and device.id == number):
            return device
    names = ", ".join(device.name for device in guest.spec.devices) or "none"
    raise NoSuchDevice(f"domain {guest.name!r} has no device {name!r}; it has {names}")


def _list(known: set[str]) -> str:
    return f"there are {', '.join(sorted(known))}"
