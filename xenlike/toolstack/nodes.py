"""Which store nodes a domain and its devices get, and who may do what with them. Pure: no store in here.

Names and permissions follow libxl (`libxl_create.c`, `libxl_device.c` of Xen 4.17): a domain reads its
directory and owns only what is its to write; a frontend's directory is the guest's and readable by the
backend's domain, and the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xenlike.abi.xenbus import XenbusState
from xenlike.domain.store_wire import Perm


@dataclass(slots=True)
class Directory:
    """One directory to make: permissions first, so that nothing in it is ever open to others."""

    path: str
    perms: list[Perm]
    nodes: dict[str, str] = field(default_factory=dict)
    """Relative names and values; they inherit the permissions."""


def home(domid: int) -> str:
    """A domain's directory."""
    return f"/local/domain/{domid}"


def domain_nodes(domid: int, name: str, memory_kib: int, console_port: int, store_port: int) -> list[Directory]:
    """The directories with which a domain starts."""
    base = home(domid)
    readable = [Perm(0, "n"), Perm(domid, "r")]
    owned = [Perm(domid, "n")]
    identity = {
        "name": name,
        "domid": str(domid),
        "memory/target": str(memory_kib),
        "memory/static-max": str(memory_kib),
        "store/port": str(store_port),
        "store/ring-ref": "1",
        "console/port": str(console_port),
        "console/ring-ref": "0",
        "console/type": "xenconsoled",
    }
    directories = [
        Directory(base, readable, identity),
        Directory(f"{base}/device", readable),
        Directory(f"{base}/backend", readable),
        Directory(f"{base}/control", readable, {"platform-feature-multiprocessor-suspend": "1"}),
        Directory(f"{base}/control/shutdown", owned),
    ]
    return directories + [
        Directory(f"{base}/{part}", owned) for part in ("data", "error", "drivers", "feature", "attr")
    ]


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where both halves of one device are."""

    type: str
    id: int
    front: int
    back: int

    @property
    def frontend(self) -> str:
        """The guest's directory of the device."""
        return f"{home(self.front)}/device/{self.type}/{self.id}"

    @property
    def backend(self) -> str:
        """The driver domain's directory of the device."""
        return f"{home(self.back)}/backend/{self.type}/{self.front}/{self.id}"

    @property
    def resource(self) -> str:
        """What the backend asks its resource channel for: its nodename."""
        return f"backend/{self.type}/{self.front}/{self.id}"


def frontend_directory(device: Attachment, extra: dict[str, str]) -> Directory:
    """The guest's half, as it is before either end has moved."""
    nodes = {
        "backend": device.backend,
        "backend-id": str(device.back),
        "state": str(int(XenbusState.Initialising)),
        "handle": str(device.id),
    }
    return Directory(device.frontend, [Perm(device.front, "n"), Perm(device.back, "r")], nodes | extra)


def backend_directory(device: Attachment, extra: dict[str, str]) -> Directory:
    """The driver domain's half."""
    nodes = {
        "frontend": device.frontend,
        "frontend-id": str(device.front),
        "online": "1",
        "state": str(int(XenbusState.Initialising)),
        "handle": str(device.id),
    }
    return Directory(device.backend, [Perm(device.back, "n"), Perm(device.front, "r")], nodes | extra)
