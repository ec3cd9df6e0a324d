"""The `memory` engine: a disk in anonymous memory.

Its bytes live in a memfd. Handed one by the toolstack, the disk outlives the driver domain that
serves it; without one the engine makes its own, and the disk ends with it.
"""

from __future__ import annotations

import mmap
import os

from xenlike.storage.device import BlockDevice, Buffers, total_length


class MemoryDevice(BlockDevice):
    """A mapped memfd: every transfer is a memory copy, without a system call."""

    def __init__(self, size: int | None = None, *, fd: int | None = None, readonly: bool = False) -> None:
        """Maps `fd`, which it takes over, or makes a zero-filled disk of `size` bytes.

        A descriptor should be sealed against shrinking: whoever can shrink it can kill the process
        that serves it.

        Raises:
            ValueError: neither a size nor a descriptor was given, or the size is no whole number of sectors.
            OSError: there is not enough memory.
        """
        if fd is None:
            if size is None:
                raise ValueError("a memory disk needs a size or a memfd")
            super().__init__(size, readonly=readonly)
            fd = os.memfd_create("xenlike-disk", os.MFD_CLOEXEC)
            try:
                os.ftruncate(fd, size)
                self._map = mmap.mmap(fd, size)
            finally:
                os.close(fd)
        else:
            super().__init__(os.fstat(fd).st_size if size is None else size, readonly=readonly)
            if os.fstat(fd).st_size < self.size:
                raise ValueError(f"the memfd is smaller than the disk of {self.size} bytes")
            self._map = mmap.mmap(fd, self.size, access=mmap.ACCESS_READ if readonly else mmap.ACCESS_WRITE)
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
