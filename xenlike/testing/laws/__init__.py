"""The laws, one group a module. A law of your own: `@law("what it says")` on an async function of a `Case`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from xenlike.testing.case import Case
from xenlike.testing.laws import (
    deaths,
    handshake,
    hostile,
    hotplug,
    leftovers,
    nodes,
    service,
    silence,
    suspend,
    wakeups,
)
from xenlike.testing.meeting import meet
from xenlike.testing.running import run_apart
from xenlike.testing.trace import logged

if TYPE_CHECKING:
    from xenlike.abi.protocol import Side
    from xenlike.testing.case import Kit

__all__ = [
    "GROUPS",
    "deaths",
    "handshake",
    "hostile",
    "hotplug",
    "leftovers",
    "nodes",
    "record",
    "service",
    "silence",
    "suspend",
    "wakeups",
]

GROUPS = (
    "service",
    "handshake",
    "nodes",
    "wakeups",
    "hotplug",
    "leftovers",
    "suspend",
    "deaths",
    "silence",
    "hostile",
)
"""In the order in which they are checked and reported: what is wrong with honest use comes first."""

_OF_THE_BUS = {"frontend", "frontend-id", "backend", "backend-id", "online", "state", "event-channel"}


def record(kit: Kit) -> None:
    """Notes what both halves publish in an honest handshake, for mock peers to say the same."""

    async def look(case: Case) -> None:
        async with case.machine() as machine:
            device = case.plug(machine)
            await case.settle()
            for side, path in (("frontend", device.front_path), ("backend", device.back_path)):
                for name in machine.tree.names_below(path):
                    if name not in _OF_THE_BUS and not name.startswith("ring-"):
                        kit.told[side][name] = machine.tree.nodes[f"{path}/{name}"]

    async def play(case: Case, side: Side) -> None:
        async with case.machine() as machine:
            met = await meet(case, machine, side, {})
            # What is shared beside the ring and named in the nodes is the honest one's own.
            if not met.connected and ("grant" in met.error or "bind" in met.error):
                kit.unplayable[side] = met.error

    for step in (look, partial(play, side="frontend"), partial(play, side="backend")):
        case = Case(kit, "record", 0)
        try:
            with logged(case.trace):
                run_apart(partial(step, case), 0)
        except Exception as error:
            # The laws will tell what is wrong with it.
            case.trace.add(str(error))
