"""What can be plugged into a domain: disks, and devices of any other type.

A disk is written in xl's words (xl-disk-configuration(5)): `target`, `format`, `vdev`, `access`, `backend`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xenlike.errors import ConfigError
from xenlike.io.vdev import parse_vdev, vdev_name
from xenlike.toolstack.sizes import parse_size

if TYPE_CHECKING:
    from xenlike.abi.driver import Driver

SECTOR_SIZE = 512
DOMAIN_0 = "0"

_FORMATS = ("raw", "memory")
_READONLY = {"r": True, "ro": True, "w": False, "rw": False}
_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,30}", re.ASCII)
_NODE = re.compile(r"[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*", re.ASCII)
_TAKEN_NODES = {"backend", "backend-id", "frontend", "frontend-id", "state"}


class DeviceConfigError(ConfigError):
    """A disk or device was described wrongly.

    Args:
        key: which of its words.
        reason: what is wrong with it.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


@dataclass(frozen=True)
class Disk:
    """A disk of a guest.

    Args:
        target: the image, a file or block device. For format `memory` a size such as `64M` (all zeroes at first),
            or an image that is copied into memory and never written.
        format: `raw`, or `memory`.
        vdev: the guest's name for it, `xvda`, `sdb1`, or a device number.
        access: `rw` (also `w`) or `ro` (also `r`).
        backend: name or domid of the domain that serves it; `0` is domain 0.

    Raises:
        ConfigError: a word is not one of these. Whether the image is there is seen by `open_image`.
    """

    target: str
    format: str = "raw"
    vdev: str = "xvda"
    access: str = "rw"
    backend: str = DOMAIN_0

    def __post_init__(self) -> None:
        if not self.target or "\0" in self.target:
            raise DeviceConfigError("target", f"{self.target!r} is no path of an image")
        if self.format not in _FORMATS:
            raise DeviceConfigError("format", f"disk format {self.format!r} is not known: take {' or '.join(_FORMATS)}")
        if self.access not in _READONLY:
            raise DeviceConfigError("access", f"disk access {self.access!r} is not known: take rw or ro")
        _check_backend(self.backend)
        try:
            parse_vdev(self.vdev)
        except ValueError as error:
            raise DeviceConfigError("vdev", str(error)) from None

    @property
    def type(self) -> str:
        """The device type, `vbd`."""
        return "vbd"

    @property
    def id(self) -> int:
        """The device number: 51712 for xvda."""
        return parse_vdev(self.vdev)

    @property
    def name(self) -> str:
        """The device's usual name, whichever way `vdev` spelled it."""
        return vdev_name(self.id)

    @property
    def readonly(self) -> bool:
        """Whether the guest may only read."""
        return _READONLY[self.access]

    @property
    def memory_size(self) -> int | None:
        """Bytes of a memory disk that starts out empty; None for one with an image."""
        if self.format != "memory":
            return None
        try:
            return parse_size(self.target)
        except ConfigError:
            return None

    def at(self, folder: Path) -> Disk:
        """Returns the disk with a relative target read as relative to `folder`."""
        if self.memory_size is not None:
            return self
        return replace(self, target=os.path.abspath(folder / Path(self.target).expanduser()))


@dataclass(frozen=True)
class Device:
    """A device of any driver's type; disks are easier as `Disk`.

    Args:
        type: as the driver's entry point is called, such as `echo`.
        id: tells devices of one type in one guest apart.
        backend: name or domid of the domain that serves it; `0` is domain 0.
        nodes: store nodes for the backend's directory, written before either half starts; numbers become decimal
            text.
        driver: a driver that is in no entry point, as a program brings for itself.

    Raises:
        ConfigError: type, id or a node's name is none.
    """

    type: str
    id: int = 0
    backend: str = DOMAIN_0
    nodes: Mapping[str, str | int] = field(default_factory=dict)
    driver: Driver | None = None

    def __post_init__(self) -> None:
        if not _TYPE.fullmatch(self.type):
            raise DeviceConfigError(
                "type", f"device type {self.type!r} is none: lower-case letters, digits, '_' and '-'"
            )
        if not 0 <= self.id < 1 << 31:
            raise DeviceConfigError("id", f"device id {self.id} is not in 0 .. 2147483647")
        _check_backend(self.backend)
        for node in self.nodes:
            if not _NODE.fullmatch(node):
                raise DeviceConfigError("nodes", f"{node!r} is no name for a store node below a device")
            if node in _TAKEN_NODES:
                raise DeviceConfigError("nodes", f"the node {node!r} belongs to xenbus, and cannot be given here")

    @property
    def name(self) -> str:
        """`type/id`."""
        return f"{self.type}/{self.id}"


