"""xenlike: Xen's paravirtual world as ordinary Linux processes.

    from xenlike import Disk, open_machine

    async def main(domain):
        disk = await domain.disk("xvda")
        print(await disk.read(0, 512))

    with open_machine("lab") as machine:
        machine.spawn("store", backends=["vbd"])
        machine.spawn("guest", main, devices=[Disk("disk.img", backend="store")]).wait()

Names are loaded when they are first used, so that a process of a machine pays only for what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain
    from xenlike.toolstack.devices import Device, Disk
    from xenlike.toolstack.exits import Exit
    from xenlike.toolstack.guest import Guest
    from xenlike.toolstack.machine import Machine
    from xenlike.toolstack.spec import Exec
    from xenlike.toolstack.sync import SyncGuest, SyncMachine, open_machine

_HOMES = {
    "Device": "xenlike.toolstack.devices",
    "Disk": "xenlike.toolstack.devices",
    "Domain": "xenlike.domain.domain",
    "Exec": "xenlike.toolstack.spec",
    "Exit": "xenlike.toolstack.exits",
    "Guest": "xenlike.toolstack.guest",
    "Machine": "xenlike.toolstack.machine",
    "SyncGuest": "xenlike.toolstack.sync",
    "SyncMachine": "xenlike.toolstack.sync",
    "open_machine": "xenlike.toolstack.sync",
}

__all__ = [
    "Device",
    "Disk",
    "Domain",
    "Exec",
    "Exit",
    "Guest",
    "Machine",
    "SyncGuest",
    "SyncMachine",
    "open_machine",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'xenlike' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)
