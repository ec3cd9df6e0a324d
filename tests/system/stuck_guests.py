"""Guests and drivers that get stuck. A module of its own, so that a domain imports nothing of a test."""

from __future__ import annotations

import trio

from xenlike.abi.driver import Driver
from xenlike.backends.echo import EchoBack
from xenlike.domain.domain import Domain
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import ECHO, EchoRequest, EchoResponse


class DeafFront(EchoFront):
    """The frontend of a backend that answers nobody."""


class DeafBack(EchoBack):
    """Takes requests and answers none."""

    async def handle(self, request: EchoRequest) -> EchoResponse:
        await trio.sleep_forever()
        raise AssertionError


class CarelessFront(EchoFront):
    """The frontend of a backend that raises."""


class CarelessBack(EchoBack):
    """Raises at the first request."""

    async def handle(self, request: EchoRequest) -> EchoResponse:
        raise RuntimeError("no paper left")


_HERE = "tests.system.stuck_guests"
DEAF = Driver("deaf", ECHO, f"{_HERE}:DeafFront", f"{_HERE}:DeafBack")
CARELESS = Driver("careless", ECHO, f"{_HERE}:CarelessFront", f"{_HERE}:CarelessBack")


async def uses(domain: Domain, type: str, times: int) -> None:
    """Has texts upper-cased, for ever if `times` is -1, and then holds still."""
    device = await domain.device(type, kind=EchoFront)
    print("connected", flush=True)
    while times:
        await device.upper(b"text")
        times -= 1
    print("done", flush=True)
    await trio.sleep_forever()