def parse_disk(words: str) -> Disk:
    """Returns the disk for xl's disk words: `target,format,vdev,access` in this order, then or instead `key=value`.

    An empty word keeps the default. `target=` takes all that follows, commas included, as in xl, so it comes last.

    Raises:
        ConfigError: too many words, an unknown or repeated key, or a word that `Disk` refuses.
    """
    keys = ("target", "format", "vdev", "access", "backend")
    found: dict[str, str] = {}
    positional = list(keys[:4])
    rest = words
    while rest:
        if rest.lstrip().startswith("target="):
            word, rest = rest.strip(), ""
        else:
            word, _, rest = rest.partition(",")
            word = word.strip()
        key, equals, value = word.partition("=")
        if equals and key in keys:
            positional.clear()
        elif equals and key.isidentifier() and not positional:
            raise ConfigError(f"disk {words!r}: the key {key!r} is not one of {', '.join(keys)}")
        elif positional:
            key, value = positional.pop(0), word
        else:
            raise ConfigError(f"disk {words!r}: {word!r} is one word too many; after the fourth write key=value")
        if not value:
            continue
        if key in found:
            raise ConfigError(f"disk {words!r} gives {key} twice")
        found[key] = value
    if "target" not in found:
        raise ConfigError(f"disk {words!r} has no target: write for example 'disk.img,raw,xvdb,rw'")
    return Disk(**found)


@dataclass(frozen=True)
class OpenImage:
    """An image opened for a backend.

    Attributes:
        fd: the image's descriptor, which the holder closes; None for memory that starts out empty.
        info: what goes with it over the resource channel: `format`, `readonly`, and `size` in bytes.
    """

    fd: int | None
    info: dict[str, str | int | bool]


def open_image(disk: Disk) -> OpenImage:
    """Opens a disk's image in the mode its guest is allowed, no more.

    Raises:
        ConfigError: it is missing, neither file nor block device, not a whole number of sectors, or not ours to open.
    """
    info: dict[str, str | int | bool] = {"format": disk.format, "readonly": disk.readonly}
    size = disk.memory_size
    if size is not None:
        _check_size(disk, size)
        return OpenImage(None, {**info, "size": size})
    copied = disk.format == "memory"
    # O_NONBLOCK: opening a FIFO by mistake must not wait for a writer.
    flags = os.O_RDONLY if disk.readonly or copied else os.O_RDWR
    try:
        fd = os.open(disk.target, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(f"the image {disk.target} of disk {disk.vdev} does not exist") from None
    except OSError as error:
        way = "be read" if disk.readonly else 'be read and written (access = "ro" needs less)'
        raise ConfigError(f"the image {disk.target} of disk {disk.vdev} cannot {way}: {error.strerror}") from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise ConfigError(f"the image {disk.target} of disk {disk.vdev} is neither a file nor a block device")
        size = os.lseek(fd, 0, os.SEEK_END)
        os.lseek(fd, 0, os.SEEK_SET)
        _check_size(disk, size)
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return OpenImage(fd, {**info, "size": size})


def check_image(disk: Disk) -> None:
    """Sees that a disk's image could be opened now.

    Raises:
        ConfigError: as `open_image`.
    """
    image = open_image(disk)
    if image.fd is not None:
        os.close(image.fd)


def _check_backend(backend: str) -> None:
    if not backend:
        raise DeviceConfigError("backend", "a backend is the name of a domain, or 0 for domain 0")


def _check_size(disk: Disk, size: int) -> None:
    if size <= 0 or size % SECTOR_SIZE:
        raise ConfigError(
            f"the disk {disk.vdev} with target {disk.target} has {size} bytes, which is not one or more whole sectors "
            f"of {SECTOR_SIZE} bytes"
        )
