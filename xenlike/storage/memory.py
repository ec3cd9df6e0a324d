"""The `memory` engine: a disk in anonymous memory.

Its bytes live in a memfd. Handed one by the toolstack, the disk outlives the driver domain that
serves it; without one the engine makes its own, and the disk ends with it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from xenlike.storage.device import BlockDevice, Buffers, total_length

_COPY_AT_ONCE = 1 << 24


class MemoryDevice(BlockDevice):
    """A mapped memfd: every transfer is a memory copy, without a system call."""

    def __init__(self, size: int | None = None, *, fd: int | None = None, readonly: bool = False) -> None:
        """Makes a disk of `size` bytes, from what `fd` holds or else of zeros.

        A descriptor that is open for writing is used in place; it must be a memfd that nobody can
        shrink, for whoever can shrink it can kill the process that serves it. One that is open for
        reading only is copied. Either is taken over, unless this raises.

        Args:
            size: in bytes; None takes all that `fd` holds.
            fd: a memfd or an image.
            readonly: refuse writes, whatever the descriptor allows.

        Raises:
            ValueError: neither a size nor a descriptor was given, the size is no whole number of
                sectors, or the descriptor holds less.
            OSError: there is not enough memory, or the image could not be read.
        """
        if fd is None and size is None:
            raise ValueError("a memory disk needs a size or an image")
        held = 0 if fd is None else os.lseek(fd, 0, os.SEEK_END)
        super().__init__(held if size is None else size, readonly=readonly)
        if fd is not None and held < self.size:
            raise ValueError(f"the image has {held} bytes, fewer than the disk's {self.size}")
        if fd is not None and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
            self._map = mmap.mmap(fd, self.size)
        else:
            self._map = _private(self.size, fd)
        if fd is not None:
            os.close(fd)
        self._view = memoryview(self._map)

    def preadv(self, offset: int, buffers: Buffers) -> None:
        """See `BlockDevice.preadv`."""
        self.check(offset, total_length(buffers))
        for buffer in buffers:
            buffer[:] = self._view[offset : offset + len(buffer)]
            offset += len(buffer)

    def pwritev(self, offset: int, buffers: Buffers) -> None:
        """See `BlockDevice.pwritev`."""
        self.check(offset, total_length(buffers), write=True)
        for buffer in buffers:
            self._view[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    def flush(self) -> None:
        """See `BlockDevice.flush`; memory has nothing to flush."""

    def discard(self, offset: int, length: int) -> None:
        """See `BlockDevice.discard`; whole pages go back to the kernel."""
        self.check(offset, length, write=True)
        first = min(-offset % mmap.PAGESIZE, length)
        whole = (length - first) // mmap.PAGESIZE * mmap.PAGESIZE
        self._view[offset : offset + first] = bytes(first)
        if whole:
            # For a shared mapping this frees the memfd's pages, which then read as zeros.
            self._map.madvise(mmap.MADV_REMOVE, offset + first, whole)
        tail = length - first - whole
        self._view[offset + length - tail : offset + length] = bytes(tail)

    def close(self) -> None:
        """See `BlockDevice.close`."""
        self._view.release()
        self._map.close()


def _private(size: int, image: int | None) -> mmap.mmap:
    """Returns fresh memory with a copy of `image`."""
    fd = os.memfd_create("xenlike-disk", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        memory = mmap.mmap(fd, size)
    finally:
        os.close(fd)
    offset = 0
    with memoryview(memory) as view:
        while image is not None and offset < size:
            done = os.preadv(image, [view[offset : offset + _COPY_AT_ONCE]], offset)
            if done == 0:
                raise OSError(errno.EIO, f"the image ended at byte {offset} of {size}")
            offset += done
    return memory
