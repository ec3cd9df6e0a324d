"""What traced domains do. A module of its own, so that a domain imports nothing of a test."""

from __future__ import annotations

import trio

from xenlike.abi.driver import Driver
from xenlike.backends.echo import EchoBack
from xenlike.domain.domain import Domain
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import ECHO


class ShoutFront(EchoFront):
    """A driver that no entry point knows."""


class ShoutBack(EchoBack):
    """Its other half."""


SHOUT = Driver("shout", ECHO, frontend=f"{__name__}:ShoutFront", backend=f"{__name__}:ShoutBack")


async def asks_for_ever(domain: Domain, type: str = "echo") -> None:
    """Uses its echo device, and says so."""
    echo = await domain.device(type, kind=EchoFront)
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
