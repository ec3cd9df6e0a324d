"""Rings that stand still: who published, who was told, who sleeps, and how many requests it is about."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.unit.why.stuck import say, use
from xenlike.backends.echo import EchoBack
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import ECHO, EchoRequest, EchoResponse
from xenlike.testing import MockFrontend
from xenlike.toolstack.why import Evidence, explain
from xenlike.toolstack.why.evidence import DomainFacts, End, QueueFacts

REQUEST = EchoRequest().pack().ljust(ECHO.request_size, b"\0")


class Deaf(EchoBack):
    """Takes requests and answers none."""

    async def handle(self, request: EchoRequest) -> EchoResponse:
        await trio.sleep_forever()
        raise AssertionError


@pytest.fixture
async def device(machine):
    device = await machine.attach("echo")
    await use(device)
    await wait_all_tasks_blocked()
    return device


@pytest.fixture
async def deaf(machine):
    machine.driver.backends.drivers["echo"] = Deaf
    return await machine.attach("echo")


async def test_a_request_that_was_published_and_never_announced(device, machine):
    device.frontend.queue._ring.push(REQUEST * 2, 2)
    words = ("driver waits: frontend d2 has published 2 requests and told nobody: req_prod = 3, last kick at 1",)
    assert (await say(machine, device, "request-not-kicked", *words)).for_whom == "frontend d2"


async def test_a_notification_of_requests_that_was_lost(device, machine):
    ring = device.frontend.queue._ring
    ring.push(REQUEST, 1)
    assert ring.kick()  # and nobody writes to the event channel
    words = ("guest waits: backend d1 sleeps on 1 request", "woken at 2, and req_prod is 2", "frontend d2 was lost")
    await say(machine, device, "request-wakeup-lost", *words)


async def test_a_backend_that_does_not_look_and_has_not_asked(machine):
    class Absent(EchoBack):
        async def serve(self, queue):
            await trio.sleep_forever()

    machine.driver.backends.drivers["echo"] = Absent
    device = await machine.attach("echo")
    ring = device.frontend.queue._ring
    # An end that never armed has the event that the ring was made with, which is the first request.
    ring.push(REQUEST, 1)
    ring.kick_fd(device.frontend.queue._channel.tx_fd)
    words = ("guest waits: backend d1 leaves 1 request in the ring, and has not asked to be woken",)
    await say(machine, device, "request-overlooked", *words)


async def test_a_handler_that_never_answers(deaf, machine):
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(use, deaf)
        words = ("guest waits: backend d1 has taken 3 requests and has not answered",)
        told = await say(machine, deaf, "handler-stuck", *words)
        assert told.for_whom == "backend d1"
        assert told.evidence.front.queue is not None
        assert told.evidence.front.queue.unanswered == 3
        nursery.start_soon(use, deaf)
        await say(machine, deaf, "handler-stuck", "has taken 3 requests", "1 more wait in the ring")
        nursery.cancel_scope.cancel()


async def test_since_when_a_handler_is_stuck_is_told_while_rings_are_traced(deaf, machine):
    machine.driver.recorder.mask |= 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, deaf)
        await say(machine, deaf, "handler-stuck", "has taken 1 request and", "it took the last one 0.")
        nursery.cancel_scope.cancel()


async def test_a_full_ring(deaf, machine):
    async with trio.open_nursery() as nursery:
        size = deaf.frontend.queue.size
        nursery.start_soon(deaf.frontend.queue.submit_raw, REQUEST * (size + 1), size + 1)
        words = (f"the ring is full: all {size} requests are in flight, and backend d1 has taken {size} of them",)
        await say(machine, deaf, "ring-full", *words)
        nursery.cancel_scope.cancel()


async def test_a_response_that_was_published_and_never_announced(machine):
    class Quiet(EchoBack):
        async def handle(self, request):
            self.queue.respond_raw(EchoResponse(id=request.id).pack(), 1)
            await trio.sleep_forever()

    machine.driver.backends.drivers["echo"] = Quiet
    device = await machine.attach("echo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, device)
        words = ("guest waits: backend d1 has published 1 response and told nobody: rsp_prod = 1, last kick at 0",)
        assert (await say(machine, device, "response-not-kicked", *words)).for_whom == "backend d1"
        nursery.cancel_scope.cancel()


async def test_a_notification_of_responses_that_was_lost(machine):
    class Lossy(EchoBack):
        async def handle(self, request):
            self.queue.respond_raw(EchoResponse(id=request.id).pack(), 1)
            self.queue._ring.kick()
            await trio.sleep_forever()

    machine.driver.backends.drivers["echo"] = Lossy
    device = await machine.attach("echo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, device)
        words = (
            "driver waits: frontend d2 sleeps on 1 response",
            "rsp_prod is 1",
            "notification of backend d1 was lost",
        )
        await say(machine, device, "response-wakeup-lost", *words)
        nursery.cancel_scope.cancel()


async def test_a_frontend_that_does_not_look_and_has_not_asked(device, machine):
    async def handle(request):
        return EchoResponse()

    device.backend.handle = handle
    # Behind its queue's back, which would arm the ring for it.
    ring = device.frontend.queue._ring
    ring.push(REQUEST, 1)
    ring.kick_fd(device.frontend.queue._channel.tx_fd)
    words = ("driver waits: frontend d2 leaves 1 response in the ring, and has not asked to be woken",)
    await say(machine, device, "response-overlooked", *words)


async def test_a_backend_of_which_nothing_is_recorded(against_frontend, machine):
    await against_frontend.connect(ECHO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, against_frontend.device)
        words = ("guest waits: backend d3 has not answered 1 request",)
        await say(machine, against_frontend.device, "backend-silent", *words)
        nursery.cancel_scope.cancel()


async def test_a_frontend_of_which_nothing_is_recorded(machine, against_backend):
    machine.driver.backends.drivers["echo"] = Deaf
    guest = await machine.add_domain("c", buses=False)
    front = MockFrontend(machine, machine.plug("echo", 1, guest=guest))
    ring = await front.connect(ECHO)
    ring.write(0, REQUEST)
    ring.req_prod = 1
    ring.channel.notify()
    await say(machine, front.device, "frontend-silent", "backend d1 has taken 1 request and has not answered")


async def test_all_pages_of_a_pool_are_taken(device, machine):
    async def keep():
        async with device.frontend.pages.take():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(EchoFront.pool_pages + 2):
            nursery.start_soon(keep)
        words = ("guest waits: 2 tasks of it wait for a page of the pool of frontend d2, all pages are taken",)
        assert (await say(machine, device, "pages-taken", *words)).for_whom == "frontend d2"
        nursery.cancel_scope.cancel()


# From evidence alone: what a test cannot do to a real ring.


def connected(front: QueueFacts | None, back: QueueFacts | None, **more: float) -> Evidence:
    path = {"frontend": "/local/domain/2/device/echo/0", "backend": "/local/domain/1/backend/echo/2/0"}
    ends = {}
    for side, other, domid, peer, queue in (
        ("frontend", "backend", 2, 1, front),
        ("backend", "frontend", 1, 2, back),
    ):
        nodes = {"state": "4", other: path[other], f"{other}-id": str(peer)}
        ends[side] = End(side, DomainFacts(domid), path[side], nodes, queue=queue)  # type: ignore[arg-type]
    return Evidence("guest/echo/0", "echo", ends["frontend"], ends["backend"], **more)  # type: ignore[arg-type]


LAST = (1 << 32) - 1
QUEUE = QueueFacts(1, True, 32, prod=LAST, kicked=LAST, cons=LAST, armed=0)


def test_a_device_is_moving_whatever_its_indices_are_at_the_moment() -> None:
    front = msgspec.structs.replace(QUEUE, prod=3, kicked=LAST)
    told = explain(connected(front, QUEUE, answered=1234, watched_s=0.2))
    assert told.rule == "moving"
    assert told.sentence == "connected and moving: 1,234 requests answered in 0.2 s"
    assert told.healthy


def test_indices_go_on_across_the_wrap() -> None:
    front = msgspec.structs.replace(QUEUE, prod=3, kicked=3)
    told = explain(connected(front, QUEUE))
    assert told.rule == "request-wakeup-lost"
    assert "sleeps on 4 requests" in told.sentence
    back = msgspec.structs.replace(QUEUE, cons=3, armed=4)
    told = explain(connected(front, back))
    assert told.rule == "handler-stuck"
    assert "has taken 4 requests" in told.sentence


def test_a_ring_that_is_no_longer_used_explains_nothing() -> None:
    gone = msgspec.structs.replace(QUEUE, in_use=False, prod=7)
    assert explain(connected(gone, gone)).rule == "idle"


def test_nothing_can_be_seen_of_two_ends_without_recorders() -> None:
    told = explain(connected(None, None))
    assert told.healthy
    assert "neither end keeps a record" in told.sentence


def test_an_error_of_the_past_explains_nothing() -> None:
    """An error node outlives the connection that it is about."""
    told = explain(with_error(connected(QUEUE, QUEUE), "4", "4"))
    assert told.rule == "idle"
    told = explain(with_error(connected(None, None), "1", "2"))
    assert told.rule == "frontend-not-begun"


def with_error(evidence: Evidence, front: str, back: str) -> Evidence:
    ends = {}
    for side, state in (("front", front), ("back", back)):
        end = getattr(evidence, side)
        domain = msgspec.structs.replace(end.domain, looked=True, begun=True)
        nodes = {**end.nodes, "state": state}
        ends[side] = msgspec.structs.replace(end, nodes=nodes, domain=domain, error="it was so long ago")
    return msgspec.structs.replace(evidence, **ends)


def test_an_answer_that_nobody_was_told_of_comes_before_those_that_are_not_given() -> None:
    front = msgspec.structs.replace(QUEUE, prod=2, kicked=2, cons=0)
    back = msgspec.structs.replace(QUEUE, prod=1, kicked=0, cons=2)
    assert explain(connected(front, back)).rule == "response-not-kicked"
