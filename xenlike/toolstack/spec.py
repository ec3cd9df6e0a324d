"""What a domain is started from: checked as a whole before anything of it exists."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from xenlike.abi.driver import Driver
from xenlike.domain.reference import reference_to
from xenlike.errors import ConfigError
from xenlike.toolstack.config import Action
from xenlike.toolstack.devices import Device, Disk
from xenlike.toolstack.paths import check_name
from xenlike.toolstack.sizes import parse_memory

PAGE = 4096
MAX_WINDOWS = 1024
# The hypervisor's limit.
MAX_MEMORY = 16 << 30
# `XENLIKE_LOG=INFO` makes every domain log its state changes on its console, `DEBUG` every request.
LOG_VARIABLE = "XENLIKE_LOG"

# What a domain runs beside its entry: its frontends, and the backends it was given.
BUSES = "xenlike.xenbus.service:run_buses"


@dataclass(frozen=True, slots=True)
class Exec:
    """An entry that is an executable in any language: it is handed its hypercall socket.

    Its descriptor is in `XENLIKE_HYPERCALL_FD`; `docs/hypercalls.md` says how to speak on it.

    Args:
        command: program and arguments.
        environment: added to the caller's.
    """

    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


Entry = Callable[..., object] | str | Exec | None


@dataclass(slots=True)
class DomainSpec:
    """One domain to be. Kept, so that it can be started again."""

    name: str
    entry: Entry
    backends: tuple[str, ...]
    memory: int
    args: tuple[object, ...]
    devices: list[Disk | Device]
    drivers: dict[str, Driver]
    on_crash: Action = "destroy"
    on_reboot: Action = "restart"
    on_poweroff: Action = "destroy"

    @property
    def nr_pages(self) -> int:
        """Private RAM."""
        return self.memory // PAGE

    def config(self) -> dict[str, object]:
        """What the domain is told by GET_CONFIG."""
        config: dict[str, object] = {
            "cwd": os.getcwd(),
            "sys_path": [os.path.abspath(entry) for entry in sys.path],
            "services": [BUSES],
            "backends": list(self.backends),
            "drivers": {
                name: {"frontend": driver.frontend, "backend": driver.backend} for name, driver in self.drivers.items()
            },
            "args": list(self.args),
            "log": os.environ.get(LOG_VARIABLE, ""),
        }
        if isinstance(self.entry, Exec):
            config["exec"] = list(self.entry.command)
            config["environment"] = dict(self.entry.environment)
        elif self.entry is not None:
            config["entry"] = self.entry if isinstance(self.entry, str) else reference_to(self.entry)
        return config

    def action_after(self, reason: str) -> Action:
        """What is to follow an end with that reason."""
        return {"crash": self.on_crash, "watchdog": self.on_crash, "reboot": self.on_reboot}.get(
            reason, self.on_poweroff if reason == "poweroff" else "destroy"
        )


def make_spec(
    name: str,
    entry: Entry,
    *,
    devices: Sequence[Disk | Device] = (),
    backends: Sequence[str] = (),
    drivers: Sequence[Driver] = (),
    memory: str | int = "64M",
    args: Sequence[object] = (),
    on_crash: Action = "destroy",
    on_reboot: Action = "restart",
    on_poweroff: Action = "destroy",
) -> DomainSpec:
    """Checks what can be checked without a machine.

    Raises:
        ConfigError: a word is wrong; the message says which and why.
    """
    check_name(name, "domain")
    size = parse_memory(memory)
    if size > MAX_MEMORY:
        raise ConfigError(f"{name!r} asks for {size >> 20} MiB of memory, and a domain has {MAX_MEMORY >> 20} at most")
    if size > _available():
        raise ConfigError(
            f"{name!r} asks for {size >> 20} MiB of memory, and the host has {_available() >> 20} MiB available"
        )
    given: dict[str, Driver] = {}
    for driver in (*drivers, *(device.driver for device in devices if isinstance(device, Device))):
        if driver is not None and given.setdefault(driver.type, driver) != driver:
            raise ConfigError(
                f"{name!r} has two drivers for devices of type {driver.type!r}, with {given[driver.type].backend} and "
                f"with {driver.backend}: give it one of them"
            )
    seen: set[tuple[str, int]] = set()
    for device in devices:
        if (device.type, device.id) in seen:
            raise ConfigError(f"{name!r} has two devices named {device.name}: give one another name")
        seen.add((device.type, device.id))
    for word, action in (("on_crash", on_crash), ("on_reboot", on_reboot), ("on_poweroff", on_poweroff)):
        if action not in get_args(Action):
            raise ConfigError(f"{word}={action!r} of {name!r} is none of {', '.join(get_args(Action))}")
    try:
        json.dumps(list(args))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"args of {name!r} cannot be passed on, they must be what JSON can say: {error}") from None
    _check_entry(name, entry)
    return DomainSpec(
        name, entry, tuple(backends), size, tuple(args), list(devices), given, on_crash, on_reboot, on_poweroff
    )


def _check_entry(name: str, entry: Entry) -> None:
    if isinstance(entry, Exec):
        if not entry.command or shutil.which(entry.command[0]) is None:
            raise ConfigError(f"the program of {name!r}, {' '.join(entry.command) or 'nothing'}, is not executable")
    elif isinstance(entry, str):
        where, colon, attribute = entry.rpartition(":")
        if not colon or not where or not attribute:
            raise ConfigError(f"entry {entry!r} of {name!r}: write package.module:function or path/file.py:function")
        if where.endswith(".py"):
            if not Path(where).is_file():
                raise ConfigError(f"entry {entry!r} of {name!r}: there is no file {where}")
        elif not _is_module(where):
            raise ConfigError(f"entry {entry!r} of {name!r}: there is no module {where}")
    elif entry is not None:
        reference_to(entry)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _available() -> int:
    """Bytes of memory that the host can still give."""
    with open("/proc/meminfo") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 62
