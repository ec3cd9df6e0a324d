"""Laws of the sensor driver against peers that lie: about pages, ports, indices, and what an event means."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike._core import SharedWord
from xenlike.errors import NoSuchDevice, ProtocolError
from xenlike.io.sensor import (
    SENSOR,
    SENSORIF_OP_RATE,
    SENSORIF_OP_START,
    SENSORIF_OP_STOP,
    SENSORIF_RSP_ERROR,
    SENSORIF_RSP_OKAY,
    SENSORIF_STREAM_PAGES,
    SensorRequest,
    SensorResponse,
)
from xenlike.testing import Loopback, MockBackend, MockFrontend
from xenlike.xenbus import XenbusState as S

ENTRY = SENSOR.entry_size
REQ_PROD, RSP_PROD = 0, 8
"""Offsets of the producer's and the consumer's index in the stream's first page."""


def set_index(stream, offset, value):
    word = SharedWord(stream, offset)
    word.set(value)
    word.close()


@pytest.fixture
async def machine():
    async with Loopback() as machine:
        yield machine


# A hostile frontend.


class Guest:
    """A frontend without manners: its ring, its stream, and the nodes that tell of the stream."""

    def __init__(self, machine):
        self.machine = machine

    async def plug(self):
        mock = await self.machine.add_domain("mock", buses=False)
        self.device = self.machine.plug("sensor", guest=mock)
        self.peer = MockFrontend(self.machine, self.device)
        driver = self.device.back.domid
        self.window = mock.memory.alloc(driver, SENSORIF_STREAM_PAGES)
        pfns = range(self.window.pfn, self.window.pfn + SENSORIF_STREAM_PAGES)
        self.channel = mock.events.alloc_unbound(driver)
        self.nodes = {f"stream-ref{n}": str(mock.grants.grant(pfn, driver)) for n, pfn in enumerate(pfns)}
        self.nodes["stream-channel"] = str(self.channel.port)
        return self

    async def connect(self):
        self.ring = await self.peer.connect(SENSOR, self.nodes)
        return self

    async def refused(self, **nodes):
        """Connects with other nodes; returns what the backend says to that."""
        await self.peer.hear(S.InitWait)
        _, ours = self.peer.share_ring(SENSOR)
        self.nodes |= {name.replace("_", "-"): text for name, text in nodes.items()}
        await self.peer.say(S.Initialised, {**ours, **self.nodes})
        await self.peer.hear(S.Closing)
        return self.said()

    def said(self):
        return self.machine.tree.nodes[
            f"{self.device.back.home}/error/backend/sensor/{self.device.front.domid}/0/error"
        ]

    async def ask(self, **members):
        at = self.ring.rsp_prod
        self.ring.write(self.ring.req_prod, SensorRequest(**members).pack())
        self.ring.req_prod += 1
        self.ring.channel.notify()
        with trio.fail_after(20):
            while self.ring.rsp_prod == at:
                self.ring.rsp_event = at + 1
                await self.ring.channel.wait()
        return SensorResponse.unpack(self.ring.read(at, ENTRY))


@pytest.fixture
async def guest(machine):
    return await Guest(machine).plug()


async def nothing_left(guest):
    """Neither pages nor ports, whatever the connection got to before it failed."""
    await guest.peer.say(S.Closed)
    await guest.peer.hear(S.Closed, S.InitWait)
    assert guest.device.back.grants.mappings == set()
    assert guest.device.back.events.channels == {}


@pytest.mark.parametrize("text", ["", "many", "-1", "4294967296"])
async def test_a_node_that_is_no_reference_is_refused(guest, text):
    assert "stream-ref2" in await guest.refused(stream_ref2=text)
    await nothing_left(guest)


async def test_a_page_that_was_not_granted_is_refused(guest):
    assert "grant 999" in await guest.refused(stream_ref3="999")
    await nothing_left(guest)


async def test_pages_out_of_order_are_refused(guest):
    one, two = guest.nodes["stream-ref0"], guest.nodes["stream-ref1"]
    assert "not consecutive" in await guest.refused(stream_ref0=two, stream_ref1=one)
    await nothing_left(guest)


@pytest.mark.parametrize("port", ["0", "999", "4294967295"])
async def test_a_port_that_is_none_is_refused(guest, port):
    assert "EVTCHNOP_bind_interdomain" in await guest.refused(stream_channel=port)
    await nothing_left(guest)


@pytest.mark.parametrize(
    "members",
    [
        {"operation": SENSORIF_OP_START, "rate": 0},
        {"operation": SENSORIF_OP_START, "rate": 10_001},
        {"operation": SENSORIF_OP_START, "rate": 2**32 - 1},
        {"operation": SENSORIF_OP_RATE, "rate": 100},
        {"operation": SENSORIF_OP_STOP, "rate": 10_001},
        {"operation": 3, "rate": 100},
        {"operation": 255},
    ],
)
async def test_nonsense_is_an_error_status(guest, members):
    await guest.connect()
    assert (await guest.ask(**members)).status == SENSORIF_RSP_ERROR
    assert guest.device.backend._rate == 0
    assert guest.peer.heard() == S.Connected


