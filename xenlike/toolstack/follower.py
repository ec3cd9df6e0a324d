"""Follows the devices of one type through the store, as it changes: states, nodes, errors, and what guests report.

One watch on all domains tells of everything, whoever comes, goes or is started again under another number. A node is
read when the watch tells of it, so one that changes twice in less than a round trip is seen once, with its last value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import trio

from xenlike.domain.store import Store
from xenlike.errors import NoEntry

Kind = Literal["frontend", "backend", "error", "data"]

_TOOLSTACKS = {"backend", "backend-id", "frontend", "frontend-id", "handle", "online"}
"""Nodes of a device that tell its halves of each other; whoever follows knows that already."""


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node has a new value.

    Attributes:
        domid: whose node it is.
        kind: of a device's frontend or backend, an error node of a device, or a node below the domain's `data`.
        device: the device's number; 0 for `data`.
        name: the node's name in its directory, such as `state`; empty for an error.
        value: its text; None when it was removed.
    """

    domid: int
    kind: Kind
    device: int
    name: str
    value: str | None


def _patterns(type: str) -> dict[Kind, re.Pattern[str]]:
    home, device = r"/local/domain/(?P<domid>\d+)", rf"{re.escape(type)}"
    return {
        "frontend": re.compile(rf"{home}/device/{device}/(?P<id>\d+)/(?P<name>.+)"),
        "backend": re.compile(rf"{home}/backend/{device}/\d+/(?P<id>\d+)/(?P<name>.+)"),
        "error": re.compile(rf"{home}/error/(?:device/{device}|backend/{device}/\d+)/(?P<id>\d+)/error(?P<name>)"),
        "data": re.compile(rf"{home}/data/(?P<name>.+)"),
    }


async def follow(
    store: Store,
    type: str,
    told: Callable[[NodeChange], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tells of every change, until cancelled; `started` once nothing is missed any more.

    Args:
        store: domain 0's.
        type: the device type.
        told: is called with each change; must not wait.
        task_status: as `trio.Nursery.start` has it.
    """
    follower = _Follower(store, told)
    patterns = _patterns(type)
    async with store.watch("/local/domain") as changes:
        task_status.started()
        async for path in changes:
            for kind, pattern in patterns.items():
                match = pattern.fullmatch(path)
                if match is not None and match["name"] not in _TOOLSTACKS:
                    device = int(match.groupdict().get("id") or 0)
                    await follower.look(path, NodeChange(int(match["domid"]), kind, device, match["name"], None))
            await follower.miss(path)


class _Follower:
    def __init__(self, store: Store, told: Callable[[NodeChange], None]) -> None:
        self._store = store
        self._told = told
        self._known: dict[str, NodeChange] = {}

    async def look(self, path: str, node: NodeChange) -> None:
        """Reads a node of which the store says that it changed."""
        value = await self._store.get(path)
        news = False
        if node.name == "state" and value is not None:
            # What is published with a state is told before it: in the store it came at once, in any order.
            folder = path.removesuffix("/state")
            names = [name for name in await self._names(folder) if name not in _TOOLSTACKS and name != "state"]
            paths = [f"{folder}/{name}" for name in names]
            for name, at, text in zip(names, paths, await self._store.read_many(paths), strict=True):
                news = self._tell(at, replace(node, name=name, value=text)) or news
        self._tell(path, replace(node, value=value), again=news)

    async def _names(self, folder: str) -> Sequence[str]:
        try:
            return await self._store.ls(folder)
        except NoEntry:
            return ()

    def _tell(self, path: str, change: NodeChange, *, again: bool = False) -> bool:
        """Tells of a node that has another value than was known, or `again`; returns whether it has."""
        changed = path not in self._known or self._known[path].value != change.value
        if changed or again:
            self._known[path] = change
            self._told(change)
        return changed

    async def miss(self, path: str) -> None:
        """Looks whether a directory was removed: the store says so once, and here it is the end of its state."""
        for below in [node for node in self._known if node.startswith(f"{path}/")]:
            if await self._store.get(below) is None:
                change = self._known.pop(below)
                if change.name in ("state", ""):
                    self._told(replace(change, value=None))
