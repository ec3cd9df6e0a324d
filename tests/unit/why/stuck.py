"""Devices that are stuck on purpose, and what is to be said of each."""

from __future__ import annotations

from contextlib import suppress

from trio.testing import wait_all_tasks_blocked

from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.types import u64
from xenlike.backends.echo import EchoBack
from xenlike.errors import XenlikeError
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import ECHO, EchoRequest, EchoResponse
from xenlike.testing import Loopback, Plugged, why
from xenlike.toolstack.why import Explanation

_NODES = [*ECHO.nodes, Node("sectors", u64, "backend"), Node("feature", u64, "frontend", 0)]
DISC = Protocol("discif", EchoRequest, EchoResponse, nodes=_NODES)
"""As echo, but its backend must tell a size before anybody connects to it, as a disk's does."""


class DiscFront(EchoFront, protocol=DISC):
    """Its frontend."""


class DiscBack(EchoBack, protocol=DISC):
    """Its backend, which forgets to tell."""

    async def setup(self) -> dict[str, int]:
        return {}


async def use(device: Plugged, text: bytes = b"x") -> None:
    """Has a text upper-cased, which may come to nothing."""
    with suppress(XenlikeError):
        await device.frontend.upper(text)


async def say(machine: Loopback, device: Plugged, rule: str, *words: str) -> Explanation:
    """Lets everybody do what they can, and checks what is said then: by which rule, and with which words."""
    await wait_all_tasks_blocked()
    told = why(machine, device)
    assert told.rule == rule, "\n".join(told.lines())
    for word in words:
        assert word in told.sentence, f"{word!r} is not in {told.sentence!r}"
    assert told.healthy or (told.waits and told.for_whom and told.hint)
    assert told.lines()[0] == told.sentence
    return told
