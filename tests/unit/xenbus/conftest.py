"""A pair of queues over one ring, without devices around them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from xenlike.io.echo import ECHO, EchoRequest, EchoResponse
from xenlike.ring import BackRing, FrontRing
from xenlike.testing import FakeDomain, FakeTree, RawRing
from xenlike.testing.fakedomain import FakeChannel
from xenlike.xenbus import BackQueue, FrontQueue


@dataclass
class Ends:
    """Both ends of one ring; a test uses the queue of one end and either of the other."""

    front_domain: FakeDomain
    back_domain: FakeDomain
    front: FrontQueue[EchoRequest, EchoResponse]
    front_channel: FakeChannel
    back_channel: FakeChannel
    page: memoryview
    failures: list[Exception] = field(default_factory=list)

    def back_queue(self, **options: int) -> BackQueue[EchoRequest, EchoResponse]:
        ring = BackRing(self.page, "xen", ECHO.request_size, ECHO.response_size, domid=2)
        return BackQueue(ring, self.back_channel, ECHO, **options)

    def raw(self) -> RawRing:
        return RawRing(self.page, ECHO, self.back_channel)


@pytest.fixture(params=[0, (1 << 32) - 9], ids=["from 0", "near 2^32"])
async def ends(request):
    tree = FakeTree()
    domains: dict[int, FakeDomain] = {}
    back = FakeDomain(domains, tree, 1, "back")
    front = FakeDomain(domains, tree, 2, "front")
    window = front.memory.alloc(1, 1)
    channel = front.events.alloc_unbound(1)
    back_channel = back.events.bind(2, channel.port)
    ring = FrontRing(window.buffer, "xen", ECHO.request_size, ECHO.response_size, first_index=request.param, domid=1)
    failures: list[Exception] = []
    queue: FrontQueue[EchoRequest, EchoResponse] = FrontQueue(ring, channel, ECHO, failures.append)
    yield Ends(front, back, queue, channel, back_channel, window.buffer, failures)
    queue.close(RuntimeError("the test is over"))
    for domain in domains.values():
        domain.die()
