"""The frontend's granted pages, as the backend sees them.

All pages that a whole batch of requests needs and that are not mapped yet are mapped by one
hypercall. With persistent grants they stay mapped, at most `limit` of them, the longest-held go first;
without them, a batch's mappings end before its responses are pushed, because a frontend may end the grant
as soon as it sees the response. A grant that fails costs only the requests that name it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xenlike.abi.types import PAGE_SIZE
from xenlike.backends.block.request import Transfer
from xenlike.errors import GrantError

if TYPE_CHECKING:
    from xenlike.xenbus.interface import GrantsLike, MappingLike

MAX_PERSISTENT = 1056
"""Grants kept mapped per ring: Linux's `xen_blkif_max_pgrants`."""


class Pages:
    """Mapped pages of one frontend.

    Args:
        grants: the backend's own domain's.
        peer: the frontend's domid.
        persistent: keep pages mapped from batch to batch.
        limit: how many, at most; at least what one batch can name.
    """

    def __init__(self, grants: GrantsLike, peer: int, *, persistent: bool, limit: int = MAX_PERSISTENT) -> None:
        self._grants = grants
        self._peer = peer
        self._persistent = persistent
        self._limit = limit
        # By (gref, writable): the same page may be granted twice, in both modes.
        self._pages: dict[tuple[int, bool], memoryview] = {}
        self._mappings: deque[tuple[MappingLike, list[tuple[int, bool]]]] = deque()

    def __len__(self) -> int:
        """Returns how many pages are mapped."""
        return len(self._pages)

    def attach(self, transfers: Sequence[Transfer]) -> None:
        """Gives each transfer its buffers, or None where a grant failed."""
        wanted = {key for transfer in transfers for key in self._keys(transfer)}
        self._make_room(wanted)
        for writable in (True, False):
            missing = [key for key in wanted if key[1] is writable and key not in self._pages]
            if missing and not self._map(missing, writable):
                # Someone's grant is bad; find out whose.
                for transfer in transfers:
                    self._map([key for key in self._keys(transfer) if key[1] is writable], writable)
        for transfer in transfers:
            transfer.buffers = self._buffers(transfer)

    def release(self) -> None:
        """Ends what a batch has mapped, unless it is to be kept."""
        if not self._persistent:
            self.close()

    def close(self) -> None:
        """Unmaps everything. Idempotent."""
        self._pages.clear()
        while self._mappings:
            self._mappings.popleft()[0].unmap()

    def _keys(self, transfer: Transfer) -> list[tuple[int, bool]]:
        # A persistent page serves reads and writes alike; otherwise a page to be written to disk may
        # be granted read-only.
        writable = self._persistent or not transfer.write
        return [(gref, writable) for gref, _, _ in transfer.segments]

    def _map(self, keys: list[tuple[int, bool]], writable: bool) -> bool:
        keys = [key for key in dict.fromkeys(keys) if key not in self._pages]
        if not keys:
            return True
        try:
            mapping = self._grants.map(self._peer, [gref for gref, _ in keys], readonly=not writable)
        except GrantError:
            return False
        self._mappings.append((mapping, keys))
        self._pages.update(zip(keys, mapping.pages, strict=True))
        return True

    def _make_room(self, wanted: set[tuple[int, bool]]) -> None:
        new = len(wanted - self._pages.keys())
        for _ in range(len(self._mappings)):
            if len(self._pages) + new <= self._limit:
                return
            mapping, keys = self._mappings.popleft()
            if wanted.isdisjoint(keys):
                for key in keys:
                    del self._pages[key]
                mapping.unmap()
            else:
                self._mappings.append((mapping, keys))
        # What is left holds pages of this batch among others that it does not need: begin again.
        if len(self._pages) + new > self._limit:
            self.close()

    def _buffers(self, transfer: Transfer) -> list[memoryview] | None:
        writable = self._persistent or not transfer.write
        buffers = []
        for gref, start, stop in transfer.segments:
            page = self._pages.get((gref, writable))
            if page is None:
                return None
            buffers.append(page if stop - start == PAGE_SIZE else page[start:stop])
        return buffers
