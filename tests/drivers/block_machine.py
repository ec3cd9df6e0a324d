"""A loopback machine with disks, for the tests of the block driver."""

from __future__ import annotations

import functools
import os
import random
from typing import cast

from xenlike.backends.block import BlockBack
from xenlike.frontends.block import BlockFront
from xenlike.testing import Loopback, LoopDomain, Plugged

XVDA, XVDB = 51712, 51728
SIZE = 1 << 22


@functools.cache
def pattern(size: int = SIZE, seed: int = 1) -> bytes:
    """Returns bytes of which no two sectors are alike."""
    return random.Random(seed).randbytes(size)


class Image:
    """A disk image in memory, as the toolstack would open it: every opening has a descriptor of its own."""

    def __init__(self, content: bytes | None = None) -> None:
        self.fd = os.memfd_create("image")
        os.write(self.fd, pattern() if content is None else content)

    def content(self) -> bytes:
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0)

    def hand_over(self, driver: LoopDomain, guest: LoopDomain, number: int, *, readonly: bool = False) -> None:
        info = {"format": "raw", "readonly": readonly}
        driver.resources.put(f"backend/vbd/{guest.domid}/{number}", self.fd, info)

    def __del__(self) -> None:
        os.close(self.fd)


async def attach(
    machine: Loopback, image: Image, number: int = XVDA, *, readonly: bool = False
) -> tuple[Plugged, BlockFront]:
    """Plugs a disk in and waits until it is connected."""
    image.hand_over(machine.driver, machine.guest, number, readonly=readonly)
    device = plug(machine, number)
    await device.wait_connected()
    return device, front_of(device)


def plug(
    machine: Loopback, number: int = XVDA, *, guest: LoopDomain | None = None, driver: LoopDomain | None = None
) -> Plugged:
    """Writes a disk's directories as the toolstack does."""
    nodes = {"virtual-device": str(number)}
    return machine.plug("vbd", number, guest=guest, driver=driver, front_nodes=nodes)


def front_of(device: Plugged) -> BlockFront:
    return cast("BlockFront", device.frontend)


def back_of(device: Plugged) -> BlockBack:
    return cast("BlockBack", device.backend)


async def kill(domain: LoopDomain) -> None:
    """Ends a domain in the midst of whatever it does; not a word of it reaches the store."""
    domain._scope.cancel()
    await domain._stopped.wait()
    domain.die()


async def restart(machine: Loopback, device: Plugged, image: Image) -> None:
    """Starts another driver domain for a disk whose own was killed."""
    machine.mourn(device)
    driver = await machine.add_domain("driver")
    image.hand_over(driver, device.front, int(device.front_path.rsplit("/", 1)[1]))
    machine.relink(device, driver)
