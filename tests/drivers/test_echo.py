"""The echo driver, end to end in a loopback machine: what it does, and what survives what."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.backends.echo import EchoBack
from xenlike.errors import NoSuchDevice, PeerGone
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import ECHO, EchoRequest
from xenlike.testing import Loopback, MockBackend
from xenlike.xenbus import XenbusState as S


@pytest.fixture
async def machine():
    async with Loopback() as machine:
        yield machine


async def test_text_comes_back_in_capitals(machine):
    echo = (await machine.attach("echo")).frontend
    for text in (b"", b"hello", b"\x00\xff\xe4 mixed 09", b"x" * 4096):
        assert await echo.upper(text) == text.upper()
    with pytest.raises(ValueError, match="4097 bytes are more than the 4096"):
        await echo.upper(b"x" * 4097)


async def test_many_at_once_get_each_their_own(machine):
    device = await machine.attach("echo")
    answers = {}

    async def ask(number):
        answers[number] = await device.frontend.upper(b"text %d" % number)

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(ask, number)
    assert answers == {number: b"TEXT %d" % number for number in range(200)}
    assert device.backend.queue.statistics().requests == 200
    # Eight pages serve them all, each mapped once.
    assert len(device.backend.foreign) == EchoFront.pool_pages


@pytest.mark.parametrize(("layout", "order"), [("xen", 0), ("xen", 3), ("cacheline", 0), ("cacheline", 2)])
async def test_every_ring_that_both_know(layout, order):
    class Front(EchoFront):
        ring_layouts = (layout,)
        ring_page_order = order

    async with Loopback(frontends={"echo": Front}) as machine:
        device = await machine.attach("echo")
        nodes = machine.tree.nodes
        assert nodes.get(f"{device.front_path}/ring-layout", "xen") == layout
        assert (f"{device.front_path}/ring-ref{(1 << order) - 1}" in nodes) == (order > 0)
        assert device.frontend.queue.size == device.backend.queue.size
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(device.frontend.upper, b"x")


async def test_a_backend_that_maps_less_gets_a_smaller_ring():
    class Front(EchoFront):
        ring_page_order = 4

    class Back(EchoBack):
        max_ring_page_order = 1
        ring_layouts = ("xen",)

    async with Loopback(frontends={"echo": Front}, backends={"echo": Back}) as machine:
        device = await machine.attach("echo")
        assert machine.tree.nodes[f"{device.front_path}/ring-page-order"] == "1"
        assert await device.frontend.upper(b"x") == b"X"


async def test_several_devices_and_several_guests(machine):
    other = await machine.add_domain("other")
    devices = [
        await machine.attach("echo", number, guest=guest) for guest in (machine.guest, other) for number in (0, 1)
    ]
    async with trio.open_nursery() as nursery:
        for device in devices:
            for _ in range(20):
                nursery.start_soon(device.frontend.upper, b"x")
    assert [device.backend.queue.statistics().requests for device in devices] == [20] * 4


# Cancellation.


async def test_a_cancelled_request_keeps_its_page_until_the_answer(machine):
    driver = await machine.add_domain("mock", buses=False)
    device = machine.plug("echo", driver=driver)
    peer = MockBackend(machine, device)
    ring = await peer.connect(ECHO)
    echo = device.frontend
    free = len(echo.pages._free)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo.upper, b"never mind")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(echo.pages._free) == free - 1
    named = EchoRequest.unpack(ring.read(0, EchoRequest.__layout__.size)).gref
    assert named not in [page.gref for page in echo.pages._free]
    ring.write(0, ring.read(0, 8) + bytes(8))
    ring.rsp_prod = 1
    ring.channel.notify()
    await wait_all_tasks_blocked()
    assert len(echo.pages._free) == free


async def test_cancelling_at_random_loses_neither_pages_nor_ids(machine):
    device = await machine.attach("echo")
    echo, dice = device.frontend, random.Random(1)

    async def impatient(patience):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo.upper, b"x" * 100)
            for _ in range(patience):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(impatient, dice.randrange(20))
    await wait_all_tasks_blocked()
    assert echo.queue.in_flight == 0
    assert len(echo.pages._free) == EchoFront.pool_pages
    assert await echo.upper(b"still fine") == b"STILL FINE"


# Detach, death and return.


async def keep_asking(echo, text, log):
    while True:
        try:
            assert await echo.upper(text) == text.upper()
            log.append("answer")
        except PeerGone:
            log.append("gone")
            await trio.lowlevel.checkpoint()
        except NoSuchDevice:
            log.append("no device")
            return


async def test_detach_under_load(machine):
    device = await machine.attach("echo")
    log: list[str] = []
    other = await machine.attach("echo", 1)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(keep_asking, device.frontend, b"task %d" % number, log)
        while log.count("answer") < 100:
            await trio.lowlevel.checkpoint()
        with trio.fail_after(20):
            await machine.detach(device)
    # Nobody hangs, and everybody hears why.
    assert log.count("no device") == 20
    assert await other.frontend.upper(b"x") == b"X"
    assert len(machine.guest.memory.windows) == 2
    assert len(machine.driver.grants.mappings) <= 1 + EchoFront.pool_pages


@pytest.mark.parametrize("seed", range(5))
async def test_a_killed_backend_returns_and_every_request_is_answered(machine, seed):
    device, dice = await machine.attach("echo"), random.Random(seed)
    answers = []

    async def ask(number):
        for turn in range(20):
            text = b"%d.%d x" % (number, turn)
            assert await device.frontend.upper(text) == text.upper()
            answers.append(text)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number)
        for _ in range(2):
            for _ in range(dice.randrange(60)):
                await trio.lowlevel.checkpoint()
            await machine.kill(device.back)
            if dice.random() < 0.5:
                await wait_all_tasks_blocked()
            if dice.random() < 0.5:
                machine.mourn(device)
            if dice.random() < 0.5:
                await wait_all_tasks_blocked()
            machine.relink(device, await machine.add_domain("driver again"))
    assert len(answers) == 200
    await wait_all_tasks_blocked()
    # The dead left nothing mapped, and what was shared with them is gone.
    assert len(machine.guest.memory.windows) == 2
    assert len(machine.guest.events.channels) == 1


async def test_requests_in_flight_when_the_backend_dies(machine):
    class Slow(EchoBack):
        async def handle(self, request):
            await trio.sleep_forever()

    machine.driver.backends.drivers["echo"] = Slow
    device = await machine.attach("echo")
    device.frontend.on_peer_gone = "fail"
    errors = []

    async def ask():
        try:
            await device.frontend.upper(b"x")
        except PeerGone as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(20):  # more than there are pages
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await machine.kill(machine.driver)
    assert len(errors) == 20
    with pytest.raises(PeerGone, match="is gone"):
        await device.frontend.upper(b"x")
    machine.relink(device, await machine.add_domain("driver again"))
    await device.wait_connected()
    assert await device.frontend.upper(b"x") == b"X"


async def test_a_killed_guest_leaves_the_backend_and_the_others_alone(machine):
    other = await machine.add_domain("other")
    dying, living = await machine.attach("echo"), await machine.attach("echo", guest=other)
    async with trio.open_nursery() as nursery:
        log: list[str] = []
        nursery.start_soon(keep_asking, dying.frontend, b"x", log)
        while len(log) < 10:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    mapped = len(machine.driver.grants.mappings)
    await machine.kill(machine.guest)
    await machine.wait_until(lambda: dying.states()[1] is S.Closed)
    assert len(machine.driver.grants.mappings) < mapped
    assert await living.frontend.upper(b"x") == b"X"


async def test_a_backend_that_hangs_up_in_mid_handshake(machine):
    driver = await machine.add_domain("mock", buses=False)
    device = machine.plug("echo", driver=driver)
    peer = MockBackend(machine, device)
    await peer.say(S.InitWait)
    await peer.hear(S.Initialised)
    await machine.kill(driver)
    await wait_all_tasks_blocked()
    assert machine.guest.memory.windows == {}
    machine.relink(device, machine.driver)
    await device.wait_connected()
    assert await device.frontend.upper(b"x") == b"X"


async def test_a_frontend_whose_backend_domain_is_dead_from_the_start(machine):
    await machine.kill(machine.driver)
    device = machine.plug("echo")
    MockBackend(machine, device)
    machine.tree.write(f"{device.back_path}/state", "2")
    await wait_all_tasks_blocked()
    assert device.states()[0] is S.Initialising
    machine.relink(device, await machine.add_domain("driver"))
    await device.wait_connected()


async def test_a_backend_that_dies_while_its_frontend_connects(machine, nursery):
    # The hang-up comes while `connect` waits: nobody may be told that the device is ready.
    class Front(EchoFront):
        async def connect(self):
            if machine.driver.alive:
                await machine.kill(machine.driver)
                await wait_all_tasks_blocked()

    machine.guest.frontends.drivers["echo"] = Front
    device = machine.plug("echo")
    await wait_all_tasks_blocked()
    frontend, answers = device.frontend, []

    async def ask():
        answers.append(await frontend.upper(b"x"))

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    assert not machine.driver.alive
    assert answers == []
    assert not frontend.connected
    machine.relink(device, await machine.add_domain("driver again"))
    await device.wait_connected()
    await wait_all_tasks_blocked()
    assert answers == [b"X"]
