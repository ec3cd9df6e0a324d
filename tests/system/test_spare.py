"""Laws of the spare: it becomes the next domain, its death costs nothing, and it does not outlive its zygote."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.system import guests
from tests.system.conftest import GUARD_S
from xenlike import Exit, Machine

pytestmark = pytest.mark.system
SPARE, ZYGOTE = "xl-spare", "xl-zygote"


def children(machine: Machine) -> dict[int, str]:
    """Returns names and states of the hypervisor's children: `xl-spare S`."""
    hypervisor = machine.domain0.start_info.hypervisor_pid
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue
            state, parent = rest.split()[:2]
            if int(parent) == hypervisor:
                found[int(entry.name)] = f"{name} {state}"
    return found


def named(machine: Machine, name: str) -> list[int]:
    return [pid for pid, what in children(machine).items() if what.startswith(name)]


async def until(found: Callable[[], list[int]]) -> int:
    """Waits until there is exactly one, and returns it."""
    with trio.fail_after(GUARD_S):
        while len(pids := found()) != 1:  # noqa: ASYNC110 - no event tells of another's children
            await trio.sleep(0.01)
    return pids[0]


async def spare_of(machine: Machine) -> int:
    return await until(lambda: named(machine, SPARE))


async def gone(machine: Machine, pid: int) -> None:
    """Waits until a process was reaped."""
    with trio.fail_after(GUARD_S):
        while pid in children(machine):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def end(machine: Machine, name: str) -> Exit:
    guest = await machine.spawn(name, guests.returns)
    with trio.fail_after(GUARD_S):
        return await guest.wait()


async def test_the_spare_becomes_the_next_domain(machine: Machine) -> None:
    first = await spare_of(machine)
    guest = await machine.spawn("guest", guests.waits)
    assert guest.pid == first
    assert await until(lambda: named(machine, f"xl-d{guest.domid}-guest")) == first
    assert await spare_of(machine) != first
    await guest.destroy()


async def test_a_dead_spare_costs_nothing(machine: Machine) -> None:
    dead = await spare_of(machine)
    os.kill(dead, signal.SIGKILL)
    with trio.fail_after(GUARD_S):
        # Until then it can still be made a domain, which then dies as any other that is killed.
        while children(machine).get(dead, "").endswith(("R", "S", "D")):
            await trio.lowlevel.checkpoint()
    assert await end(machine, "guest") == Exit("poweroff")
    await gone(machine, dead)
    assert await spare_of(machine) != dead


async def test_a_stopped_spare_is_a_domain_that_starts_late(machine: Machine) -> None:
    late = await spare_of(machine)
    os.kill(late, signal.SIGSTOP)
    guest = await machine.spawn("guest", guests.returns)
    assert await end(machine, "other") == Exit("poweroff")
    os.kill(late, signal.SIGCONT)
    with trio.fail_after(GUARD_S):
        assert await guest.wait() == Exit("poweroff")


async def test_a_spare_does_not_outlive_its_zygote(machine: Machine) -> None:
    old = await spare_of(machine)
    (zygote,) = named(machine, ZYGOTE)
    os.kill(zygote, signal.SIGKILL)
    await gone(machine, old)
    assert await end(machine, "guest") == Exit("poweroff")
    assert await spare_of(machine) != old
