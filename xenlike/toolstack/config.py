"""Machine files: a machine's domains and their devices, in TOML.

    [machine]
    name = "lab"

    [[domain]]                          # a driver domain
    name = "storage"
    backends = ["vbd"]

    [[domain]]                          # a guest
    name = "guest"
    entry = "guest.py:main"             # or "package.module:function", or exec = ["./guest", "--fast"]
    args = ["--verbose"]
    memory = "64M"
    on_crash = "restart"                # destroy (default), restart, preserve; also on_reboot, on_poweroff

    [[domain.disk]]                     # xl's words
    target = "disk.img"
    format = "raw"
    vdev = "xvda"
    access = "rw"
    backend = "storage"

    [[domain.device]]                   # any driver's device
    type = "echo"
    id = 0
    backend = "storage"
    nodes = { max-size = 4096 }

Paths are relative to the file. Everything is checked before anything starts; an error names the file, the line, the
key and the reason.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from xenlike.errors import ConfigError
from xenlike.toolstack.devices import Device, Disk

Action = Literal["destroy", "restart", "preserve"]
"""What follows a domain's end: forget it, start it again, or keep its record to look at."""


@dataclass(frozen=True)
class DomainConfig:
    """One domain as it is to be started.

    Attributes:
        name: unique in its machine.
        entry: Python callable, `module:function` or `/path/file.py:function`.
        exec: program and arguments, where it is not Python.
        backends: device types that this domain serves.
        args: arguments of the entry.
        memory: in bytes.
        on_crash: after a crash, a signal or an exception.
        on_reboot: after a shutdown with reason reboot.
        on_poweroff: after a shutdown with reason poweroff, or the entry's return.
        devices: disks and other devices, in the file's order, disks first.
    """

    name: str
    entry: str | None = None
    exec: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    memory: int = 64 << 20
    on_crash: Action = "destroy"
    on_reboot: Action = "restart"
    on_poweroff: Action = "destroy"
    devices: tuple[Disk | Device, ...] = ()


@dataclass(frozen=True)
class MachineConfig:
    """A machine file that was found good.

    Attributes:
        name: the machine's.
        domains: backends before the domains they serve, else in the file's order.
        path: the file.
    """

    name: str
    domains: tuple[DomainConfig, ...]
    path: Path


def load_machine(path: Path | str) -> MachineConfig:
    """Reads and checks a machine file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or describes what cannot be started.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError(f"{path}: {reason}") from None
    return parse_machine(text, path)


def parse_machine(text: str, path: Path, drivers: Sequence[str] | None = None) -> MachineConfig:
    """Checks the text of a machine file.

    Args:
        text: TOML.
        path: where it is from, for messages and relative paths; its stem is the machine's default name.
        drivers: known device types; found by their entry points if None.

    Raises:
        ConfigError: as `load_machine`.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_toml_message(path, str(error))) from None
    from xenlike.toolstack.config_reader import Reader

    known = sorted(entry_points(group="xenlike.drivers").names) if drivers is None else list(drivers)
    return Reader(path, text, known).machine(data)


def _toml_message(path: Path, message: str) -> str:
    """Returns tomllib's complaint with its line where editors look for it."""
    if match := re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message):
        return f"{path}:{match[2]}:{match[3]}: {match[1]}"
    return f"{path}: {message}"
