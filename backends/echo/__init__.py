"""The smallest backend, and the one to copy: it turns text in the frontend's page into capitals.

1. `handle` gets a private copy of a request. Its numbers are the frontend's word, so they are checked
   before use.
2. The page is mapped by its grant reference, on first use, and stays mapped. One that was not granted
   raises, which ends the connection with this frontend and nothing else.
3. The frontend may write to the page at any moment: the text is copied, and only the copy is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

from xenlike.abi.types import PAGE_SIZE
from xenlike.io.echo import ECHO, ECHOIF_RSP_ERROR, ECHOIF_RSP_OKAY, EchoRequest, EchoResponse
from xenlike.xenbus import Backend, NodeValue


class EchoBack(Backend[EchoRequest, EchoResponse], protocol=ECHO):
    """Serves one echo device."""

    async def setup(self) -> Mapping[str, NodeValue]:
        """Tells the frontend how much text fits."""
        return {"max-size": PAGE_SIZE}

    async def handle(self, request: EchoRequest) -> EchoResponse:
        """Upper-cases the text of one request."""
        if request.size > PAGE_SIZE:
            return EchoResponse(status=ECHOIF_RSP_ERROR)
        page = self.foreign.page(request.gref)
        page[: request.size] = bytes(page[: request.size]).upper()
        return EchoResponse(size=request.size, status=ECHOIF_RSP_OKAY)
