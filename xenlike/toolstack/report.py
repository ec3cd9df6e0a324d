"""What `xenlike list` shows of each domain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xenlike.abi import hypercall as hc
from xenlike.toolstack.control_wire import DomainInfo

if TYPE_CHECKING:
    from xenlike.toolstack.guest import Guest

STATES = {
    hc.XENLIKE_DOMAIN_BUILDING: "building",
    hc.XENLIKE_DOMAIN_RUNNING: "running",
    hc.XENLIKE_DOMAIN_SHUTDOWN: "shutdown",
    hc.XENLIKE_DOMAIN_DYING: "dying",
    hc.XENLIKE_DOMAIN_DEAD: "dead",
}


def describe(infos: Sequence[hc.GetDomainInfo], guests: Mapping[str, Guest]) -> list[DomainInfo]:
    """Puts what the hypervisor and the toolstack know together, by domid; the ended last."""
    by_domid = {guest.domid: guest for guest in guests.values() if guest.is_running}
    lines = []
    for info in infos:
        guest = by_domid.get(info.domid)
        pid = info.pid or (os.getpid() if info.domid == 0 else None)
        lines.append(
            DomainInfo(
                domid=info.domid,
                name=info.name.decode(errors="replace"),
                state=STATES.get(info.state, str(info.state)),
                memory=info.nr_pages * 4096,
                pid=pid,
                cpu_s=cpu_seconds(pid) if pid else 0.0,
                backends=list(guest.spec.backends) if guest else [],
                devices=[device.name for device in guest.spec.devices] if guest else [],
            )
        )
    preserved = [guest for guest in guests.values() if not guest.is_running]
    return lines + [DomainInfo(guest.domid, guest.name, guest.state, guest.spec.memory) for guest in preserved]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
