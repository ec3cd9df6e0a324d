"""The `raw` engine: an image file behind the page cache.

`preadv` and `pwritev` on a descriptor that the toolstack opened. On files that live in memory this is
the fastest portable way (io_uring costs 4 to 20 times as much there at depth one).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from xenlike.storage.device import BlockDevice, Buffers, skip, total_length

_IOV_MAX = 1024  # Linux's UIO_MAXIOV


class FileDevice(BlockDevice):
    """A regular file, a memfd or a host block device, in sectors from its first byte on."""

    flush_blocks = True

    def __init__(self, fd: int, *, readonly: bool = False) -> None:
        """Takes over `fd`, which `close` closes; on an error it stays the caller's.

        Raises:
            ValueError: it is empty or no whole number of sectors.
            PermissionError: the descriptor's mode does not allow what was asked.
            OSError: it is neither a file nor a block device (`ENOTBLK`).
        """
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise OSError(errno.ENOTBLK, "an image is a regular file or a block device")
        if not readonly and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
            raise PermissionError(errno.EACCES, "a writable disk needs an image opened for reading and writing")
        # Seeking to the end tells the size of a block device as well, whose st_size is 0.
        super().__init__(os.lseek(fd, 0, os.SEEK_END), readonly=readonly)
        self._fd = fd

    def preadv(self, offset: int, buffers: Buffers) -> None:
        """See `BlockDevice.preadv`; an image that was cut short while in use gives `EIO`."""
        left = total_length(buffers)
        self.check(offset, left)
        while left:
            done = os.preadv(self._fd, buffers if len(buffers) <= _IOV_MAX else buffers[:_IOV_MAX], offset)
            if done == 0:
                raise OSError(errno.EIO, f"the image ended at byte {offset}, before its size of {self.size}")
            left -= done
            offset += done
            if left:
                buffers = skip(buffers, done)

    def pwritev(self, offset: int, buffers: Buffers) -> None:
        """See `BlockDevice.pwritev`."""
        left = total_length(buffers)
        self.check(offset, left, write=True)
        while left:
            done = os.pwritev(self._fd, buffers if len(buffers) <= _IOV_MAX else buffers[:_IOV_MAX], offset)
            if done == 0:
                raise OSError(errno.EIO, f"nothing could be written at byte {offset}")
            left -= done
            offset += done
            if left:
                buffers = skip(buffers, done)

    def flush(self) -> None:
        """See `BlockDevice.flush`; the size never changes, so data alone is synced."""
        if not self.readonly:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """See `BlockDevice.close`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
