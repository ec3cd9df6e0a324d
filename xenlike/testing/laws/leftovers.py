"""Nothing is left behind: pages, grants, mappings, channels, nodes, tasks, descriptors."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import trio

from xenlike.testing.law import law
from xenlike.testing.load import Load

if TYPE_CHECKING:
    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback, LoopDomain, Plugged

_WORDS = {
    "windows": "allocates {} windows of memory",
    "grants": "grants {} pages",
    "mappings": "maps {} pages of its peer (they were never unmapped)",
    "channels": "has {} event channels open",
    "tasks": "runs {} tasks",
}


@dataclass(frozen=True)
class Census:
    """What a domain holds."""

    windows: int
    grants: int
    mappings: int
    channels: int
    tasks: int

    def more_than(self, before: Census) -> list[str]:
        """Returns what there is more of, in words."""
        mine, theirs = asdict(self), asdict(before)
        return [
            f"{_WORDS[item.name].format(mine[item.name])}, and {theirs[item.name]} before"
            for item in fields(self)
            if mine[item.name] > theirs[item.name]
        ]


def census(domain: LoopDomain) -> Census:
    """Counts what a domain holds."""
    return Census(
        windows=len(domain.memory.windows),
        grants=len(domain.grants.entries),
        mappings=sum(len(mapping.pages) for mapping in domain.grants.mappings),
        channels=len(domain.events.channels) + len(domain.events.unbound),
        tasks=_tasks(domain.task),
    )


def _tasks(task: trio.lowlevel.Task | None) -> int:
    if task is None:
        return 0
    return 1 + sum(_tasks(child) for nursery in task.child_nurseries for child in nursery.child_tasks)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _compare(case: Case, machine: Loopback, before: dict[str, Census], when: str) -> None:
    found = []
    for domain in (machine.driver, machine.guest):
        side = "driver domain" if domain is machine.driver else "guest"
        found += [f"the {side} {text}" for text in census(domain).more_than(before[domain.name])]
    case.expect(not found, f"{when}, {'; '.join(found)}")


def _count(machine: Loopback) -> dict[str, Census]:
    return {domain.name: census(domain) for domain in (machine.driver, machine.guest)}


@law("After a device was detached everything is as it was before it was attached.")
async def detached(case: Case) -> None:
    async with case.machine() as machine:
        await case.settle()
        before, files, nodes = _count(machine), 0, set(machine.tree.nodes)
        for how in ("unused", "after use", "under load"):
            case.step(f"attach a device, and detach it {how}")
            device = await case.attach(machine)
            if how == "after use":
                await case.exercise(device)
            load = Load(case, device) if how == "under load" else None
            if load is not None:
                await load.more(20)
                load.stop()
            await case.detach(device)
            if load is not None:
                await load.finished()
            del device, load
            await case.settle()
            _compare(case, machine, before, f"after it was detached {how}")
            types = (f"/device/{case.kit.driver.type}", f"/backend/{case.kit.driver.type}", f"/{machine.guest.domid}")
            left = sorted(path for path in set(machine.tree.nodes) - nodes if not path.endswith(types))
            case.expect(not left, f"after it was detached {how}, these nodes are left: {', '.join(left)}")
            # What the first one opened may have been for all of them, such as an image.
            files = files or _descriptors()
        more = _descriptors() - files
        case.expect(more <= 0, f"after it was detached once more, {more} more descriptors are open")


@law("A device that has connected ten times holds no more than one that has connected once.")
async def reconnected(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and use it")
        device = await case.attach(machine)
        await case.exercise(device)
        await case.settle()
        await _begin_again(case, device)
        before = _count(machine)
        for number in range(10):
            case.step(f"the frontend begins again, and is used, time {number + 1}")
            await _begin_again(case, device)
        _compare(case, machine, before, "after ten more connections")


async def _begin_again(case: Case, device: Plugged) -> None:
    await device.frontend.quiesce()
    await device.frontend.revive()
    await case.connected(device)
    for _ in range(2):
        await case.exercise(device)
    await case.settle()


@law("What a dead backend was lent comes back, and the next one gets no more than it had.")
async def relinked(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and use it")
        device = await case.attach(machine)
        await case.exercise(device)
        await case.settle()
        before = census(machine.guest)
        for number in range(3):
            case.step(f"kill its driver domain, and give it another, time {number + 1}")
            await machine.kill(device.back)
            await case.settle()
            await case.relink(device, await machine.add_domain(f"driver {number + 2}"))
            await case.exercise(device)
            await case.settle()
        more = [text for text in census(machine.guest).more_than(before) if "grants" not in text]
        case.expect(not more, f"after three driver domains have died, the guest {'; '.join(more)}")
