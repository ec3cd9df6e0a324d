"""Where it was measured, and what else the machine did meanwhile: both belong to every figure."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def surroundings() -> dict[str, object]:
    """Describes this host, this process and this version of xenlike."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "placement": placement(),
        "priority": _priority(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "load_before": os.getloadavg()[0],
    }


def commit() -> str:
    """Returns the commit this was measured at, with `+` if files differ from it; the version outside of a checkout."""
    try:
        described = subprocess.run(
            ["git", "-C", str(_HERE), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        try:
            return version("xenlike")
        except PackageNotFoundError:
            return "unknown"
    return described.stdout.strip()


def placement() -> str:
    """Says which CPUs this process may use and which of them share a core, such as `0-1, threads of one core: 0,1`."""
    allowed = sorted(os.sched_getaffinity(0))
    siblings = {_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in allowed}
    shared = sorted(text for text in siblings if "," in text or "-" in text)
    cores = f"threads of one core: {' and '.join(shared)}" if shared else "each a core of its own"
    return f"CPUs {','.join(map(str, allowed))}, not pinned; {cores}"


def _priority() -> str:
    policies = {os.SCHED_FIFO: "real time", os.SCHED_RR: "real time", os.SCHED_OTHER: "ordinary"}
    policy = policies.get(os.sched_getscheduler(0), "special")
    return f"{policy} priority, nice {os.getpriority(os.PRIO_PROCESS, 0)}"


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


class Meanwhile:
    """Watches, from its making on, how much CPU programs other than this one and its children used."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._all, self._stolen = _machine_seconds()
        self._own = _own_seconds()

    def report(self) -> dict[str, object]:
        """Says what happened since; children count once they were waited for."""
        elapsed = time.monotonic() - self._start
        everything, stolen = _machine_seconds()
        others = max(0.0, (everything - self._all) - (_own_seconds() - self._own))
        return {
            "seconds": round(elapsed, 1),
            "load_after": os.getloadavg()[0],
            "others_cpu_percent": round(100 * others / elapsed, 1) if elapsed > 0 else 0.0,
            "stolen_percent": round(100 * (stolen - self._stolen) / elapsed, 1) if elapsed > 0 else 0.0,
        }


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _machine_seconds() -> tuple[float, float]:
    """Returns what all programs of this host have used so far, and what the host's host has taken away."""
    fields = [int(word) for word in _read("/proc/stat").partition("\n")[0].split()[1:]]
    if len(fields) < 8:
        return 0.0, 0.0
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _iowait, irq, softirq, stolen = fields[:8]
    return (user + nice + system + irq + softirq) / tick, stolen / tick
