"""From the tables of a machine file to a `MachineConfig`, with every rule that such a file must keep."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import msgspec

from xenlike.errors import ConfigError
from xenlike.toolstack.config import Action, DomainConfig, MachineConfig
from xenlike.toolstack.devices import DOMAIN_0, Device, DeviceConfigError, Disk, check_image
from xenlike.toolstack.paths import check_name
from xenlike.toolstack.sizes import parse_memory
from xenlike.toolstack.toml_lines import Path as KeyPath
from xenlike.toolstack.toml_lines import key_lines, line_of

_MISSING = re.compile(r"Object missing required field `(.*?)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
_TABLE_FOR_ARRAY = "Expected `array`, got `object`"
_WHERE = re.compile(r" - at `\$(.*?)`$")
_S = TypeVar("_S", bound=msgspec.Struct)
_T = TypeVar("_T")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    domain: list[dict[str, object]]
    machine: dict[str, object] = {}


class _Machine(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None


class _Domain(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    entry: str | None = None
    exec: list[str] = []
    backends: list[str] = []
    args: list[str] = []
    memory: int | str = "64M"
    on_crash: Action = "destroy"
    on_reboot: Action = "restart"
    on_poweroff: Action = "destroy"
    disk: list[dict[str, object]] = []
    device: list[dict[str, object]] = []


class _Disk(msgspec.Struct, forbid_unknown_fields=True):
    target: str
    vdev: str
    format: str = "raw"
    access: str = "rw"
    backend: str | int = DOMAIN_0


class _Device(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    id: int = 0
    backend: str | int = DOMAIN_0
    nodes: dict[str, str | int] = {}


class Reader:
    """Turns parsed TOML into a `MachineConfig`; every complaint goes through `_fail`."""

    def __init__(self, path: Path, text: str, drivers: list[str]) -> None:
        self.path = path
        self.folder = path.absolute().parent
        self.lines = key_lines(text)
        self.drivers = drivers

    def _fail(self, where: KeyPath, reason: str) -> ConfigError:
        line = line_of(self.lines, where)
        key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".")
        return ConfigError(f"{self.path}{f':{line}' if line else ''}: {key + ': ' if key else ''}{reason}")

    def _convert(self, value: object, kind: type[_S], where: KeyPath) -> _S:
        """Returns `value` as a struct; msgspec's complaint becomes one about the key it means."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            message = str(error)
        if match := _UNKNOWN.match(message):
            # The guess is worth having: most unknown keys are a letter off.
            from difflib import get_close_matches

            keys = list(kind.__struct_fields__)
            close = get_close_matches(match[1], keys, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(keys)}"
            raise self._fail((*where, match[1]), f"unknown key; {hint}")
        if match := _MISSING.match(message):
            raise self._fail(where, f"the key {match[1]!r} is missing")
        if match := _WHERE.search(message):
            # msgspec writes an index as `[...]`, so what comes after one has no place in the file.
            inner = tuple(key for key in match[1].partition("[")[0].split(".") if key)
            hint = f", with two brackets: [[{inner[-1]}]]" if message.startswith(_TABLE_FOR_ARRAY) else ""
            raise self._fail((*where, *inner), message[: match.start()] + hint)
        raise self._fail(where, message)

    def _call(self, where: KeyPath, function: Callable[[], _T]) -> _T:
        """Returns `function()`; its complaint becomes one about `where`."""
        try:
            return function()
        except DeviceConfigError as error:
            raise self._fail((*where, error.key), str(error)) from None
        except ConfigError as error:
            raise self._fail(where, str(error)) from None

    def machine(self, data: dict[str, object]) -> MachineConfig:
        """Returns the machine that the parsed TOML describes.

        Raises:
            ConfigError: it breaks a rule.
        """
        file = self._convert(data, _File, ())
        machine = self._convert(file.machine, _Machine, ("machine",))
        where: KeyPath = ("machine", "name")
        default = re.sub(r"[^A-Za-z0-9_.-]", "-", self.path.stem)
        name = self._call(where, lambda: check_name(machine.name or default))
        if not file.domain:
            raise self._fail((), "there is no [[domain]]")
        domains = [self._domain(table, ("domain", index)) for index, table in enumerate(file.domain)]
        self._check_names(domains)
        self._check_backends(domains)
        self._check_sharing(domains)
        return MachineConfig(name, self._start_order(domains), self.path)

    def _domain(self, table: dict[str, object], where: KeyPath) -> DomainConfig:
        raw = self._convert(table, _Domain, where)
        self._call((*where, "name"), lambda: check_name(raw.name, "domain"))
        if raw.name.isdigit() or raw.name.lower() == "domain-0":
            raise self._fail((*where, "name"), f"{raw.name!r} could be taken for a domid; let it begin with a letter")
        if not (raw.entry or raw.exec or raw.backends):
            raise self._fail(where, f"domain {raw.name!r} has nothing to do: give it entry, exec or backends")
        if raw.exec and (raw.entry or raw.backends):
            raise self._fail((*where, "exec"), "exec goes without entry and backends, which are Python's")
        if raw.args and not raw.entry:
            raise self._fail((*where, "args"), "args are for an entry; a program's arguments stand in exec")
        memory = self._call((*where, "memory"), lambda: parse_memory(raw.memory))
        for index, kind in enumerate(raw.backends):
            self._check_driver(kind, (*where, "backends"))
            if kind in raw.backends[:index]:
                raise self._fail((*where, "backends"), f"{kind!r} is there twice")
        disks = [self._disk(table, (*where, "disk", index)) for index, table in enumerate(raw.disk)]
        devices = [self._device(table, (*where, "device", index)) for index, table in enumerate(raw.device)]
        self._check_devices((*disks, *devices), where)
        return DomainConfig(
            name=raw.name,
            entry=self._entry(raw.entry, (*where, "entry")) if raw.entry else None,
            exec=self._program(raw.exec, (*where, "exec")),
            backends=tuple(raw.backends),
            args=tuple(raw.args),
            memory=memory,
            on_crash=raw.on_crash,
            on_reboot=raw.on_reboot,
            on_poweroff=raw.on_poweroff,
            devices=(*disks, *devices),
        )

    def _disk(self, table: dict[str, object], where: KeyPath) -> Disk:
        raw = self._convert(table, _Disk, where)
        made = self._call(
            where, lambda: Disk(raw.target, raw.format, raw.vdev, raw.access, str(raw.backend)).at(self.folder)
        )
        self._call((*where, "target"), lambda: check_image(made))
        return made

    def _device(self, table: dict[str, object], where: KeyPath) -> Device:
        raw = self._convert(table, _Device, where)
        if raw.type == "vbd":
            raise self._fail((*where, "type"), "a disk is written as [[domain.disk]]")
        self._check_driver(raw.type, (*where, "type"))
        return self._call(where, lambda: Device(raw.type, raw.id, str(raw.backend), raw.nodes))

    def _check_driver(self, kind: str, where: KeyPath) -> None:
        if kind not in self.drivers:
            raise self._fail(where, f"no driver is called {kind!r}; known are {', '.join(self.drivers) or 'none'}")

    def _check_devices(self, devices: Sequence[Disk | Device], where: KeyPath) -> None:
        """No two devices of a domain share type and number, whichever way a disk's name spells its number."""
        names: dict[tuple[str, int], str] = {}
        for place, device in _places(devices, where):
            name = device.vdev if isinstance(device, Disk) else device.name
            if (first := names.get((device.type, device.id))) is not None:
                also = "" if first == name else f", once as {first}"
                raise self._fail(place, f"this domain has {name} twice{also}")
            names[device.type, device.id] = name

    def _entry(self, entry: str, where: KeyPath) -> str:
        """Returns an entry with the path of its file made absolute."""
        place, colon, function = entry.rpartition(":")
        if not colon or not place or not all(part.isidentifier() for part in function.split(".")):
            raise self._fail(where, f"{entry!r} is not 'package.module:function' or 'file.py:function'")
        if place.endswith(".py") or "/" in place:
            file = self.folder / Path(place).expanduser()
            if not file.is_file():
                raise self._fail(where, f"there is no file {file}")
            return f"{os.path.abspath(file)}:{function}"
        top = place.partition(".")[0]
        if not all(part.isidentifier() for part in place.split(".")) or find_spec(top) is None:
            raise self._fail(where, f"there is no module {top!r}; a file is written as '{place}.py:{function}'")
        return entry

    def _program(self, words: Sequence[str], where: KeyPath) -> tuple[str, ...]:
        """Returns an exec list with the path of its program made absolute."""
        if not words:
            return ()
        program = str(self.folder / words[0]) if "/" in words[0] else words[0]
        found = shutil.which(program)
        if found is None:
            raise self._fail(where, f"there is no program {words[0]!r} that may be executed")
        return (os.path.abspath(found), *words[1:])

    def _check_names(self, domains: Sequence[DomainConfig]) -> None:
        names: set[str] = set()
        for index, domain in enumerate(domains):
            if domain.name in names:
                raise self._fail(("domain", index, "name"), f"there are two domains {domain.name!r}")
            names.add(domain.name)

    def _check_backends(self, domains: Sequence[DomainConfig]) -> None:
        """Every device's backend is domain 0 or a domain of this file that serves its type."""
        by_name = {domain.name: domain for domain in domains}
        for place, domain, device in _all_places(domains):
            where = (*place, "backend")
            if device.backend == DOMAIN_0:
                continue
            backend = by_name.get(device.backend)
            if backend is None:
                names = ", ".join(by_name)
                raise self._fail(where, f"no domain is called {device.backend!r}; there are {names}, and 0")
            if backend is domain:
                raise self._fail(where, f"{domain.name!r} cannot be the backend of its own device")
            # What a program serves is its own affair.
            if not backend.exec and device.type not in backend.backends:
                offers = list(backend.backends)
                raise self._fail(where, f"{backend.name!r} serves no {device.type}: it has backends = {offers}")

    def _check_sharing(self, domains: Sequence[DomainConfig]) -> None:
        """No image is written by one disk and used by another (the rule of Xen's block script): data would be lost."""
        users: dict[tuple[int, int], tuple[str, bool]] = {}
        for place, domain, disk in _all_places(domains):
            if not isinstance(disk, Disk) or disk.format == "memory":
                continue
            status = os.stat(disk.target)
            user = f"{disk.vdev} of {domain.name!r}", disk.readonly
            first, readonly = users.setdefault((status.st_dev, status.st_ino), user)
            if first != user[0] and not (readonly and disk.readonly):
                raise self._fail(
                    (*place, "target"), f"this image is {first} too; only with access 'ro' may two have it"
                )

    def _start_order(self, domains: Sequence[DomainConfig]) -> tuple[DomainConfig, ...]:
        """Returns the domains in the file's order, except that a backend comes before whom it serves."""
        by_name = {domain.name: domain for domain in domains}
        order: list[DomainConfig] = []
        way: list[str] = []

        def visit(domain: DomainConfig) -> None:
            if domain in order:
                return
            if domain.name in way:
                ring = " -> ".join((*way[way.index(domain.name) :], domain.name))
                where: KeyPath = ("domain", list(by_name).index(domain.name))
                raise self._fail(where, f"these domains wait for each other's backends: {ring}")
            way.append(domain.name)
            for device in domain.devices:
                if device.backend != DOMAIN_0:
                    visit(by_name[device.backend])
            way.pop()
            order.append(domain)

        for domain in domains:
            visit(domain)
        return tuple(order)


def _places(devices: Sequence[Disk | Device], where: KeyPath) -> Iterator[tuple[KeyPath, Disk | Device]]:
    """Yields each device of the domain at `where` with the place of its own table."""
    counts = {"disk": 0, "device": 0}
    for device in devices:
        table = "disk" if isinstance(device, Disk) else "device"
        yield (*where, table, counts[table]), device
        counts[table] += 1


def _all_places(domains: Sequence[DomainConfig]) -> Iterator[tuple[KeyPath, DomainConfig, Disk | Device]]:
    for index, domain in enumerate(domains):
        for place, device in _places(domain.devices, ("domain", index)):
            yield place, domain, device
