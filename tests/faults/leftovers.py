"""What is left of a machine: processes, names, descriptors."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import trio

from xenlike.toolstack.paths import SHM, MachinePaths, segment_machines

WITHIN_S = 2.0
"""The law: so long after the end nothing is left. Where a host has more to do than it has CPUs, that takes longer."""


def patience_s() -> float:
    """Returns what the law comes to on this host at this moment."""
    return WITHIN_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Process(NamedTuple):
    """A line of the process table."""

    pid: int
    comm: str
    state: str
    parent: int
    session: int


def process(pid: int) -> Process | None:
    """Looks a process up."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold anything, also a parenthesis.
    name, _, rest = text.partition("(")[2].rpartition(")")
    state, parent, _, session = rest.split()[:4]
    return Process(pid, name, state, int(parent), int(session))


def all_processes() -> list[Process]:
    """Looks at the whole table."""
    found = [process(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [entry for entry in found if entry is not None]


def of_session(session: int) -> list[Process]:
    """Returns the processes of a machine: they are in the session of its hypervisor, dead or alive."""
    return [entry for entry in all_processes() if entry.session == session]


def living(processes: list[Process]) -> list[Process]:
    """Leaves out those whose end is only not yet noticed by their parent."""
    return [entry for entry in processes if entry.state not in "ZX"]


def children(pid: int) -> list[Process]:
    """Returns the children of a process, also those it has to bury yet."""
    return [entry for entry in all_processes() if entry.parent == pid]


def descendants(pid: int) -> list[Process]:
    """Returns a process's children, and theirs, and so on."""
    below: dict[int, list[Process]] = {}
    for entry in all_processes():
        below.setdefault(entry.parent, []).append(entry)
    found = list(below.get(pid, ()))
    for entry in found:
        found += below.get(entry.pid, ())
    return found


def descriptors(pid: int | str = "self") -> dict[str, int]:
    """Counts a process's descriptors by what they are; empty where we may not look."""
    counted: dict[str, int] = {}
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except PermissionError:
        return {}
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # the one with which the folder was read
        kind = re.sub(r"(?<=^pipe:)\[.*|(?<=^socket:)\[.*|(?<=xenlike-d)\d+", "", target)
        counted[kind] = counted.get(kind, 0) + 1
    return counted


def differences(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Returns how many there are more, or fewer, of each kind."""
    every = before.keys() | now.keys()
    return {kind: more for kind in every if (more := now.get(kind, 0) - before.get(kind, 0))}


async def nothing(left: Callable[[], object], since: float | None = None) -> None:
    """Waits until `left` returns nothing, for as long as the law allows.

    Args:
        left: returns what is left.
        since: when the end came, by `trio.current_time()`; now by default.
    """
    deadline = (trio.current_time() if since is None else since) + patience_s()
    while remains := left():
        if trio.current_time() > deadline:
            raise AssertionError(f"after the end there is still {remains}")
        # There is nothing to wait for: what is observed is other processes' ends.
        await trio.sleep(0.005)


def nothing_sync(left: Callable[[], object], since: float) -> str | None:
    """As `nothing`, without a loop, and by `time.monotonic()`; returns what is wrong."""
    while remains := left():
        if time.monotonic() > since + patience_s():
            return f"after the end there is still {remains}"
        time.sleep(0.005)
    return None


def names_below(folder: Path) -> list[str]:
    """Returns what is in a folder and below it, and the segments of the machines that live there."""
    try:
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []
    except FileNotFoundError:
        # It is being removed while we look.
        return names_below(folder)
    segments = [f"{name} (segment)" for name in segment_machines(folder)]
    if (SHM / MachinePaths(folder.name, folder).segment[1:]).exists():
        segments.append(f"{folder.name} (segment)")
    return names + segments
