"""What the processes of a machine use: CPU time to the nanosecond, and memory.

Domains are not dumpable, so that their `/proc` files belong to root; what this needs of them without being
root is readable to all, except the shares of shared memory (PSS).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xenlike.toolstack.machine import Machine


def processes(machine: Machine) -> dict[int, str]:
    """Returns the machine's processes, this one (domain 0) among them: names by pid."""
    hypervisor = machine.domain0.start_info.hypervisor_pid
    children: dict[int, list[int]] = {}
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(pid)
    found = {os.getpid(): "domain 0"}
    found |= {pid: _name(pid) for pid in _descendants(hypervisor, children)}
    # The reaper is domain 0's child, as the hypervisor is.
    found |= {pid: _name(pid) for pid in children.get(os.getpid(), []) if pid not in found}
    return found


def _descendants(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, []):
        yield from _descendants(child, children)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return str(pid)


def cpu_ns(pid: int) -> int:
    """Returns the time that a process's threads have run, in ns; 0 for one that is gone.

    A thread that ended meanwhile is not counted.
    """
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    except (OSError, IndexError):
        pass
    return total


def memory_kib(pid: int) -> tuple[int, bool]:
    """Returns the memory of a process in KiB, and whether that counts shared pages by their share.

    Without the right to see shares it is what is not backed by files.
    """
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]), True
    except ProcessLookupError:
        return 0, True
    except OSError:
        pass
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, False
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))), False
