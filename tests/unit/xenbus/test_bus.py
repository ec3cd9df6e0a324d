"""Buses: devices come and go, and none takes another with it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.errors import ConfigError, HypervisorGone, NoSuchDevice
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import DRIVER
from xenlike.testing import Loopback
from xenlike.xenbus import Frontend
from xenlike.xenbus import XenbusState as S
from xenlike.xenbus.service import run_buses


async def test_devices_are_found_whether_they_were_there_before_the_bus_or_not():
    async with Loopback() as machine:
        early = machine.plug("echo", 3)
        await early.wait_connected()
        late = await machine.attach("echo", 4)
        bus = machine.guest.frontends
        assert await bus.device("echo", 3) is early.frontend
        assert await bus.device("echo", "4") is late.frontend
        assert sorted(device.id for device in bus) == ["3", "4"]


async def test_waiting_for_a_device_that_comes_later():
    async with Loopback() as machine, trio.open_nursery() as nursery:
        found = []

        async def wait():
            found.append(await machine.guest.frontends.device("echo", 0))

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        device = await machine.attach("echo", 0)
        await wait_all_tasks_blocked()
        assert found == [device.frontend]


async def test_waiting_in_vain_says_what_there_is(autojump_clock):
    async with Loopback() as machine:
        await machine.attach("echo", 1)
        with pytest.raises(NoSuchDevice, match=r"device/echo/7 .* device/echo/1 \(Connected\)"):
            await machine.guest.frontends.device("echo", 7)
        with pytest.raises(ConfigError, match="no driver for devices of type 'warp'"):
            await machine.guest.frontends.device("warp", 0)


async def test_a_device_without_driver_is_reported_once_and_the_others_go_on():
    async with Loopback() as machine:
        machine.plug("warp", 0)
        good = await machine.attach("echo")
        await wait_all_tasks_blocked()
        for home, nodename in (("/local/domain/2", "device/warp/0"), ("/local/domain/1", "backend/warp/2/0")):
            assert "'warp'" in machine.tree.nodes[f"{home}/error/{nodename}/error"]
        reports = [path for path, _ in machine.tree.history if path.endswith("warp/0/error")]
        assert len(reports) == 1
        assert await good.frontend.upper(b"x") == b"X"


async def test_attach_and_detach_again_and_again():
    async with Loopback() as machine:
        for _ in range(5):
            device = await machine.attach("echo")
            assert await device.frontend.upper(b"round") == b"ROUND"
            await machine.detach(device)
            assert list(machine.guest.frontends) == []
            assert list(machine.driver.backends) == []
        for domain in (machine.guest, machine.driver):
            assert domain.memory.windows == {}
            assert domain.grants.entries == {}
            assert domain.events.channels == {}
            assert not domain.grants.mappings


async def test_a_directory_that_is_removed_and_made_again_at_once():
    async with Loopback() as machine:
        device = await machine.attach("echo")
        for _ in range(3):
            machine.tree.remove(device.front_path)
            machine.tree.remove(device.back_path)
            device = await machine.attach("echo")
            await wait_all_tasks_blocked()
            assert await device.frontend.upper(b"x") == b"X"


async def test_a_directory_that_is_written_node_by_node():
    async with Loopback() as machine:
        nodes = {
            "/local/domain/1/backend/echo/2/0": {
                "frontend": "/local/domain/2/device/echo/0",
                "frontend-id": "2",
                "online": "1",
                "state": "1",
            },
            "/local/domain/2/device/echo/0": {
                "backend": "/local/domain/1/backend/echo/2/0",
                "backend-id": "1",
                "state": "1",
            },
        }
        for path, values in nodes.items():
            machine.tree.write(path, "")
            await wait_all_tasks_blocked()
            for name, value in values.items():
                machine.tree.write(f"{path}/{name}", value)
                await wait_all_tasks_blocked()
        frontend = await machine.guest.frontends.device("echo", 0)
        assert isinstance(frontend, EchoFront)
        assert await frontend.upper(b"x") == b"X"


async def test_a_device_that_crashes_is_left_alone_until_it_is_plugged_anew(monkeypatch):
    real = EchoFront._advance
    crashes: list[int] = []

    async def crash(self):
        if self.id == "0" and not crashes:
            crashes.append(1)
            self._nursery.start_soon(boom)
        await real(self)

    async def boom():
        raise ZeroDivisionError

    monkeypatch.setattr(EchoFront, "_advance", crash)
    async with Loopback() as machine:
        device = machine.plug("echo", 0)
        good = await machine.attach("echo", 1)
        await wait_all_tasks_blocked()
        with pytest.raises(NoSuchDevice):
            await machine.guest.frontends.device("echo", 0)
        assert await good.frontend.upper(b"x") == b"X"
        machine.tree.remove(device.front_path)
        machine.tree.remove(device.back_path)
        await wait_all_tasks_blocked()
        again = await machine.attach("echo", 0)
        assert await again.frontend.upper(b"x") == b"X"


async def test_a_backend_bus_serves_only_what_it_was_given():
    async with Loopback() as machine:
        machine.driver.backends._types = ["vbd"]
        device = machine.plug("echo")
        await wait_all_tasks_blocked()
        assert device.states()[1] is S.Initialising
        assert "serves vbd" in machine.tree.nodes["/local/domain/1/error/backend/echo/2/0/error"]


async def test_the_death_of_the_hypervisor_is_no_device_error():
    async with Loopback() as machine:
        device = await machine.attach("echo")
        other = await machine.add_domain("other", buses=False)

        class Dying(Frontend, protocol=DRIVER.protocol):
            async def setup(self):
                raise HypervisorGone("it is gone")

        other.frontends.drivers["echo"] = Dying
        machine.plug("echo", guest=other)
        with pytest.raises(ExceptionGroup) as caught:
            await other.frontends.run()
        assert caught.group_contains(HypervisorGone, depth=None)
        assert device.frontend.connected


async def test_the_service_runs_what_the_toolstack_says():
    async with Loopback() as machine, trio.open_nursery() as nursery:
        both = await machine.add_domain("both", buses=False)
        both.config = {
            "backends": ["echo"],
            "drivers": {"echo": {"frontend": DRIVER.frontend, "backend": DRIVER.backend}},
        }
        bus = await nursery.start(run_buses, both)
        machine.plug("echo", driver=both, guest=both)
        frontend = await bus.device("echo", 0)
        assert await frontend.upper(b"to myself") == b"TO MYSELF"
        nursery.cancel_scope.cancel()


async def test_suspend_and_resume(monkeypatch):
    calls = []
    for hook in ("suspend", "resume"):

        async def called(self, hook=hook):
            calls.append((hook, self.id))

        monkeypatch.setattr(EchoFront, hook, called)
    async with Loopback() as machine:
        devices = [await machine.attach("echo", number) for number in range(2)]
        await machine.guest.frontends.quiesce()
        assert sorted(calls) == [("suspend", "0"), ("suspend", "1")]
        assert not any(device.frontend.connected for device in devices)
        async with trio.open_nursery() as nursery:
            answers = []

            async def ask():
                answers.append(await devices[0].frontend.upper(b"later"))

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert answers == []
            await machine.guest.frontends.revive()
        assert answers == [b"LATER"]
        assert sorted(calls)[:2] == [("resume", "0"), ("resume", "1")]
        for device in devices:
            await device.wait_connected()


async def test_a_frontend_may_close_its_device():
    async with Loopback() as machine:
        device = await machine.attach("echo")
        await device.frontend.close()
        await device.wait_states(S.Closed, S.Closed)
        await wait_all_tasks_blocked()
        assert machine.guest.grants.entries == {}
        await machine.detach(device)
