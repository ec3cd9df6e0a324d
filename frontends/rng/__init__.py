"""The frontend of a hardware random-number device: entropy that the driver domain writes into granted pages.

1. `read` cuts a request into pieces of at most a page, each of which begins again by itself when the backend dies.
2. A piece takes a page that the backend may map, and wipes it: what the page held before was somebody's secret.
3. The answer is copied out once, and only the copy is looked at.
4. A copy that cannot come from a working source is refused, as Linux refuses it of a hardware source.

The backend knows what it gave, so a guest mixes it with entropy of its own before it makes keys of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from xenlike.abi.types import PAGE_SIZE
from xenlike.errors import ProtocolError, RequestFailed
from xenlike.io.rng import RNG, RNGIF_RSP_OKAY, RngRequest, RngResponse
from xenlike.xenbus import Frontend, retried

if TYPE_CHECKING:
    from random import Random

BLOCK = 16
"""Bytes that are never all zero, and never the same twice: by chance, once in 2^128 times."""


class RngFront(Frontend[RngRequest, RngResponse], protocol=RNG):
    """A source of entropy. Any number of tasks may read at once."""

    pool_pages = 8
    _last = b""

    @property
    def max_bytes(self) -> int:
        """Most bytes of one request; the backend's word, once connected, and never more than a page."""
        return min(cast("int", self.peer["max-bytes"]), PAGE_SIZE)

    async def read(self, n: int) -> bytes:
        """Returns `n` random bytes; waits while the backend's budget for this guest is used up.

        Raises:
            ValueError: `n` is negative.
            RequestFailed: the backend refused, or its source is not healthy.
            ProtocolError: the backend answered what it was not asked.
            PeerGone: the backend died, and `on_peer_gone` is "fail".
            NoSuchDevice: the device was taken away.
        """
        if n < 0:
            raise ValueError(f"{n} is no number of bytes")
        data = bytearray()
        while len(data) < n:
            data += await self._piece(n - len(data))
        return bytes(data[:n])

    @retried
    async def _piece(self, wanted: int) -> bytes:
        # A whole block at least, so that even a single byte has been checked.
        size = min(max(wanted, BLOCK), self.max_bytes)
        if not size:
            raise ProtocolError("max-bytes = 0 leaves nothing to ask for", self.otherend_id)
        async with self.pages.take() as page:
            page.data[:size] = bytes(size)
            response = await self.request(RngRequest(gref=page.gref, size=size))
            data = bytes(page.data[:size])
        if response.status != RNGIF_RSP_OKAY:
            raise RequestFailed(response.status, f"{self.nodename}: the backend refused {size} bytes")
        if not 1 <= response.size <= size:
            raise ProtocolError(f"{response.size} bytes in answer to a request for {size}", self.otherend_id)
        data = data[: response.size]
        self._check_health(data)
        return data

    def _check_health(self, data: bytes) -> None:
        """Refuses what was not written at all, and what came before."""
        if bytes(BLOCK) in data:
            raise RequestFailed(RNGIF_RSP_OKAY, f"{self.nodename}: {BLOCK} zero bytes in a row are not random")
        if len(data) >= BLOCK:
            # The continuous test of FIPS 140-2, 4.9.2, with pieces for blocks: a source that is stuck repeats itself.
            if data[:BLOCK] == self._last:
                raise RequestFailed(RNGIF_RSP_OKAY, f"{self.nodename}: the same {BLOCK} bytes came twice")
            self._last = data[:BLOCK]


async def exercise(rng: RngFront, dice: Random) -> None:
    """Reads twice, more than a page now and then; see `xenlike.abi.driver.Driver`."""
    size = dice.randint(BLOCK, 2 * PAGE_SIZE)
    one, two = await rng.read(size), await rng.read(size)
    assert len(one) == len(two) == size
    assert one != two
