"""The frontend half of the block driver: what a guest's program calls a disk.

    disk = await domain.disk("xvda")
    data = await disk.read(0, 4096)
    await disk.write(4096, data)
    await disk.flush()
    async with disk.buffer(1 << 16) as buffer:      # memory that the backend reads and writes itself
        await disk.read_into(0, buffer)

`path.DataPath` moves the bytes, `pool.Area` is the memory that is granted for it. When the backend died
and came back, areas keep their address and contents; only their grants are made anew.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenlike.abi.types import PAGE_SIZE
from xenlike.errors import ProtocolError
from xenlike.frontends.block.path import DataPath, Range
from xenlike.frontends.block.pool import Area, requests_for
from xenlike.io.blk import (
    BLK,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
    SECTOR_SIZE,
    VDISK_READONLY,
    BlkifRequest,
    BlkifResponse,
)
from xenlike.io.vdev import parse_vdev
from xenlike.xenbus import Frontend, FrontQueue

if TYPE_CHECKING:
    from xenlike.xenbus import NodeValue
    from xenlike.xenbus.interface import DomainLike

IO_PAGES = 32 * 11
"""Pages of the I/O area: what a ring of one page can name at once."""
BUFFER_PAGES = 256
"""Pages of the area for `buffer`."""

Data = bytes | bytearray | memoryview


class Buffer:
    """Granted pages for zero-copy transfers; see `BlockFront.buffer`.

    Attributes:
        data: its bytes. The backend writes them during `read_into`, so look at them afterwards.
    """

    def __init__(self, area: Area, start: int, length: int) -> None:
        self._area = area
        self._start = start
        self.data = area.data[start : start + length]

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class BlockStatistics:
    """What a disk has done so far, over all its connections.

    Attributes:
        requests: sent, each of at most 11 pages.
        bytes_read: by the program.
        bytes_written: by the program.
        notifications: sent to the backend.
        connections: 1, and one more for every return of the backend.
    """

    requests: int
    bytes_read: int
    bytes_written: int
    notifications: int
    connections: int


class BlockFront(Frontend[BlkifRequest, BlkifResponse], protocol=BLK):
    """A disk, as its guest sees it. Any number of tasks may use it at once.

    Offsets and lengths are in bytes, and multiples of `sector_size`. All operations wait for the
    connection first, and raise, beside what they say themselves:

    * `ValueError`: the range is not aligned, or not on the disk;
    * `RequestFailed`: the backend could not do it;
    * `PeerGone`: the backend died, and `on_peer_gone` is "fail";
    * `NoSuchDevice`: the disk was taken away.

    Attributes:
        size: bytes of the disk; 0 before the first connection.
        sector_size: in bytes.
        readonly: whether writes are refused.
    """

    size = 0
    sector_size = SECTOR_SIZE
    readonly = False

    def __init__(self, domain: DomainLike, nodename: str) -> None:
        super().__init__(domain, nodename)
        self._path = DataPath(self)
        self._io: Area | None = None
        self._buffers: Area | None = None
        self._used: FrontQueue[BlkifRequest, BlkifResponse] | None = None
        self._bytes_read = self._bytes_written = self._connections = 0
        self._requests = self._notifications = 0

    @classmethod
    def device_id(cls, name: int | str) -> str:
        """Returns the directory name of a disk: "51712" for `xvda` and for 51712."""
        return str(parse_vdev(str(name)))

    # Reading and writing.

    async def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes from `offset`."""
        return (await self.read_many([(offset, length)]))[0]

    async def write(self, offset: int, data: Data) -> None:
        """Writes bytes at `offset`. They are durable only after `flush`.

        Raises:
            PermissionError: the disk is read-only.
        """
        await self.write_many([(offset, data)])

    async def read_many(self, ranges: Iterable[Range]) -> list[bytes]:
        """Returns the bytes of each range `(offset, length)`, read in as few batches as possible."""
        ranges = list(ranges)
        area = await self._io_area()
        for offset, length in ranges:
            self._check(offset, length)
        found = await self._path.read(area, ranges)
        self._bytes_read += sum(map(len, found))
        return found

    async def write_many(self, items: Iterable[tuple[int, Data]]) -> None:
        """Writes the bytes of each `(offset, data)`, in as few batches as possible and in no certain order.

        Raises:
            PermissionError: the disk is read-only.
        """
        views = [(offset, memoryview(data).cast("B")) for offset, data in items]
        area = await self._io_area()
        for offset, view in views:
            self._check(offset, len(view), write=True)
        await self._path.write(area, views)
        self._bytes_written += sum(len(view) for _, view in views)

    async def flush(self) -> None:
        """Makes everything durable that was written before; nothing to do where the backend offers nothing."""
        area = await self._io_area()
        if self.peer["feature-flush-cache"]:
            await self._path.send(area, [(BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0)])
        elif self.peer["feature-barrier"]:
            await self._path.send(area, [(BLKIF_OP_WRITE_BARRIER, 0, 0, 0)])

    # Zero copy.

    @asynccontextmanager
    async def buffer(self, length: int) -> AsyncIterator[Buffer]:
        """Lends memory that the backend reads and writes itself; waits while others have all of it.

        Args:
            length: bytes, at most 1 MiB.

        Raises:
            ValueError: there is not so much.
        """
        if not 0 < length <= BUFFER_PAGES * PAGE_SIZE:
            raise ValueError(f"a buffer has 1 to {BUFFER_PAGES * PAGE_SIZE} bytes, not {length}")
        while self._buffers is None:
            if self.connected:
                self._buffers = Area(self.domain, self.otherend_id, BUFFER_PAGES)
            else:
                await self.wait_connected()
        area = self._buffers
        start = await area.take(length)
        try:
            yield Buffer(area, start, length)
        finally:
            self._path.settle(functools.partial(area.free, [(start, length)]))

    async def read_into(self, offset: int, buffer: Buffer, length: int | None = None) -> None:
        """Reads from `offset` into a buffer's first `length` bytes; all of it by default."""
        length = len(buffer) if length is None else length
        await self._direct(BLKIF_OP_READ, offset, buffer, length)
        self._bytes_read += length

    async def write_from(self, offset: int, buffer: Buffer, length: int | None = None) -> None:
        """Writes a buffer's first `length` bytes, all of it by default, to `offset`.

        Raises:
            PermissionError: the disk is read-only.
        """
        length = len(buffer) if length is None else length
        await self._direct(BLKIF_OP_WRITE, offset, buffer, length)
        self._bytes_written += length

    async def _direct(self, operation: int, offset: int, buffer: Buffer, length: int) -> None:
        await self._io_area()
        self._check(offset, length, write=operation == BLKIF_OP_WRITE)
        if length > len(buffer):
            raise ValueError(f"{length} bytes do not fit a buffer of {len(buffer)}")
        await self._path.send(buffer._area, requests_for(operation, offset, buffer._start, length))

    def statistics(self) -> BlockStatistics:
        """Returns the counters so far."""
        requests, notifications = self._requests, self._notifications
        if self._used is not None:
            queue = self._used.statistics()
            requests, notifications = requests + queue.requests, notifications + queue.notifications
        return BlockStatistics(requests, self._bytes_read, self._bytes_written, notifications, self._connections)

    def _check(self, offset: int, length: int, *, write: bool = False) -> None:
        if write and self.readonly:
            raise PermissionError(errno.EROFS, f"{self.nodename}: {os.strerror(errno.EROFS)}")
        if offset % self.sector_size or length % self.sector_size:
            raise ValueError(f"bytes {offset}+{length} are no whole sectors of {self.sector_size} bytes")
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"bytes {offset}+{length} lie outside a disk of {self.size} bytes")

    async def _io_area(self) -> Area:
        while self._io is None or not self.size:
            await self.wait_connected()
        return self._io

    # The connection.

    async def setup(self) -> Mapping[str, NodeValue]:
        """Shares the I/O area with this backend; what was shared with another becomes this one's.

        Raises:
            GrantBusy: the former backend still maps a page.
        """
        if self._io is None:
            self._io = Area(self.domain, self.otherend_id, IO_PAGES)
        else:
            self._io.regrant(self.otherend_id)
        if self._buffers is not None:
            self._buffers.regrant(self.otherend_id)
        self._used = self.queue
        return {"feature-persistent": True}

    async def connect(self) -> None:
        """Reads the geometry; raises as `resize`."""
        self._connections += 1
        await self.resize()

    async def disconnect(self) -> None:
        """Keeps the counters of a connection that ends."""
        before = self.statistics()
        self._requests, self._notifications, self._used = before.requests, before.notifications, None

    async def resize(self) -> None:
        """Reads the geometry, which has changed.

        Raises:
            ProtocolError: no disk has it.
        """
        sectors, sector_size = int(self.peer["sectors"]), int(self.peer["sector-size"])
        if not SECTOR_SIZE <= sector_size <= PAGE_SIZE or sector_size & (sector_size - 1):
            raise ProtocolError(f"sector-size = {sector_size} is no power of two from 512 to 4096", self.otherend_id)
        if not 0 < sectors < 1 << 54:
            raise ProtocolError(f"sectors = {sectors} is no size of a disk", self.otherend_id)
        self.size, self.sector_size = sectors * SECTOR_SIZE, sector_size
        self.readonly = bool(int(self.peer["info"]) & VDISK_READONLY)

    async def run(self) -> None:
        """Lives the device's whole life; then gives its memory back."""
        try:
            await super().run()
        finally:
            for area in (self._io, self._buffers):
                if area is not None:
                    self.give_back(area.close)
