"""The backend of a hardware random-number device: entropy of the host's kernel for one guest.

1. `handle` gets a private copy of a request. A length that was not offered is answered with an error.
2. The guest's budget is asked. Where it is used up, the answer waits, and with it this guest's next requests;
   every device has a task of its own, so other guests do not.
3. The page is mapped by its grant reference and filled. Nothing that the guest wrote there is ever read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import trio

from xenlike.abi.types import PAGE_SIZE
from xenlike.io.rng import RNG, RNGIF_RSP_ERROR, RNGIF_RSP_OKAY, RngRequest, RngResponse
from xenlike.xenbus import Backend, NodeValue
from xenlike.xenbus.negotiate import parse_node

BURST = 16 * PAGE_SIZE
"""Bytes that a guest which has been silent for long enough gets at once."""


class Budget:
    """A bucket that fills at a rate and is emptied by whoever takes from it (a token bucket).

    Args:
        rate: bytes a second; 0 for no limit.
        burst: bytes that it holds, and with which it begins.
        now: the time, in seconds.
    """

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._filled = now

    def take(self, size: int, now: float) -> float:
        """Takes bytes; returns how many seconds to wait before they may be given away."""
        if not self._rate:
            return 0.0
        self._left = min(self._burst, self._left + (now - self._filled) * self._rate)
        self._filled = now
        # A debt is paid by waiting, before anything else is taken.
        self._left -= size
        return max(0.0, -self._left / self._rate)


class RngBack(Backend[RngRequest, RngResponse], protocol=RNG):
    """Serves one random-number device."""

    _budget: Budget | None = None

    async def setup(self) -> Mapping[str, NodeValue]:
        """Reads the guest's rate, which is the toolstack's to say; tells the frontend how much it may ask for."""
        if self._budget is None:
            rate = parse_node(RNG.node("rate", "backend"), (await self.read_nodes("rate"))["rate"])
            # Kept for the device's life: a guest must not get a new one by connecting again.
            self._budget = Budget(int(rate), BURST, trio.current_time())
        return {"max-bytes": PAGE_SIZE}

    async def handle(self, request: RngRequest) -> RngResponse:
        """Fills one page."""
        if not 1 <= request.size <= PAGE_SIZE:
            return RngResponse(status=RNGIF_RSP_ERROR)
        page = self.foreign.page(request.gref)
        assert self._budget is not None  # there are no requests before `setup`
        delay_s = self._budget.take(request.size, trio.current_time())
        if delay_s:
            await trio.sleep(delay_s)
        # Unlike `os.getrandom`, it never returns less than it was asked for.
        page[: request.size] = os.urandom(request.size)
        return RngResponse(size=request.size, status=RNGIF_RSP_OKAY)
