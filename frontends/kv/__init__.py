"""The frontend of a key-value store: values of up to many pages, watches, and errors by name.

    version = await kv.put(b"colour", b"green")
    value, version = await kv.get(b"colour")
    await kv.changed(b"colour", version)          # returns when somebody has changed or deleted it

1. A value of at most a page travels in one granted page. A larger one takes several, and one more for the list of
   their references, which is what the request then names.
2. All pages are taken before the request is sent, and are the backend's until it has answered.
3. The answer is copied out once. Its numbers are the backend's word, and never exceed what was asked for.
4. A watch is a request like any other, which the backend answers when the key changes. It answers unchanged ones, too,
   after a while: so a caller who was cancelled leaves nothing behind, and a suspend does not wait for ever.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple, cast

import trio

from xenlike.abi.types import PAGE_SIZE
from xenlike.errors import ProtocolError
from xenlike.frontends.kv.errors import KeyMissing, KvFailed, StoreFull, TooMany, ValueTooBig, failure
from xenlike.frontends.kv.exercise import exercise
from xenlike.io.kv import (
    KV,
    KVIF_KEY_SIZE,
    KVIF_OP_DELETE,
    KVIF_OP_GET,
    KVIF_OP_PUT,
    KVIF_OP_WATCH,
    KVIF_RSP_NOT_FOUND,
    KVIF_RSP_OKAY,
    KVIF_RSP_TOO_BIG,
    KvRequest,
    KvResponse,
)
from xenlike.xenbus import Frontend, Page, retried

__all__ = ["Entry", "KeyMissing", "KvFailed", "KvFront", "StoreFull", "TooMany", "ValueTooBig", "exercise"]

MAX_PAGES = 16
"""Pages of the longest value."""
AGAIN_S = 0.05
"""A watch that brought nothing is not asked again before this time is over."""


class Entry(NamedTuple):
    """What a key stands for."""

    value: bytes
    version: int


class KvFront(Frontend[KvRequest, KvResponse], protocol=KV):
    """A key-value store. Any number of tasks may use it at once.

    Keys have 1 to 32 bytes, none of them NUL, or it is a `ValueError`. What the backend refuses is a `KvFailed`.
    Operations wait for the connection, and raise `PeerGone`, `NoSuchDevice` and `ProtocolError` as `wait_connected`.
    """

    # The longest value, its list, and seven short ones beside it.
    pool_pages = MAX_PAGES + 8
    _gathering: trio.Lock

    @property
    def max_value(self) -> int:
        """Longest value in bytes; the backend's word, once connected, and never more than 16 pages."""
        return min(cast("int", self.peer["max-value"]), MAX_PAGES * PAGE_SIZE)

    @property
    def epoch(self) -> int:
        """Another number than before means that the store has begun anew, as one in memory does with its domain."""
        return cast("int", self.peer["epoch"])

    @retried
    async def get(self, key: bytes) -> Entry:
        """Returns value and version of a key; `KeyMissing` where it does not exist."""
        room = min(PAGE_SIZE, self.max_value)
        while True:
            async with self._pages(room) as (gref, pages):
                response = await self._send(KVIF_OP_GET, key, gref=gref, size=room)
                data = b"".join([bytes(page.data) for page in pages])
            if response.status == KVIF_RSP_TOO_BIG and room < response.size <= self.max_value:
                room = response.size  # at every turn, so that there are not many
                continue
            version = self._version(response, key)
            if response.size > room:
                raise ProtocolError(f"a value of {response.size} bytes in room for {room}", self.otherend_id)
            return Entry(data[: response.size], version)

    @retried
    async def put(self, key: bytes, value: bytes) -> int:
        """Keeps a value; returns its version. `ValueTooBig`, `StoreFull`, `TooMany` where there is no room for it."""
        size = len(value)
        if size > self.max_value:
            raise failure(KVIF_RSP_TOO_BIG, key)
        async with self._pages(size) as (gref, pages):
            for page, at in zip(pages, range(0, size, PAGE_SIZE), strict=False):
                piece = value[at : at + PAGE_SIZE]
                page.data[: len(piece)] = piece
            response = await self._send(KVIF_OP_PUT, key, gref=gref, size=size)
        return self._version(response, key)

    @retried
    async def delete(self, key: bytes) -> bool:
        """Deletes a key; returns whether there was one. A repetition, after the backend died, may find none."""
        response = await self._send(KVIF_OP_DELETE, key)
        if response.status not in (KVIF_RSP_OKAY, KVIF_RSP_NOT_FOUND):
            raise failure(response.status, key)
        return response.status == KVIF_RSP_OKAY

    @retried
    async def changed(self, key: bytes, version: int) -> int:
        """Waits until a key has another version than this one, and returns that; 0 stands for no such key.

        Raises:
            TooMany: this device watches as many keys as it may.
        """
        while True:
            earliest = trio.current_time() + AGAIN_S
            response = await self._send(KVIF_OP_WATCH, key, version=version)
            if response.status != KVIF_RSP_OKAY:
                raise failure(response.status, key)
            if response.version != version:
                return response.version
            # A hostile backend finds nothing changed all the time: it shall not keep us busy.
            await trio.sleep_until(earliest)
            await self.wait_connected()

    async def _send(self, operation: int, key: bytes, *, version: int = 0, gref: int = 0, size: int = 0) -> KvResponse:
        if not 1 <= len(key) <= KVIF_KEY_SIZE or b"\0" in key:
            raise ValueError(f"a key has 1 to {KVIF_KEY_SIZE} bytes, none of them NUL, unlike {key!r}")
        return await self.request(KvRequest(operation=operation, key=key, version=version, gref=gref, size=size))

    def _version(self, response: KvResponse, key: bytes) -> int:
        """Returns the version of a key that exists, of which the response is to tell."""
        if response.status != KVIF_RSP_OKAY:
            raise failure(response.status, key)
        if not response.version:
            raise ProtocolError(f"{key!r} exists, with the version of one that does not", self.otherend_id)
        return response.version

    @asynccontextmanager
    async def _pages(self, size: int) -> AsyncIterator[tuple[int, list[Page]]]:
        """Lends pages for a value; yields the reference that goes into the request, and the pages."""
        count, pool = max(1, -(-size // PAGE_SIZE)), self.pages
        async with AsyncExitStack() as stack:
            if count == 1:
                page = await stack.enter_async_context(pool.take())
                yield page.gref, [page]
                return
            # One at a time: two that each hold half of the pages would wait for each other for ever.
            async with self._gathering:
                first, *pages = [await stack.enter_async_context(pool.take()) for _ in range(count + 1)]
            first.data[: 4 * count] = struct.pack(f"<{count}I", *(page.gref for page in pages))
            yield first.gref, pages

    async def setup(self) -> None:
        """Pages are of this connection, and so is the lock of those who gather them."""
        self._gathering = trio.Lock()
