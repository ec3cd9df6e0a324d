"""The smallest frontend, and the one to copy: text in a granted page comes back in capitals.

1. `upper` takes a page that the backend may map, and writes the text into it.
2. The request names the page by its grant reference; the base class matches it with its response.
3. The answer is in the same page. The backend may still write there, so it is copied once.

`retried` makes an operation outlive its backend: it begins again on the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from xenlike.errors import RequestFailed
from xenlike.io.echo import ECHO, ECHOIF_RSP_OKAY, EchoRequest, EchoResponse
from xenlike.xenbus import Frontend, retried

if TYPE_CHECKING:
    from random import Random


class EchoFront(Frontend[EchoRequest, EchoResponse], protocol=ECHO):
    """A device that upper-cases text."""

    pool_pages = 8

    @property
    def max_size(self) -> int:
        """Longest text in bytes; the backend's word, once connected, and never more than a page."""
        return min(cast("int", self.peer["max-size"]), 4096)

    @retried
    async def upper(self, text: bytes) -> bytes:
        """Returns the text with its ASCII letters in upper case.

        Raises:
            ValueError: it is longer than `max_size`.
            RequestFailed: the backend refused.
            PeerGone: the backend died, and `on_peer_gone` is "fail".
            NoSuchDevice: the device was taken away.
        """
        if len(text) > self.max_size:
            raise ValueError(f"{len(text)} bytes are more than the {self.max_size} that the backend takes")
        async with self.pages.take() as page:
            page.data[: len(text)] = text
            response = await self.request(EchoRequest(gref=page.gref, size=len(text)))
            if response.status != ECHOIF_RSP_OKAY:
                raise RequestFailed(response.status, f"the backend refused {len(text)} bytes")
            return bytes(page.data[: len(text)])


async def exercise(echo: EchoFront, dice: Random) -> None:
    """Has one text upper-cased; see `xenlike.abi.driver.Driver`."""
    text = dice.randbytes(dice.randrange(echo.max_size + 1))
    assert await echo.upper(text) == text.upper()
