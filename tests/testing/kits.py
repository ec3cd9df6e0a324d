"""How the shipped drivers are handed to `check_driver`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from xenlike.testing import Loopback, Plugged

DISK_BYTES = 1 << 36
"""So large that operations of different tasks practically never meet; nothing of it is allocated."""


class Images:
    """A disk image for each device, which it keeps whatever driver domain serves it."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[Loopback, dict[str, _Image]] = weakref.WeakKeyDictionary()

    def __call__(self, machine: Loopback, device: Plugged) -> None:
        images = self._of.setdefault(machine, {})
        image = images.setdefault(device.front_path, _Image())
        number = device.front_path.rpartition("/")[2]
        machine.tree.write(f"{device.front_path}/virtual-device", number)
        name = device.back_path.removeprefix(f"{device.back.home}/")
        device.back.resources.put(name, image.fd, {"format": "raw"})


class _Image:
    def __init__(self) -> None:
        self.fd = os.memfd_create("image")
        os.ftruncate(self.fd, DISK_BYTES)

    def __del__(self) -> None:
        os.close(self.fd)


def options(type: str) -> dict[str, Any]:
    """What `check_driver` needs to know for a driver."""
    prepare: Callable[[Loopback, Plugged], None] | None = Images() if type == "vbd" else None
    return {"prepare": prepare}