@pytest.mark.parametrize("ahead", [5000, 2**31])
async def test_a_consumer_that_has_read_what_was_not_written_is_broken_off(guest, ahead):
    await guest.connect()
    # Before it starts: where its index is wrong from the first look on.
    set_index(guest.window.buffer, RSP_PROD, ahead)
    assert (await guest.ask(operation=SENSORIF_OP_START, rate=1000)).status == SENSORIF_RSP_OKAY
    await guest.peer.hear(S.Closing)
    assert "ring broken: the consumer's index" in guest.said()
    await nothing_left(guest)


async def test_a_guest_that_never_reads_costs_a_counter(mock_clock):
    async with Loopback() as machine:
        guest = await (await Guest(machine).plug()).connect()
        await guest.ask(operation=SENSORIF_OP_START, rate=10_000)
        for _ in range(5):
            mock_clock.jump(1000)
            await wait_all_tasks_blocked()
        response = await guest.ask(operation=SENSORIF_OP_STOP)
        assert response.taken == 50_000_000
        assert response.lost == 50_000_000 - guest.device.backend._producer.size


async def test_a_guest_that_hangs_up_the_stream_alone_gets_its_requests_answered(mock_clock):
    async with Loopback() as machine:
        guest = await (await Guest(machine).plug()).connect()
        await guest.ask(operation=SENSORIF_OP_START, rate=1000)
        guest.channel.close()
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert (await guest.ask(operation=SENSORIF_OP_STOP)).status == SENSORIF_RSP_OKAY


# A hostile backend.


class Host:
    """A backend without manners, which takes the pages and the port of the stream."""

    def __init__(self, machine):
        self.machine = machine

    async def connect(self):
        driver = await self.machine.add_domain("mock", buses=False)
        self.device = self.machine.plug("sensor", driver=driver)
        peer = MockBackend(self.machine, self.device)
        self.ring = await peer.connect(SENSOR)
        front = self.device.front.domid
        grefs = [int(peer.node(f"stream-ref{n}")) for n in range(SENSORIF_STREAM_PAGES)]
        self.pages = driver.grants.map(front, grefs).contiguous
        self.channel = driver.events.bind(front, int(peer.node("stream-channel")))
        # What it is asked it finds good.
        self.device.frontend.rate = self.device.frontend._stream.rate = 1000
        return self


@pytest.mark.parametrize("ahead", [100_000, 2**31, 2**32 - 1])
async def test_a_producer_that_runs_ahead_is_found_out(machine, ahead):
    host = await Host(machine).connect()
    set_index(host.pages, REQ_PROD, ahead)
    with pytest.raises(ProtocolError, match="ring broken: the producer's index"):
        await host.device.frontend.read()


async def test_samples_of_nonsense_are_only_nonsense(machine):
    host = await Host(machine).connect()
    host.pages[64 : 64 + 48] = b"\xff" * 48
    set_index(host.pages, REQ_PROD, 3)
    samples = await host.device.frontend.read()
    assert samples["sequence"].tolist() == [2**32 - 1] * 3


async def test_events_without_samples_are_not_answered_in_a_hurry(mock_clock):
    async with Loopback() as machine:
        host = await Host(machine).connect()
        sensor = host.device.frontend
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sensor.read)
            await wait_all_tasks_blocked()
            arms = sensor._stream.consumer.statistics().arms
            for _ in range(100):
                host.channel.notify()
                await wait_all_tasks_blocked()
            assert sensor._stream.consumer.statistics().arms == arms
            nursery.cancel_scope.cancel()


async def test_a_stream_that_hangs_up_alone_is_waited_for_until_the_device_goes(machine):
    """It must neither spin nor end the device: the backend may be about to die, and its successor to come."""
    host = await Host(machine).connect()
    sensor = host.device.frontend
    async with trio.open_nursery() as nursery:

        async def read():
            with pytest.raises(NoSuchDevice):
                await sensor.read()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        host.channel.close()
        await wait_all_tasks_blocked()
        machine.tree.remove(host.device.front_path)


async def test_a_refusal_to_start_is_an_error(machine):
    host = await Host(machine).connect()
    sensor = host.device.frontend
    async with trio.open_nursery() as nursery:

        async def refuse():
            await host.ring.channel.wait()
            request = SensorRequest.unpack(host.ring.read(0, ENTRY))
            host.ring.write(0, SensorResponse(id=request.id, status=SENSORIF_RSP_ERROR).pack())
            host.ring.rsp_prod = 1
            host.ring.channel.notify()

        nursery.start_soon(refuse)
        with pytest.raises(OSError, match="refused 500 samples a second"):
            await sensor.start(500)
    assert sensor.rate == 1000
