"""Laws of the random-number driver: every byte is fresh, nobody gets more than the budget, no lie goes unnoticed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.drivers import example_guests
from tests.drivers.example_machine import machine_with
from xenlike import Device
from xenlike.backends.rng import BURST, Budget
from xenlike.errors import NoSuchDevice, PeerGone, ProtocolError, RequestFailed
from xenlike.frontends.rng import RngFront, exercise
from xenlike.io.rng import DRIVER, RNG, RNGIF_RSP_ERROR, RNGIF_RSP_OKAY, RngRequest, RngResponse
from xenlike.testing import Loopback, MockBackend, MockFrontend, check_driver_sync
from xenlike.xenbus import XenbusState as S

UNLIMITED = {"rate": "0"}


@pytest.fixture
async def machine():
    async with Loopback() as machine:
        yield machine


# What it does.


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4096, 4097, 100_000])
async def test_there_are_as_many_bytes_as_were_asked_for_and_never_the_same(machine, size):
    rng = (await machine.attach("rng")).frontend
    one, two = await rng.read(size), await rng.read(size)
    assert len(one) == len(two) == size
    assert one != two or size < 8


async def test_every_byte_is_the_backends_copied_right(machine, monkeypatch):
    given: list[bytes] = []

    def entropy(size):
        given.append(random.Random(len(given)).randbytes(size))
        return given[-1]

    monkeypatch.setattr("xenlike.backends.rng.os.urandom", entropy)
    rng = (await machine.attach("rng")).frontend
    assert await rng.read(10_000) == b"".join(given)
    assert [len(piece) for piece in given] == [4096, 4096, 1808]


async def test_many_at_once_get_each_their_own(machine):
    device = await machine.attach("rng", back_nodes=UNLIMITED)
    found = []

    async def read():
        found.append(await device.frontend.read(1000))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(read)
    assert len(set(found)) == 50
    # Eight pages serve them all, each mapped once.
    assert len(device.backend.foreign) == RngFront.pool_pages


async def test_a_negative_number_of_bytes_is_an_error(machine):
    rng = (await machine.attach("rng")).frontend
    with pytest.raises(ValueError, match="-1 is no number of bytes"):
        await rng.read(-1)


async def test_a_smaller_limit_is_kept(machine):
    device = machine.plug("rng", driver=await machine.add_domain("mock", buses=False))
    ring = await MockBackend(machine, device).connect(RNG, {"max-bytes": "100"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(device.frontend.read, 1000)
        await wait_all_tasks_blocked()
        assert RngRequest.unpack(ring.read(0, 16)).size == 100
        nursery.cancel_scope.cancel()


# The budget.


def test_a_budget_is_a_burst_and_then_a_rate():
    budget = Budget(rate=100, burst=50, now=10.0)
    assert budget.take(50, 10.0) == 0
    assert budget.take(100, 10.0) == 1.0
    assert budget.take(0, 11.0) == 0
    # A long silence is not worth more than the burst.
    assert budget.take(50, 1000.0) == 0
    assert budget.take(1, 1000.0) == 0.01


def test_no_rate_is_no_limit():
    assert Budget(rate=0, burst=0, now=0.0).take(1 << 40, 0.0) == 0


async def test_who_has_used_up_the_budget_waits_and_nobody_else(mock_clock: MockClock):
    async with Loopback() as machine:
        slow = await machine.attach("rng", back_nodes={"rate": "4096"})
        other = await machine.attach("rng", 1, back_nodes={"rate": "0"})
        assert len(await slow.frontend.read(BURST)) == BURST
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.frontend.read, 4096)
            await wait_all_tasks_blocked()
            assert slow.backend.queue.statistics().unanswered == 1
            assert len(await other.frontend.read(10 * BURST)) == 10 * BURST
            assert slow.backend.queue.statistics().unanswered == 1
            mock_clock.jump(1.0)
        assert slow.backend.queue.statistics().unanswered == 0


async def test_connecting_again_brings_no_new_budget(mock_clock: MockClock):
    async with Loopback() as machine:
        device = await machine.attach("rng", back_nodes={"rate": "4096"})
        await device.frontend.read(BURST)
        await device.frontend.quiesce()
        await device.frontend.revive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(device.frontend.read, 4096)
            await wait_all_tasks_blocked()
            assert device.backend.queue.statistics().unanswered == 1
            mock_clock.jump(1.0)


@pytest.mark.parametrize("rate", ["-1", "many", "4294967296"])
async def test_a_rate_that_is_none_is_reported(machine, rate):
    device = machine.plug("rng", back_nodes={"rate": rate})
    await machine.wait_until(lambda: f"{device.back.home}/error/backend/rng/2/0/error" in machine.tree.nodes)
    assert "rate = " in machine.tree.nodes[f"{device.back.home}/error/backend/rng/2/0/error"]


# A hostile backend.


async def answers(machine, script):
    """Reads 32 bytes from a backend that does what `script(page, request)` does; it returns size and status."""
    driver = await machine.add_domain("mock", buses=False)
    device = machine.plug("rng", driver=driver)
    peer = MockBackend(machine, device)
    ring = await peer.connect(RNG)
    results = []

    async def read():
        try:
            results.append(await device.frontend.read(32))
        except Exception as error:
            results.append(error)

    async def serve():
        while True:
            await ring.channel.wait()
            while ring.rsp_prod != ring.req_prod:
                request = RngRequest.unpack(ring.read(ring.rsp_prod, 16))
                mapping = driver.grants.map(device.front.domid, [request.gref])
                size, status = script(mapping.pages[0], request)
                ring.write(ring.rsp_prod, RngResponse(id=request.id, size=size, status=status).pack())
                ring.rsp_prod += 1
                ring.req_event = ring.req_prod + 1
                ring.channel.notify()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.fail_after(20):
            await read()
            await read()
        nursery.cancel_scope.cancel()
    return results


async def test_a_page_that_was_not_filled_is_not_handed_out(machine, monkeypatch):
    """Neither as zeros, nor with what it held before: the page is wiped, so nothing else can be in it."""
    seen = []

    def script(page, request):
        seen.append(bytes(page[:32]))
        if len(seen) == 1:
            page[:32] = random.Random(1).randbytes(32)
        return request.size, RNGIF_RSP_OKAY

    monkeypatch.setattr(RngFront, "pool_pages", 1)
    good, bad = await answers(machine, script)
    assert good == random.Random(1).randbytes(32)
    assert isinstance(bad, RequestFailed)
    assert "zero bytes in a row" in str(bad)
    assert seen == [bytes(32)] * 2


async def test_a_source_that_repeats_itself_is_refused(machine):
    def script(page, request):
        page[:32] = bytes(range(32))
        return request.size, RNGIF_RSP_OKAY

    good, bad = await answers(machine, script)
    assert good == bytes(range(32))
    assert isinstance(bad, RequestFailed)
    assert "came twice" in str(bad)


async def test_a_short_answer_is_asked_to_be_completed(machine):
    dice = random.Random(1)
    given = []

    def script(page, request):
        given.append(dice.randbytes(min(20, request.size)))
        page[: len(given[-1])] = given[-1]
        return len(given[-1]), RNGIF_RSP_OKAY

    one, two = await answers(machine, script)
    assert one + two == (given[0] + given[1])[:32] + (given[2] + given[3])[:32]


@pytest.mark.parametrize(
    ("size", "status", "kind"),
    [
        (33, RNGIF_RSP_OKAY, ProtocolError),
        (65535, RNGIF_RSP_OKAY, ProtocolError),
        (0, RNGIF_RSP_OKAY, ProtocolError),
        (32, RNGIF_RSP_ERROR, RequestFailed),
        (0, 77, RequestFailed),
    ],
)
async def test_an_answer_beyond_what_was_asked_is_refused(machine, size, status, kind):
    def script(page, request):
        page[:] = random.Random().randbytes(4096)
        return size, status

    assert [type(result) for result in await answers(machine, script)] == [kind] * 2


async def test_a_limit_of_nothing_does_not_loop_for_ever(machine):
    device = machine.plug("rng", driver=await machine.add_domain("mock", buses=False))
    await MockBackend(machine, device).connect(RNG, {"max-bytes": "0"})
    with pytest.raises(ProtocolError, match="leaves nothing to ask for"):
        await device.frontend.read(1)


# A hostile frontend.


@pytest.mark.parametrize("size", [0, 4097, 65535])
async def test_a_length_that_was_not_offered_is_an_error_status(machine, size):
    device = machine.plug("rng", guest=await machine.add_domain("mock", buses=False))
    peer = MockFrontend(machine, device)
    ring = await peer.connect(RNG)
    ring.write(0, RngRequest(id=7, gref=99, size=size).pack())
    ring.req_prod += 1
    ring.channel.notify()
    await ring.channel.wait()
    response = RngResponse.unpack(ring.read(0, 16))
    assert (response.id, response.status) == (7, RNGIF_RSP_ERROR)
    assert peer.heard() == S.Connected


@pytest.mark.parametrize("gref", [0, 99, 2**32 - 1])
async def test_a_page_that_was_not_granted_ends_this_connection_only(machine, gref):
    other = await machine.attach("rng")
    device = machine.plug("rng", 1, guest=await machine.add_domain("mock", buses=False))
    peer = MockFrontend(machine, device)
    ring = await peer.connect(RNG)
    ring.write(0, RngRequest(id=7, gref=gref, size=16).pack())
    ring.req_prod += 1
    ring.channel.notify()
    await peer.hear(S.Closing)
    assert len(await other.frontend.read(16)) == 16


# Cancellation, death, detach.


@pytest.mark.parametrize("seed", range(5))
async def test_a_killed_backend_returns_and_every_read_is_complete(machine, seed):
    device, dice = await machine.attach("rng", back_nodes=UNLIMITED), random.Random(seed)
    found = []

    async def read():
        found.extend([await device.frontend.read(10_000) for _ in range(5)])

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(read)
        for _ in range(2):
            for _ in range(dice.randrange(60)):
                await trio.lowlevel.checkpoint()
            await machine.kill(device.back)
            machine.relink(device, await machine.add_domain("driver again"), UNLIMITED)
    assert {len(data) for data in found} == {10_000}
    assert len(set(found)) == 50


async def test_cancelling_at_random_loses_no_page(machine):
    device, dice = await machine.attach("rng", back_nodes=UNLIMITED), random.Random(1)

    async def impatient(patience):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(device.frontend.read, 5000)
            for _ in range(patience):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(impatient, dice.randrange(20))
    await wait_all_tasks_blocked()
    assert device.frontend.queue.in_flight == 0
    assert len(device.frontend.pages._free) == RngFront.pool_pages


async def test_detach_under_load(machine):
    device = await machine.attach("rng", back_nodes={"rate": "1000"})
    ends = []

    async def read():
        with pytest.raises(NoSuchDevice):
            while True:
                await device.frontend.read(BURST)
        ends.append("no device")

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(read)
        await wait_all_tasks_blocked()
        with trio.fail_after(20):
            await machine.detach(device)
    assert len(ends) == 20
    assert machine.guest.memory.windows == {}
    assert machine.driver.grants.mappings == set()


async def test_who_does_not_want_to_wait_hears_of_the_death(machine):
    device = await machine.attach("rng", back_nodes={"rate": "1"})
    device.frontend.on_peer_gone = "fail"
    async with trio.open_nursery() as nursery:

        async def read():
            with pytest.raises(PeerGone):
                await device.frontend.read(2 * BURST)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await machine.kill(machine.driver)


async def test_its_exercise(machine):
    device = await machine.attach("rng")
    for seed in range(5):
        await exercise(device.frontend, random.Random(seed))


@pytest.mark.slow
def test_it_keeps_the_laws_of_every_driver():
    report = check_driver_sync(DRIVER)
    report.verify()
    assert len(report.outcomes) > 40


@pytest.mark.system
async def test_in_processes_of_their_own(tmp_path: Path) -> None:
    async with machine_with("rng", tmp_path) as (machine, heard):
        rng = Device("rng", backend="driver", nodes={"rate": 0})
        guest = await machine.spawn("guest", example_guests.takes_entropy, devices=[rng])
        assert (await guest.wait()).reason == "poweroff"
        assert "read 10000 pid" in heard.text["guest"]
        assert "done" in heard.text["guest"]
