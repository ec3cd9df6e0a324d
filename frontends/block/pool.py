"""The frontend's memory: pages in one window, granted when first used and then for good.

The same grants serve all requests, so a backend that keeps them mapped never maps a page twice
(persistent grants). Pages are neither granted nor touched before they are needed: an idle disk costs
address space, not memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from xenlike.abi.types import PAGE_SIZE
from xenlike.io.blk import BLKIF_MAX_SEGMENTS_PER_REQUEST, SECTOR_SIZE, BlkifRequest

if TYPE_CHECKING:
    from xenlike.xenbus.interface import DomainLike

MAX_TRANSFER = BLKIF_MAX_SEGMENTS_PER_REQUEST * PAGE_SIZE
"""Bytes that one request can move, from page-aligned memory."""

Request = tuple[int, int, int, int]
"""Operation, sector on the disk, first byte and number of bytes in the area: what `Area.pack` takes."""

# The parts of BlkifRequest; a request is packed from ready-made segments, most of them whole pages.
_HEAD = struct.Struct("<BBHxxxxQQ")
_SEGMENT = struct.Struct("<IBBxx")
_LAST_SECTOR = PAGE_SIZE // SECTOR_SIZE - 1
REQUEST_SIZE = BlkifRequest.__layout__.size


class Area:
    """Pages of one window, handed out in runs, granted one by one on first use.

    Args:
        domain: the frontend's own.
        peer: the backend's domid.
        nr_pages: size.

    Attributes:
        data: all bytes; the address stays the same for the area's whole life.

    Raises:
        HypercallError: the domain has no more windows or pages.
    """

    def __init__(self, domain: DomainLike, peer: int, nr_pages: int) -> None:
        self._grants = domain.grants
        self._peer = peer
        self._window = domain.memory.alloc(peer, nr_pages)
        self.data = self._window.buffer
        self._grefs = [0] * nr_pages
        # Per page: the segment that names all of it, packed; empty until it is granted.
        self._whole = [b""] * nr_pages
        # Per page: 1 while it is handed out.
        self._used = bytearray(nr_pages)
        self._line = trio.StrictFIFOLock()
        self._freed = trio.Event()

    @property
    def size(self) -> int:
        """Bytes of the area, and so of the longest run there can be."""
        return len(self._used) * PAGE_SIZE

    def take_nowait(self, length: int) -> int | None:
        """Returns where a run of `length` bytes starts, or None: no room, or others wait for it.

        The lowest address that fits, so that few pages are ever touched.
        """
        return None if self._line.locked() else self._find(length)

    async def take(self, length: int) -> int:
        """Waits for a run of `length` bytes, first come, first served; a checkpoint only if it waits.

        Raises:
            ValueError: the area is smaller than that.
        """
        start = self.take_nowait(length)
        if start is not None:
            return start
        if length > self.size:
            raise ValueError(f"{length} bytes at once, and there are {self.size}")
        async with self._line:
            while (start := self._find(length)) is None:
                self._freed = trio.Event()
                await self._freed.wait()
            return start

    def free(self, runs: Iterable[tuple[int, int]]) -> None:
        """Gives runs back, each its start and length."""
        for start, length in runs:
            first, pages = start // PAGE_SIZE, -(-length // PAGE_SIZE)
            self._used[first : first + pages] = bytes(pages)
        self._freed.set()

    def _find(self, length: int) -> int | None:
        pages = -(-length // PAGE_SIZE)
        first = self._used.find(bytes(pages))
        if first < 0:
            return None
        self._used[first : first + pages] = b"\1" * pages
        return first * PAGE_SIZE

    def pack(self, operation: int, sector: int, start: int, length: int) -> bytes:
        """Returns a request for bytes `start .. start + length` of the area, as it lies in a ring slot.

        Both are multiples of the sector size and span at most 11 pages; the id is left zero.
        """
        first, last = start // PAGE_SIZE, (start + length - 1) // PAGE_SIZE
        whole = self._whole[first : last + 1]
        if b"" in whole:
            self._grant(first, last)
            whole = self._whole[first : last + 1]
        if (start | length) % PAGE_SIZE:
            self._trim(whole, first, last, start, length)
        head = _HEAD.pack(operation, len(whole), 0, 0, sector)
        return b"".join([head, *whole]).ljust(REQUEST_SIZE, b"\0")

    def regrant(self, peer: int) -> None:
        """Makes the area the property of another backend; address and contents stay.

        To be called when the old backend maps nothing any more: it is dead or closed.
        """
        self._revoke()
        if peer != self._peer:
            self._window.replace(peer)
            self._peer = peer

    def close(self) -> None:
        """Ends all grants and gives the window back. Idempotent.

        Raises:
            GrantBusy: the backend maps a page although it should not; the window then stays.
        """
        self._revoke()
        self._window.close()

    def _grant(self, first: int, last: int) -> None:
        for page in range(first, last + 1):
            if not self._whole[page]:
                gref = self._grants.grant(self._window.pfn + page, self._peer)
                self._grefs[page] = gref
                self._whole[page] = _SEGMENT.pack(gref, 0, _LAST_SECTOR)

    def _revoke(self) -> None:
        for page, gref in enumerate(self._grefs):
            if gref:
                self._grants.revoke(gref)
                self._grefs[page], self._whole[page] = 0, b""

    def _trim(self, whole: list[bytes], first: int, last: int, start: int, length: int) -> None:
        begin = start % PAGE_SIZE // SECTOR_SIZE
        end = (start + length - 1) % PAGE_SIZE // SECTOR_SIZE
        if first == last:
            whole[0] = _SEGMENT.pack(self._grefs[first], begin, end)
        else:
            whole[0] = _SEGMENT.pack(self._grefs[first], begin, _LAST_SECTOR)
            whole[-1] = _SEGMENT.pack(self._grefs[last], 0, end)


def requests_for(operation: int, offset: int, start: int, length: int) -> list[Request]:
    """Returns the requests for `length` bytes of the disk from `offset`, and of an area from `start`."""
    if length <= MAX_TRANSFER:
        return [(operation, offset // SECTOR_SIZE, start, length)]
    return [
        (operation, (offset + at) // SECTOR_SIZE, start + at, min(MAX_TRANSFER, length - at))
        for at in range(0, length, MAX_TRANSFER)
    ]
