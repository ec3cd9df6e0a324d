"""The backend of a key-value store.

1. Every request is a private copy. `answer` checks what it can before it looks at any page.
2. The pages of a value are named by the request, or by a list in a page that the request names. The list is copied
   once, and the copy decides: the guest may go on writing to the page.
3. What a PUT brings is copied out before it is kept, what a GET finds is written to the guest's pages.
4. A watch is a request whose answer waits, in a task of its own, for a change or for its time to be over. The
   number of them is limited: each costs a task here, and a slot of the ring there.

Every device has a store of its own, which lives as long as the device. Where the toolstack gives devices of this
domain the same word for `store`, they share one, see all of it, and it lives as long as the domain.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import ClassVar
from weakref import WeakKeyDictionary

import trio

from xenlike.abi.types import PAGE_SIZE
from xenlike.backends.kv.store import Refused, Store
from xenlike.io.kv import (
    KV,
    KVIF_OP_DELETE,
    KVIF_OP_GET,
    KVIF_OP_PUT,
    KVIF_OP_WATCH,
    KVIF_RSP_ERROR,
    KVIF_RSP_OKAY,
    KVIF_RSP_QUOTA,
    KVIF_RSP_TOO_BIG,
    KvRequest,
    KvResponse,
)
from xenlike.xenbus import Backend, BackQueue, NodeValue
from xenlike.xenbus.interface import DomainLike

MAX_VALUE = 16 * PAGE_SIZE
MAX_WATCHES = 16
"""Of one device: half of the slots that the smallest ring has."""

_shared: WeakKeyDictionary[DomainLike, dict[str, Store]] = WeakKeyDictionary()


class KvBack(Backend[KvRequest, KvResponse], protocol=KV):
    """Serves one device."""

    watch_ms: ClassVar[int] = 1000
    # A request may move 64 KiB: other devices get their turn after half a MiB.
    budget = 8

    store: Store
    _watches = 0

    async def setup(self) -> Mapping[str, NodeValue]:
        """Finds the store, and says what it takes."""
        if not hasattr(self, "store"):
            name = (await self.read_nodes("store"))["store"]
            self.store = _shared.setdefault(self.domain, {}).setdefault(name, Store()) if name else Store()
        return {
            "max-value": MAX_VALUE,
            "max-watches": MAX_WATCHES,
            "watch-ms": self.watch_ms,
            "epoch": self.store.epoch,
        }

    async def serve(self, queue: BackQueue[KvRequest, KvResponse]) -> None:
        """Answers requests in their order, and watches when their time has come."""
        self._watches = 0
        async with trio.open_nursery() as nursery:
            async for requests in queue:
                for request in requests:
                    response = self.answer(request)
                    if response is None:
                        self._watches += 1
                        nursery.start_soon(self._watch, queue, request)
                    else:
                        response.id = request.id
                        queue.respond((response,))

    def answer(self, request: KvRequest) -> KvResponse | None:
        """Carries a request out; None for a watch that has to wait."""
        operation = self._operations.get(request.operation)
        if operation is None or not request.key or b"\0" in request.key:
            return KvResponse(status=KVIF_RSP_ERROR)
        if request.size > MAX_VALUE:
            return KvResponse(status=KVIF_RSP_TOO_BIG)
        try:
            return operation(self, request)
        except Refused as refused:
            return KvResponse(status=refused.status)

    def _get(self, request: KvRequest) -> KvResponse:
        version, value = self.store.get(request.key)
        size = len(value)
        if size > request.size:
            return KvResponse(version=version, size=size, status=KVIF_RSP_TOO_BIG)
        for page, at in zip(self._pages(request), range(0, size, PAGE_SIZE), strict=False):
            piece = value[at : at + PAGE_SIZE]
            page[: len(piece)] = piece
        return KvResponse(version=version, size=size, status=KVIF_RSP_OKAY)

    def _put(self, request: KvRequest) -> KvResponse:
        value = b"".join([bytes(page) for page in self._pages(request)])[: request.size]
        return KvResponse(version=self.store.put(request.key, value), status=KVIF_RSP_OKAY)

    def _delete(self, request: KvRequest) -> KvResponse:
        self.store.delete(request.key)
        return KvResponse(status=KVIF_RSP_OKAY)

    def _see(self, request: KvRequest) -> KvResponse | None:
        version = self.store.version(request.key)
        if version != request.version:
            return KvResponse(version=version, status=KVIF_RSP_OKAY)
        if self._watches >= MAX_WATCHES:
            return KvResponse(status=KVIF_RSP_QUOTA)
        return None

    _operations: ClassVar = {
        KVIF_OP_GET: _get,
        KVIF_OP_PUT: _put,
        KVIF_OP_DELETE: _delete,
        KVIF_OP_WATCH: _see,
    }

    def _pages(self, request: KvRequest) -> list[memoryview]:
        """Maps the pages of a value; raises `GrantDenied`, the end of the connection, for one that was not granted."""
        count = -(-request.size // PAGE_SIZE)
        if count <= 1:
            return [self.foreign.page(request.gref)] * count
        # One copy, of no more than was checked. Twice the same page, or the list's own, harm nobody but the guest.
        listed = bytes(self.foreign.page(request.gref)[: 4 * count])
        return [self.foreign.page(gref) for gref in struct.unpack(f"<{count}I", listed)]

    async def _watch(self, queue: BackQueue[KvRequest, KvResponse], request: KvRequest) -> None:
        with trio.move_on_after(self.watch_ms / 1000):
            while self.store.version(request.key) == request.version:
                await self.store.changed.wait()
        self._watches -= 1
        version = self.store.version(request.key)
        queue.respond((KvResponse(id=request.id, version=version, status=KVIF_RSP_OKAY),))
