"""Images opened for backends, and the memory of disks that have no image.

A file is opened anew for every driver domain that serves it. A memory disk has nothing but its memory, so
that is kept here, for as long as its guest has the disk: a driver domain that dies takes nothing with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from xenlike import _core
from xenlike.toolstack.devices import Device, Disk, OpenImage, open_image

Images = dict[int, OpenImage]
"""Opened images by the number of their disk."""

_COPY_AT_ONCE = 1 << 24


class ImageShelf:
    """Opens the images of a machine's disks."""

    def __init__(self) -> None:
        self._memory: dict[tuple[str, int], int] = {}

    def open(self, guest: str, devices: Sequence[Disk | Device]) -> Images:
        """Opens the images of all disks among the devices, or none; to be closed with `close_images`.

        Raises:
            ConfigError: one of them is missing or unusable.
            OSError: there is not enough memory.
        """
        images: Images = {}
        try:
            for disk in devices:
                if isinstance(disk, Disk):
                    images[disk.id] = self._memory_disk(guest, disk) if disk.format == "memory" else open_image(disk)
        except BaseException:
            close_images(images)
            raise
        return images

    def _memory_disk(self, guest: str, disk: Disk) -> OpenImage:
        key = guest, disk.id
        image = OpenImage(None, {}) if key in self._memory else open_image(disk)
        if key not in self._memory:
            self._memory[key] = _copy(image)
        fd = self._memory[key]
        info: dict[str, str | int | bool] = {"format": "memory", "readonly": disk.readonly}
        return OpenImage(os.dup(fd), {**info, "size": os.fstat(fd).st_size})

    def forget(self, guest: str, disk_id: int | None = None) -> None:
        """Frees the memory of a guest's disk, or of all its disks."""
        for key in [key for key in self._memory if key[0] == guest and disk_id in (None, key[1])]:
            os.close(self._memory.pop(key))

    def close(self) -> None:
        """Frees all memory."""
        for fd in self._memory.values():
            os.close(fd)
        self._memory.clear()


def _copy(image: OpenImage) -> int:
    """Returns a memfd of the image's size and content that nobody can shrink; closes the image."""
    size = int(image.info["size"])
    try:
        fd = _core.memfd_create("xenlike-disk", size)
        try:
            _core.seal(fd, _core.F_SEAL_SHRINK | _core.F_SEAL_GROW)
            at = 0
            while image.fd is not None and at < size:
                chunk = os.pread(image.fd, min(_COPY_AT_ONCE, size - at), at)
                if not chunk:
                    break
                at += os.pwrite(fd, chunk, at)
        except BaseException:
            os.close(fd)
            raise
        return fd
    finally:
        if image.fd is not None:
            os.close(image.fd)


def close_images(images: Images) -> None:
    """Closes opened images; idempotent."""
    for image in images.values():
        if image.fd is not None:
            os.close(image.fd)
    images.clear()
