"""From a disk's format and descriptor to its engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xenlike.storage.device import BlockDevice
from xenlike.storage.file import FileDevice
from xenlike.storage.memory import MemoryDevice


def _raw(fd: int | None, info: Mapping[str, object]) -> BlockDevice:
    if fd is None:
        raise ValueError("a raw disk needs an image")
    return FileDevice(fd, readonly=bool(info.get("readonly", False)))


def _memory(fd: int | None, info: Mapping[str, object]) -> BlockDevice:
    size = info.get("size")
    if size is not None and not isinstance(size, int):
        raise ValueError(f"the size of a memory disk is a number of bytes, not {size!r}")
    return MemoryDevice(size, fd=fd, readonly=bool(info.get("readonly", False)))


FORMATS: dict[str, Callable[[int | None, Mapping[str, object]], BlockDevice]] = {
    "raw": _raw,
    "memory": _memory,
}
"""The engines by the word that a disk's `format` uses."""


def open_device(fd: int | None, info: Mapping[str, object]) -> BlockDevice:
    """Returns the engine for a disk.

    Args:
        fd: the image, opened by the toolstack; the engine takes it over unless this raises.
        info: `format` (default `raw`), `readonly` (default false), and for `memory` without a
            descriptor `size` in bytes.

    Raises:
        ValueError: the format is unknown, or the image's size is no whole number of sectors.
        OSError: the image is not usable as was asked.
    """
    name = info.get("format", "raw")
    opener = FORMATS.get(name) if isinstance(name, str) else None
    if opener is None:
        raise ValueError(f"unknown disk format {name!r}; known are {', '.join(sorted(FORMATS))}")
    return opener(fd, info)
