"""Devices of real machines that get stuck, and are explained: who waits, for whom, and why."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.system import stuck_guests
from tests.system.conftest import GUARD_S, Screen
from xenlike import Device, Machine
from xenlike.errors import ConfigError, NoSuchDevice
from xenlike.toolstack.guest import Guest
from xenlike.toolstack.spec import Exec
from xenlike.toolstack.storeserver import STORE_DOMID
from xenlike.toolstack.why import Explanation
from xenlike.toolstack.why.domains import is_stopped

pytestmark = pytest.mark.system


async def pair(
    machine: Machine, screen: Screen, type: str = "echo", times: int = 1, words: str = "done"
) -> tuple[Guest, Guest]:
    """A driver domain and a guest that uses its device so many times."""
    drivers = {"deaf": [stuck_guests.DEAF], "careless": [stuck_guests.CARELESS]}.get(type, [])
    storage = await machine.spawn("storage", backends=[type], drivers=drivers)
    device = Device(type, backend="storage", driver=drivers[0] if drivers else None)
    guest = await machine.spawn("guest", stuck_guests.uses, devices=[device], args=[type, times])
    await screen.wait_for("guest", words)
    return storage, guest


async def told(machine: Machine, rule: str, *words: str) -> Explanation:
    """What is said of the machine's only device, once that is so: some things take their time to happen."""
    with trio.move_on_after(GUARD_S):
        while True:
            (found,) = await machine.why()
            if found.rule == rule:
                break
    assert found.rule == rule, "\n".join(found.lines())
    for word in words:
        assert word in found.sentence, f"{word!r} is not in {found.sentence!r}"
    return found


@contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """Stops a process for the length of a `with`."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        while not is_stopped(pid):
            pass
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_device_that_is_well(machine: Machine, screen: Screen) -> None:
    storage, guest = await pair(machine, screen)
    found = await told(machine, "idle", "connected, idle: nothing is in flight")
    assert found.healthy
    evidence = found.evidence
    assert (evidence.name, evidence.front.domain.name, evidence.back.domain.name) == (
        "guest/echo/0",
        "guest",
        "storage",
    )
    assert [(grant.node, grant.peer, grant.mapped) for grant in evidence.grants] == [("ring-ref", storage.domid, 1)]
    assert evidence.port is not None
    assert (evidence.port.status, evidence.port.domid) == ("interdomain", storage.domid)
    assert evidence.front.queue is not None
    assert evidence.front.queue.prod == 1
    assert any("state InitWait -> Connected" in line for line in evidence.trace)
    for name in ("guest/echo/0", f"d{guest.domid}/echo/0", "device/echo/0", evidence.back.path):
        assert [one.device for one in await machine.why(name)] == ["guest/echo/0"]
    with pytest.raises(NoSuchDevice, match=r"there is no device 'guest/echo/1'; there are: guest/echo/0"):
        await machine.why("guest/echo/1")
    await machine.spawn("other", devices=[Device("echo", backend="storage")])
    assert {one.device for one in await machine.why()} == {"guest/echo/0", "other/echo/0"}
    with pytest.raises(ConfigError, match="may be any of"):
        await machine.why("echo/0")


async def test_a_device_that_is_moving(machine: Machine, screen: Screen) -> None:
    await pair(machine, screen, times=-1, words="connected")
    found = await told(machine, "moving", "connected and moving", "requests answered in 0.1 s")
    assert found.healthy


async def test_a_machine_without_devices(machine: Machine) -> None:
    assert await machine.why() == []


async def test_a_handler_that_never_answers(machine: Machine, screen: Screen) -> None:
    storage, _ = await pair(machine, screen, "deaf", words="connected")
    found = await told(machine, "handler-stuck", f"guest waits: backend d{storage.domid} has taken 1 request")
    assert found.for_whom == f"backend d{storage.domid}"


async def test_a_backend_that_raised(machine: Machine, screen: Screen) -> None:
    await pair(machine, screen, "careless", words="connected")
    await told(machine, "backend-fatal", "gave up: RuntimeError: no paper left")


async def test_processes_that_are_stopped(machine: Machine, screen: Screen) -> None:
    storage, guest = await pair(machine, screen)
    with stopped(storage.pid):
        await told(machine, "backend-stopped", f"guest waits: the domain of backend d{storage.domid} (storage) is stop")
    with stopped(guest.pid):
        await told(machine, "frontend-stopped", f"storage waits: the domain of frontend d{guest.domid} (guest) is stop")
    await told(machine, "idle")


async def test_a_driver_domain_that_was_killed(machine: Machine, screen: Screen) -> None:
    storage, _ = await pair(machine, screen)
    domid = storage.domid
    assert storage.pid is not None
    os.kill(storage.pid, signal.SIGKILL)
    await storage.wait()
    await told(machine, "backend-dead", f"guest waits: the domain of backend d{domid} (storage)")


async def test_a_program_that_takes_no_device_up(machine: Machine, screen: Screen) -> None:
    await machine.spawn("storage", backends=["echo"])
    program = Exec(["sh", "-c", "echo ready; exec sleep 1000"])
    guest = await machine.spawn("guest", program, devices=[Device("echo", backend="storage")])
    await screen.wait_for("guest", "ready")
    path = f"nobody there has taken up /local/domain/{guest.domid}/device/echo/0"
    await told(machine, "frontend-not-begun", "storage waits: frontend", "runs a program of its own", path)


async def test_a_process_that_never_takes_its_domain(machine: Machine) -> None:
    await machine.spawn("storage", backends=["echo"])
    _, sock = await machine.adopt("guest", devices=[Device("echo", backend="storage")])
    with sock:
        await told(machine, "frontend-not-begun", "or nothing yet: nobody there has taken up")


async def test_a_frontend_whose_grant_and_port_are_lies(machine: Machine, screen: Screen) -> None:
    """Written by domain 0 in the name of a guest that does not speak: the backend must be explained all the same."""
    await machine.spawn("storage", backends=["echo"])
    program = Exec(["sh", "-c", "echo ready; exec sleep 1000"])
    guest = await machine.spawn("guest", program, devices=[Device("echo", backend="storage")])
    await screen.wait_for("guest", "ready")
    await told(machine, "frontend-not-begun")
    path = f"/local/domain/{guest.domid}/device/echo/0"
    await machine.domain0.store.write_many({f"{path}/ring-ref": "77", f"{path}/event-channel": "4000"})
    await machine.domain0.store.write(f"{path}/state", "3")
    found = await told(machine, "grant-revoked", "is in Closing because grant 77 (ring-ref)", "is not given")
    assert found.for_whom == f"frontend d{guest.domid}"
    assert found.evidence.port is not None
    assert found.evidence.port.status == "closed"


async def test_a_store_that_does_not_answer(machine: Machine, screen: Screen) -> None:
    await pair(machine, screen)
    info = machine.hypercalls.domain_info(STORE_DOMID)
    assert info is not None
    with stopped(info.pid):
        (found,) = await machine.why("guest/echo/0")
        assert found.rule == "store-down"
        assert found.sentence.startswith("everybody waits: the store does not answer")
    await told(machine, "idle")
