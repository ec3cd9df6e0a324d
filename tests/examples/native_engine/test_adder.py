"""A queue that is served by a thread in C: what it answers, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.domain.reference import load_file
from xenlike.errors import NoSuchDevice, PeerGone
from xenlike.testing import Loopback, MockFrontend
from xenlike.xenbus import XenbusState as S

EXAMPLE = Path(__file__).with_name("adder.py")
adder = load_file(EXAMPLE)


@pytest.fixture
async def machine():
    async with Loopback({"adder": adder.DRIVER}, {"adder": adder.DRIVER}) as machine:
        yield machine


@pytest.mark.system
def test_it_runs_as_it_is(tmp_path):
    environment = {**os.environ, "XENLIKE_RUNTIME_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, str(EXAMPLE)], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "2 + 3 = 5" in result.stdout


async def test_many_at_once_get_each_their_own(machine):
    device = await machine.attach("adder")
    sums = {}

    async def ask(number):
        sums[number] = await device.frontend.add(number, 1 << 31)

    for _ in range(5):
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(ask, number)
    assert sums == {number: number + (1 << 31) for number in range(500)}
    await machine.detach(device)


async def test_it_sleeps_and_wakes(machine):
    device = await machine.attach("adder")
    for number in range(20):
        assert await device.frontend.add(number, number) == 2 * number
        await wait_all_tasks_blocked()
    assert device.backend.answered[0] == 20


async def test_detach_under_load_waits_for_the_engine_and_no_longer(machine):
    device = await machine.attach("adder")

    async def keep_asking():
        with pytest.raises((NoSuchDevice, PeerGone)):
            while True:
                await device.frontend.add(1, 2)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(keep_asking)
        await wait_all_tasks_blocked()
        with trio.fail_after(20):
            await machine.detach(device)
    assert not machine.driver.grants.mappings


async def test_a_dead_frontend_ends_the_engine(machine):
    device = await machine.attach("adder")
    assert await device.frontend.add(1, 1) == 2
    await machine.kill(machine.guest)
    await machine.wait_until(lambda: device.states()[1] is S.Closed)
    assert not machine.driver.grants.mappings


async def test_a_dead_backend_is_replaced(machine):
    device = await machine.attach("adder")
    assert await device.frontend.add(1, 1) == 2
    await machine.kill(machine.driver)
    machine.relink(device, await machine.add_domain("driver again"))
    assert await device.frontend.add(2, 2) == 4


async def test_a_frontend_that_breaks_the_ring_is_given_up(machine):
    guest = await machine.add_domain("mock", buses=False)
    device = machine.plug("adder", guest=guest)
    ring = await MockFrontend(machine, device).connect(adder.ADDER)
    ring.req_prod += 1000
    ring.channel.notify()
    await machine.wait_until(lambda: device.states()[1] is S.Closing)
    error = machine.tree.nodes[f"{machine.driver.home}/error/{device.backend.nodename}/error"]
    assert "ran ahead to 1000" in error
    ring.close()
