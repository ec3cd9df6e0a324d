"""The interface between a block backend and its storage.

Invariants that every engine keeps:

* a transfer is whole or it raises `OSError`: there are no short reads and no short writes;
* nothing outside `0 .. size` is ever touched, whatever the caller asks (the backend checks its
  requests too; this is the second fence);
* a read-only device never changes, whatever the caller asks;
* after `flush` returned, every write that returned before it is as durable as the engine can make it.
"""

from __future__ import annotations

import abc
import errno
import os
from collections.abc import Sequence
from typing import Self

SECTOR_SIZE = 512
"""Bytes a sector: the unit of Xen's block protocol, and the only logical sector size offered."""

_ZEROS = memoryview(bytes(1 << 16))

Buffers = Sequence[memoryview]
"""Byte-wide (format `B`) views that a transfer fills or empties, in order."""


class BlockDevice(abc.ABC):
    """A fixed-size array of sectors.

    All methods are synchronous and may be called from any one thread at a time. Use it as a context
    manager, or call `close`, which may be called more than once.

    Attributes:
        size: in bytes, a positive multiple of `sector_size`.
        readonly: writes and discards are refused with `PermissionError`.
        sector_size: in bytes.
        flush_blocks: `flush` may wait for hardware, so an event loop should call it in a thread.
    """

    flush_blocks: bool = False

    def __init__(self, size: int, *, readonly: bool) -> None:
        """Takes the geometry.

        Raises:
            ValueError: `size` is not a positive multiple of the sector size.
        """
        if size <= 0 or size % SECTOR_SIZE:
            raise ValueError(f"a block device has a positive multiple of {SECTOR_SIZE} bytes, not {size}")
        self.size = size
        self.readonly = readonly
        self.sector_size = SECTOR_SIZE

    @abc.abstractmethod
    def preadv(self, offset: int, buffers: Buffers) -> None:
        """Fills all of `buffers` from byte `offset` on.

        Raises:
            OSError: the engine failed (`EIO` for an image that ended early), or the range lies outside
                the device (`EINVAL`). The buffers' contents are then undefined.
        """

    @abc.abstractmethod
    def pwritev(self, offset: int, buffers: Buffers) -> None:
        """Writes all of `buffers` from byte `offset` on.

        Raises:
            PermissionError: the device is read-only.
            OSError: as for `preadv`; a part may have been written.
        """

    @abc.abstractmethod
    def flush(self) -> None:
        """Makes all completed writes durable.

        Raises:
            OSError: the engine failed; what was written since the last flush may be lost.
        """

    def discard(self, offset: int, length: int) -> None:
        """Says that `length` bytes from `offset` are no longer needed; they read as zeros afterwards.

        An engine that can give the space back overrides this.

        Raises:
            PermissionError: the device is read-only.
            OSError: as for `pwritev`.
        """
        self.check(offset, length, write=True)
        for start in range(offset, offset + length, len(_ZEROS)):
            self.pwritev(start, [_ZEROS[: min(len(_ZEROS), offset + length - start)]])

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of the descriptor. Idempotent; does not flush."""

    def __enter__(self) -> Self:
        """Returns the device itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the device."""
        self.close()

    def check(self, offset: int, length: int, *, write: bool = False) -> None:
        """Refuses a transfer outside the device, or a write to a read-only one.

        Raises:
            PermissionError: `write` on a read-only device (`EROFS`).
            OSError: `EINVAL`, the range does not lie in the device.
        """
        if write and self.readonly:
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OSError(errno.EINVAL, f"bytes {offset}+{length} lie outside a device of {self.size} bytes")


def total_length(buffers: Buffers) -> int:
    """Returns the bytes that `buffers` hold together."""
    return sum(map(len, buffers))


def skip(buffers: Buffers, count: int) -> list[memoryview]:
    """Returns what is left of `buffers` after their first `count` bytes, for a short transfer."""
    rest: list[memoryview] = []
    for view in buffers:
        if count >= len(view):
            count -= len(view)
        else:
            rest.append(view[count:])
            count = 0
    return rest
