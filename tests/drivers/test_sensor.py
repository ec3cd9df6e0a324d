"""Laws of the sensor driver: samples come in order and intact; a slow guest loses some, counted, and stops nobody."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.drivers import example_guests
from tests.drivers.example_machine import machine_with
from xenlike import Device
from xenlike.backends.sensor import SensorBack
from xenlike.errors import NoSuchDevice, PeerGone, RequestFailed
from xenlike.frontends.sensor import exercise
from xenlike.io.sensor import DRIVER, SENSORIF_STREAM_PAGES, SensorSample, waveform
from xenlike.ring import XEN, slots
from xenlike.testing import Loopback, check_driver_sync

SIZE = SensorSample.__layout__.size
SLOTS = slots(XEN, SENSORIF_STREAM_PAGES * 4096, SIZE)


@pytest.fixture
async def machine():
    async with Loopback() as machine:
        yield machine


async def let_pass(mock_clock: MockClock, seconds: float) -> None:
    mock_clock.jump(seconds)
    await wait_all_tasks_blocked()


# What it does.


async def test_samples_come_in_order_and_are_what_was_measured(mock_clock: MockClock):
    async with Loopback() as machine:
        sensor = (await machine.attach("sensor")).frontend
        await sensor.start(1000)
        found = []
        for _ in range(8):
            await let_pass(mock_clock, 0.125)
            found.append(await sensor.read())
        samples = np.concatenate(found)
        assert samples["sequence"].tolist() == list(range(1000))
        assert samples["value"].tolist() == [waveform(number) for number in range(1000)]
        # A sample every millisecond, by the clock of both domains.
        assert set(np.diff(samples["time"]).tolist()) == {1_000_000}
        assert sensor.lost == 0


async def test_a_reader_waits_for_the_first_sample_and_gets_at_most_what_it_asked_for(mock_clock: MockClock):
    async with Loopback() as machine:
        sensor = (await machine.attach("sensor")).frontend
        await sensor.start(100)
        found = []

        async def read():
            found.append(len(await sensor.read(3)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            assert found == []
            await let_pass(mock_clock, 0.125)
        assert found == [3]
        assert len(await sensor.read(100)) == 9


async def test_an_array_does_not_change_when_the_ring_does(mock_clock: MockClock):
    async with Loopback() as machine:
        device = await machine.attach("sensor")
        sensor = device.frontend
        await sensor.start(1000)
        await let_pass(mock_clock, 0.125)
        samples = await sensor.read()
        before = samples.copy()
        sensor._buffer[:] = b"\xff" * len(sensor._buffer)
        assert (samples == before).all()
        assert samples.base is not None  # a view of the bytes that were copied out, not another copy


async def test_without_numpy_there_are_the_packed_samples(mock_clock: MockClock, monkeypatch):
    async with Loopback() as machine:
        sensor = (await machine.attach("sensor")).frontend
        await sensor.start(1000)
        await let_pass(mock_clock, 0.03125)
        monkeypatch.setitem(sys.modules, "numpy", None)
        with pytest.raises(ModuleNotFoundError, match="pip install numpy, or use `read_raw`"):
            await sensor.read()
        samples = SensorSample.unpack_many(await sensor.read_raw(10), 10)
        assert [sample.sequence for sample in samples] == list(range(10))


def test_neither_half_needs_numpy():
    import subprocess

    code = "import sys; import xenlike.frontends.sensor, xenlike.backends.sensor; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Start, stop, rate.


async def test_a_stop_leaves_what_was_taken_and_wakes_who_waits(mock_clock: MockClock):
    async with Loopback() as machine:
        sensor = (await machine.attach("sensor")).frontend
        await sensor.start(1000)
        await let_pass(mock_clock, 0.0625)
        await sensor.stop()
        await let_pass(mock_clock, 10)
        assert len(await sensor.read(40)) == 40
        assert len(await sensor.read(40)) == 22
        assert len(await sensor.read(40)) == 0
        await sensor.start(1)
        found = []

        async def read():
            found.append(len(await sensor.read()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            nursery.start_soon(sensor.stop)
            await wait_all_tasks_blocked()
            # An event that brings no sample is followed by a rest.
            await let_pass(mock_clock, 0.01)
        assert found == [0, 0]
        # The numbers go on where they were.
        await sensor.start(1000)
        await let_pass(mock_clock, 0.01)
        assert (await sensor.read())["sequence"][0] == 62


async def test_the_rate_can_be_changed_on_the_way(mock_clock: MockClock):
    async with Loopback() as machine:
        sensor = (await machine.attach("sensor")).frontend
        with pytest.raises(RequestFailed, match="refused 1000 samples"):
            await sensor.set_rate(1000)
        assert sensor.rate == 0
        await sensor.start(100)
        await let_pass(mock_clock, 0.125)
        await sensor.set_rate(1000)
        await let_pass(mock_clock, 0.125)
        samples = await sensor.read()
        assert samples["sequence"].tolist() == list(range(137))
        assert (np.diff(samples["time"]) > 0).all()
        for rate in (0, -1, sensor.max_rate + 1):
            with pytest.raises(ValueError, match=f"{rate} samples a second are not in 1 .. 10000"):
                await sensor.start(rate)


async def test_an_idle_sensor_sleeps(mock_clock: MockClock):
    async with Loopback() as machine:
        device = await machine.attach("sensor")
        for taken in (0, 125):
            await let_pass(mock_clock, 100)
            assert device.backend.taken == taken
            assert device.backend._running.statistics().tasks_waiting == 1
            await device.frontend.start(1000)
            await let_pass(mock_clock, 0.125)
            assert device.backend._running.statistics().tasks_waiting == 0
            await device.frontend.stop()


# A slow guest.


async def test_what_finds_no_room_is_lost_and_counted_on_both_sides(mock_clock: MockClock):
    async with Loopback() as machine:
        device = await machine.attach("sensor")
        sensor, other = device.frontend, (await machine.attach("sensor", 1)).frontend
        await sensor.start(1000)
        await other.start(1000)
        await let_pass(mock_clock, 0.125)
        await let_pass(mock_clock, 10)
        assert device.backend.taken == 10_125
        assert device.backend.lost == 10_125 - SLOTS
        samples = await sensor.read(SLOTS)
        assert len(samples) == SLOTS
        # Its neighbours, and its own requests, were served all the time.
        assert len(await other.read(SLOTS)) == SLOTS
        await sensor.set_rate(100)
        await let_pass(mock_clock, 0.125)
        later = await sensor.read()
        assert sensor.lost == device.backend.lost
        assert len(samples) + len(later) + sensor.lost == later["sequence"][-1] + 1
        assert later["value"].tolist() == [waveform(int(number)) for number in later["sequence"]]


# Death, return, detach, suspend.


async def count(sensor, wanted):
    taken = 0
    while taken < wanted:
        taken += len(await sensor.read())
    return taken


async def test_a_new_backend_is_told_to_go_on(machine):
    device = await machine.attach("sensor")
    sensor = device.frontend
    await sensor.start(5000)
    await count(sensor, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, sensor, 200)
        await machine.kill(machine.driver)
        machine.relink(device, await machine.add_domain("driver again"))
    assert device.backend.taken > 0
    assert len(machine.guest.memory.windows) == 2
    assert len(machine.guest.events.channels) == 2


@pytest.mark.parametrize("seed", range(5))
async def test_a_backend_killed_at_any_moment_returns_and_work_goes_on(machine, seed):
    device, dice = await machine.attach("sensor"), random.Random(seed)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(exercise, device.frontend, random.Random(number))
            for _ in range(3):
                for _ in range(dice.randrange(40)):
                    await trio.lowlevel.checkpoint()
                await machine.kill(device.back)
                if dice.random() < 0.5:
                    await wait_all_tasks_blocked()
                machine.relink(device, await machine.add_domain("driver again"))
    await device.wait_connected()
    assert len(machine.guest.memory.windows) == 2


async def test_it_goes_on_after_a_suspend(machine):
    sensor = (await machine.attach("sensor")).frontend
    await sensor.start(5000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, sensor, 1000)
        await sensor.quiesce()
        await sensor.revive()


async def test_detach_under_load(machine):
    device = await machine.attach("sensor")
    other = await machine.attach("sensor", 1)
    await device.frontend.start(10_000)
    ends = []

    async def read():
        with pytest.raises(NoSuchDevice):
            await count(device.frontend, 1 << 40)
        ends.append("no device")

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(read)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(20):
            await machine.detach(device)
    assert len(ends) == 5
    await exercise(other.frontend, random.Random(1))
    await machine.detach(other)
    assert machine.guest.memory.windows == {}
    assert machine.guest.events.channels == {}
    assert machine.driver.grants.mappings == set()
    assert machine.driver.events.channels == {}


async def test_a_killed_guest_leaves_the_backend_alone(machine):
    other = await machine.attach("sensor", guest=await machine.add_domain("other"))
    device = await machine.attach("sensor")
    await device.frontend.start(10_000)
    await count(device.frontend, 10)
    await machine.kill(machine.guest)
    await exercise(other.frontend, random.Random(1))
    assert len(machine.driver.events.channels) == 2


async def test_who_does_not_want_to_wait_hears_of_the_death(machine):
    device = await machine.attach("sensor")
    device.frontend.on_peer_gone = "fail"
    await device.frontend.start(1)
    async with trio.open_nursery() as nursery:

        async def read():
            with pytest.raises(PeerGone):
                await device.frontend.read()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await machine.kill(machine.driver)


async def test_its_exercise(machine):
    device = await machine.attach("sensor")
    async with trio.open_nursery() as nursery:
        for seed in range(5):
            nursery.start_soon(exercise, device.frontend, random.Random(seed))
    assert SensorBack.max_rate == device.frontend.max_rate


@pytest.mark.slow
def test_it_keeps_the_laws_of_every_driver():
    report = check_driver_sync(DRIVER)
    report.verify()
    assert len(report.outcomes) > 40


@pytest.mark.system
async def test_in_processes_of_their_own(tmp_path: Path) -> None:
    async with machine_with("sensor", tmp_path) as (machine, heard):
        sensor = Device("sensor", backend="driver")
        guest = await machine.spawn("guest", example_guests.takes_samples, devices=[sensor])
        assert (await guest.wait()).reason == "poweroff"
        assert "taken ('time', 'sequence', 'value') True" in heard.text["guest"]
