"""Devices that end, or have: what is awaited then, and what made them give up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.unit.why.stuck import say, use
from xenlike.errors import GrantBusy
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import ECHO
from xenlike.xenbus import XenbusState as S


@pytest.fixture
def both(mocks, machine):
    """Says the states of two mock halves, and what is told of them."""
    front, back = mocks

    async def both(ours, theirs, rule, *words, online="1"):
        machine.tree.write(f"{back.path}/online", online)
        await front.say(ours)
        await back.say(theirs)
        return await say(machine, front.device, rule, *words)

    return both


async def test_a_frontend_that_does_not_close(both):
    words = ("driver waits: backend d4 is Closing and frontend d3 is still Connected",)
    assert (await both(S.Connected, S.Closing, "frontend-does-not-close", *words)).for_whom == "frontend d3"


@pytest.mark.parametrize("theirs", [S.Closing, S.Connected])
async def test_a_backend_that_does_not_close(both, theirs):
    words = (f"guest waits: frontend d3 is Closed and backend d4 is still {theirs.name}",)
    assert (await both(S.Closed, theirs, "backend-does-not-close", *words)).for_whom == "backend d4"


async def test_a_device_that_nobody_links_again(both):
    told = await both(S.Closed, S.Closed, "nobody-relinks", "frontend d3 and backend d4 are both Closed, and nobody")
    assert told.for_whom == "the toolstack"


async def test_a_frontend_that_waits_for_another_backend(machine):
    device = await machine.attach("echo")
    driver = await machine.add_domain("other", buses=False)
    await machine.kill(machine.driver)
    machine.mourn(device)
    await say(machine, device, "backend-dead", "has crashed")
    # Its successor has the number, and has not been told to serve the device.
    device.back = driver
    path = f"{driver.home}/backend/echo/2/0"
    nodes = {"frontend": device.front_path, "frontend-id": "2", "state": "6"}
    for name, text in nodes.items():
        machine.tree.write(f"{path}/{name}", text)
    device.back_path = path
    machine.tree.write(f"{device.front_path}/backend", path)
    machine.tree.write(f"{device.front_path}/backend-id", "3")
    await say(machine, device, "backend-closed", "backend d3 is Closed, and frontend d2", "waits to be linked")


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (S.Connected, S.Connected, "backend d4 is still Connected"),
        (S.Connected, S.Closing, "frontend d3 is still Connected"),
        (S.Closing, S.Closing, "frontend d3 is not Closed yet"),
        (S.Closed, S.Closing, "backend d4 is not Closed yet"),
        (S.Closed, S.Closed, "both ends are Closed"),
    ],
)
async def test_a_device_that_is_taken_away(both, ours, theirs, words):
    await both(ours, theirs, "going-away", "online = 0", words, online="0")


async def test_states_that_do_not_follow_from_each_other(both):
    await both(S.Reconfiguring, S.InitWait, "unknown", "frontend d3 is Reconfiguring and backend d4 is InitWait")


# Who gave up.


async def test_a_backend_whose_handler_raised(machine):
    device = await machine.attach("echo")

    async def handle(request):
        raise RuntimeError("no paper left")

    device.backend.handle = handle
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, device)
        told = await say(machine, device, "backend-fatal", "guest waits: backend d1 gave up", "no paper left")
        assert told.for_whom == "backend d1"
        nursery.cancel_scope.cancel()


async def test_a_frontend_whose_setup_raised(machine):
    class Clumsy(EchoFront):
        async def setup(self):
            raise RuntimeError("no ink left")

    machine.guest.frontends.drivers["echo"] = Clumsy
    await say(machine, machine.plug("echo"), "frontend-fatal", "guest waits: frontend d2 gave up", "no ink left")


async def test_pages_that_a_backend_of_before_keeps_mapped(machine, autojump_clock):
    class Attached(EchoFront):
        async def setup(self):
            raise GrantBusy(16, "grant 9 is still mapped by its peer")

    machine.guest.frontends.drivers["echo"] = Attached
    device = machine.plug("echo")
    await device.wait_states(S.Closed, S.Closed)
    await say(machine, device, "grant-busy", "frontend d2 gave up: grant 9 is still mapped by its peer")


# Who broke the ring.


async def test_a_backend_whose_index_is_impossible(against_frontend, machine):
    ring = await against_frontend.connect(ECHO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, against_frontend.device)
        await wait_all_tasks_blocked()
        ring.rsp_prod = 1000
        ring.channel.notify()
        words = ("guest waits: backend d3 broke the ring: rsp_prod ran ahead to 1000 when 0 had been read",)
        told = await say(machine, against_frontend.device, "ring-broken", *words)
        assert told.for_whom == "backend d3"
        nursery.cancel_scope.cancel()


async def test_a_frontend_whose_index_is_impossible(against_backend, machine):
    ring = await against_backend.connect(ECHO)
    ring.req_prod = 0xFFFF_FF00
    ring.channel.notify()
    words = ("driver waits: frontend d3 broke the ring: req_prod", "4294967040 when 0 had been read")
    assert (await say(machine, against_backend.device, "ring-broken", *words)).for_whom == "frontend d3"
