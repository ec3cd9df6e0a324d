"""Which device is meant: by the names that users, logs and the store call it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from xenlike.errors import ConfigError, NoSuchDevice
from xenlike.io.vdev import vdev_name


class DeviceName(msgspec.Struct, frozen=True, order=True):
    """A device of a machine.

    Attributes:
        guest: name of the frontend's domain.
        front: its domid.
        type: device type.
        id: its number, as the store has it.
        back: the backend's domid; -1 where the frontend names none.
        front_path, back_path: the two directories.
    """

    guest: str
    front: int
    type: str
    id: str
    back: int
    front_path: str
    back_path: str

    @property
    def short(self) -> str:
        """What users call it in its guest: `xvda`, `echo/0`."""
        if self.type == "vbd" and self.id.isascii() and self.id.isdigit():
            try:
                return vdev_name(int(self.id))
            except ValueError:
                pass
        return f"{self.type}/{self.id}"

    @property
    def name(self) -> str:
        """What it is called in a whole machine: `guest/xvda`, `guest/echo/0`."""
        return f"{self.guest}/{self.short}"

    def spellings(self) -> set[str]:
        """Returns all that it can be called."""
        here = {self.short, f"{self.type}/{self.id}", f"device/{self.type}/{self.id}"}
        if self.type == "vbd":
            here.add(self.id)
        guests = (self.guest, str(self.front), f"d{self.front}")
        paths = {self.front_path.lstrip("/"), self.back_path.lstrip("/"), f"backend/{self.type}/{self.front}/{self.id}"}
        return here | {f"{guest}/{name}" for guest in guests for name in here} | (paths - {""})


def find_device(devices: Sequence[DeviceName], text: str) -> DeviceName:
    """Returns the device that is meant.

    Raises:
        NoSuchDevice: there is none of that name; the message says which there are.
        ConfigError: several are called so.
    """
    found = [device for device in devices if text.strip("/") in device.spellings()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{text!r} may be any of {', '.join(sorted(device.name for device in found))}: say which")
    there = ", ".join(sorted(device.name for device in devices)) or "none"
    raise NoSuchDevice(f"there is no device {text!r}; there are: {there}")
