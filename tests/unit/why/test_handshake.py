"""Devices that never get connected: who is awaited, and what for, is told by name."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.unit.why.stuck import say
from xenlike.backends.echo import EchoBack
from xenlike.frontends.echo import EchoFront
from xenlike.testing import Loopback, MockFrontend
from xenlike.toolstack.why.facts import facts
from xenlike.xenbus import XenbusState as S

# Nobody there.


async def test_a_type_without_driver_at_the_backend(machine):
    guest = await machine.add_domain("mock", buses=False)
    device = machine.plug("nonsense", guest=guest)
    await say(machine, device, "backend-no-driver", "mock waits: backend d1 has no driver", "'nonsense'", "echo")


async def test_a_type_without_driver_at_the_frontend(machine):
    driver = await machine.add_domain("mock", buses=False)
    device = machine.plug("nonsense", driver=driver)
    told = await say(machine, device, "frontend-no-driver", "mock waits: frontend d2 has no driver", "'nonsense'")
    assert told.for_whom == "frontend d2"


async def test_a_driver_whose_module_does_not_import(machine):
    machine.driver.backends.drivers["broken"] = "xenlike.no_such_module:Back"
    guest = await machine.add_domain("mock", buses=False)
    device = machine.plug("broken", guest=guest)
    await say(machine, device, "driver-broken", "mock waits: backend d1 cannot begin", "no_such_module")


async def test_a_backends_domain_that_serves_other_types(machine):
    machine.driver.backends._types = ["vbd"]
    told = await say(machine, machine.plug("echo"), "backend-serves-others", "backend d1 does not serve 'echo'", "vbd")
    assert (told.waits, told.for_whom) == ("guest", "backend d1")


async def test_a_backends_domain_that_crashed(machine):
    device = await machine.attach("echo")
    await machine.kill(machine.driver)
    await say(machine, device, "backend-dead", "guest waits: the domain of backend d1 (driver) has crashed")


async def test_a_guest_that_crashed(machine):
    device = await machine.attach("echo")
    await machine.kill(machine.guest)
    await say(machine, device, "frontend-dead", "driver waits: the domain of frontend d2 (guest) has crashed")


@pytest.mark.parametrize(("who", "rule"), [("driver", "backend-stopped"), ("guest", "frontend-stopped")])
async def test_a_stopped_domain(machine, who, rule):
    device = await machine.attach("echo")
    getattr(machine, who).stop()
    await say(machine, device, rule, f"({who}) is stopped", "SIGSTOP")


# Links.


async def test_half_a_device(machine):
    guest = await machine.add_domain("mock", buses=False)
    device = machine.plug("echo", guest=guest)
    await wait_all_tasks_blocked()
    machine.tree.remove(device.back_path)
    told = await say(machine, device, "no-directory", f"mock waits: there is no {device.back_path}")
    assert told.for_whom == "the toolstack"


async def test_a_frontend_that_is_linked_to_another_backend(mocks, machine):
    front, _ = mocks
    machine.tree.write(f"{front.path}/backend-id", "1")
    await say(machine, front.device, "not-linked", "frontend d3 is linked to", "of d1, and not to", "/domain/4/backend")


async def test_a_state_that_is_none(mocks, machine):
    _, back = mocks
    await back.say("banana")
    await say(machine, back.device, "no-state", "guest waits: backend d4 has published that state = 'banana'")


# Who does not begin.


async def test_a_backend_whose_domain_never_looked(against_frontend, machine):
    told = await say(
        machine, against_frontend.device, "backend-not-begun", "guest waits: backend d3 is in Initialising"
    )
    assert "never looked at the device: the bus does not run" in told.sentence


async def test_a_backend_that_hangs_in_setup(machine):
    class Slow(EchoBack):
        async def setup(self):
            await trio.sleep_forever()

    machine.driver.backends.drivers["echo"] = Slow
    told = await say(machine, machine.plug("echo"), "backend-not-begun", "its `setup` has not returned")
    assert told.for_whom == "backend d1"


async def test_a_frontend_whose_domain_never_looked(against_backend, machine):
    told = await say(machine, against_backend.device, "frontend-not-begun", "driver waits")
    assert "frontend d3 is in Initialising and has shared no ring: its domain has never looked" in told.sentence


async def test_a_frontend_that_hangs_in_setup(machine):
    class Slow(EchoFront):
        async def setup(self):
            await trio.sleep_forever()

    machine.guest.frontends.drivers["echo"] = Slow
    await say(machine, machine.plug("echo"), "frontend-not-begun", "frontend d2", "`setup` has not returned")


async def test_a_backend_that_hangs_in_connect(machine):
    class Slow(EchoBack):
        async def connect(self):
            await trio.sleep_forever()

    machine.driver.backends.drivers["echo"] = Slow
    words = ("guest waits: backend d1 is in InitWait although frontend d2 has shared everything", "mapped the ring and")
    told = await say(machine, machine.plug("echo"), "backend-does-not-connect", *words)
    assert "`connect` has not returned" in told.sentence


async def test_a_backend_that_does_not_hear_of_its_frontend(mocks, machine):
    front, back = mocks
    await back.say(S.InitWait)
    _, nodes = front.share_ring(EchoFront.protocol)
    await front.say(S.Initialised, nodes)
    words = ("backend d4 is in InitWait although", "it has not heard of it", "not mapped the ring and not bound")
    await say(machine, front.device, "backend-does-not-connect", *words)


async def test_a_frontend_that_hangs_in_connect(machine):
    class Slow(EchoFront):
        async def connect(self):
            await trio.sleep_forever()

    machine.guest.frontends.drivers["echo"] = Slow
    words = ("frontend d2 is in Initialised although backend d1 is Connected", "`connect` has not returned")
    await say(machine, machine.plug("echo"), "frontend-does-not-connect", *words)


async def test_a_backend_that_forgets_a_node_before_a_patient_frontend(machine):
    guest = await machine.add_domain("mock", buses=False)
    front = MockFrontend(machine, machine.plug("disc", guest=guest))
    await front.hear(S.InitWait)
    _, nodes = front.share_ring(EchoFront.protocol)
    await front.say(S.Initialised, nodes)
    words = ("mock waits: frontend d3 is in Initialised because node sectors of backend d1 is missing",)
    told = await say(machine, front.device, "backend-node-missing", *words)
    assert (told.evidence.front_needs, told.evidence.back_needs) == ([], ["sectors"])
    assert told.for_whom == "backend d1"


async def test_a_backend_that_forgets_a_node_before_a_strict_frontend(machine):
    device = machine.plug("disc")
    told = await say(machine, device, "frontend-fatal", "frontend d2 gave up", "sectors is missing")
    assert ("nodes", "online = 1\nring-layout = xen cacheline\nmax-ring-page-order = 4\nsectors missing") in facts(
        told.evidence, told.evidence.back
    )


async def test_a_machine_that_is_well(machine: Loopback):
    device = await machine.attach("echo")
    assert await device.frontend.upper(b"well") == b"WELL"
    told = await say(machine, device, "idle", "connected, idle: nothing is in flight")
    assert told.healthy
    assert told.waits == ""
