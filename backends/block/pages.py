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
        # A page may be granted twice, in both modes: by whether it is mapped writable, then by gref.
        self._pages: dict[bool, dict[int, memoryview]] = {True: {}, False: {}}
        self._mappings: deque[tuple[MappingLike, bool, list[int]]] = deque()

    def __len__(self) -> int:
        """Returns how many pages are mapped."""
        return sum(map(len, self._pages.values()))

    def attach(self, transfers: Sequence[Transfer]) -> None:
        """Gives each transfer its buffers, or None where a grant failed."""
        if any(self._missing(transfer) for transfer in transfers):
            self._map_batch(transfers)
        for transfer in transfers:
            pages = self._pages[self._writable(transfer)]
            try:
                transfer.buffers = [
                    pages[gref] if stop - start == PAGE_SIZE else pages[gref][start:stop]
                    for gref, (start, stop) in zip(transfer.grefs, transfer.spans, strict=True)
                ]
            except KeyError:
                transfer.buffers = None

    def release(self) -> None:
        """Ends what a batch has mapped, unless it is to be kept."""
        if not self._persistent:
            self.close()

    def close(self) -> None:
        """Unmaps everything. Idempotent."""
        for pages in self._pages.values():
            pages.clear()
        while self._mappings:
            self._mappings.popleft()[0].unmap()

    def _writable(self, transfer: Transfer) -> bool:
        # A persistent page serves reads and writes alike; otherwise a page to be written to disk may
        # be granted read-only.
        return self._persistent or not transfer.write

    def _missing(self, transfer: Transfer) -> list[int]:
        pages = self._pages[self._writable(transfer)]
        return [gref for gref in transfer.grefs if gref not in pages]

    def _map_batch(self, transfers: Sequence[Transfer]) -> None:
        self._make_room(transfers)
        for writable in (True, False):
            some = [transfer for transfer in transfers if self._writable(transfer) is writable]
            if not self._map([gref for transfer in some for gref in self._missing(transfer)], writable):
                # Someone's grant is bad; find out whose.
                for transfer in some:
                    self._map(self._missing(transfer), writable)

    def _map(self, missing: list[int], writable: bool) -> bool:
        grefs = list(dict.fromkeys(missing))
        if not grefs:
            return True
        try:
            mapping = self._grants.map(self._peer, grefs, readonly=not writable)
        except GrantError:
            return False
        self._mappings.append((mapping, writable, grefs))
        self._pages[writable].update(zip(grefs, mapping.pages, strict=True))
        return True

    def _make_room(self, transfers: Sequence[Transfer]) -> None:
        wanted: dict[bool, set[int]] = {True: set(), False: set()}
        for transfer in transfers:
            wanted[self._writable(transfer)].update(transfer.grefs)
        new = sum(len(grefs - self._pages[writable].keys()) for writable, grefs in wanted.items())
        for _ in range(len(self._mappings)):
            if len(self) + new <= self._limit:
                return
            mapping, writable, grefs = self._mappings.popleft()
            if wanted[writable].isdisjoint(grefs):
                for gref in grefs:
                    del self._pages[writable][gref]
                mapping.unmap()
            else:
                self._mappings.append((mapping, writable, grefs))
        # What is left holds pages of this batch among others that it does not need: begin again.
        if len(self) + new > self._limit:
            self.close()
