"""What traced domains do. A module of its own, so that a domain imports nothing of a test."""

from __future__ import annotations

import trio

from xenlike.domain.domain import Domain
from xenlike.frontends.echo import EchoFront


async def asks_for_ever(domain: Domain) -> None:
    """Uses its echo device, and says so."""
    echo = await domain.device("echo", kind=EchoFront)
    while True:
        assert await echo.upper(b"trace me") == b"TRACE ME"
        domain.trace("once more")
        await trio.sleep(0.005)


async def says_last_words(domain: Domain) -> None:
    """Waits to be told, then records something and is gone."""
    async with domain.store.watch("data/go") as changes:
        async for _ in changes:
            if await domain.store.exists("data/go"):
                break
    domain.trace("last words")
