"""How drivers are found: by their device type, through the entry-point group `xenlike.drivers`.

An entry point, or a reference in a machine's description, names a `Driver`; that names its two halves,
which are imported only where they are needed, so that a guest never loads backend code.

    [project.entry-points."xenlike.drivers"]
    echo = "xenlike.io.echo:DRIVER"
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal

from xenlike.abi.driver import Driver
from xenlike.domain.reference import resolve
from xenlike.errors import ConfigError
from xenlike.xenbus.backend import Backend
from xenlike.xenbus.frontend import Frontend

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP = "xenlike.drivers"
# A checkout that was never installed has no entry points of its own.
_OURS = {
    "echo": "xenlike.io.echo:DRIVER",
    "kv": "xenlike.io.kv:DRIVER",
    "rng": "xenlike.io.rng:DRIVER",
    "sensor": "xenlike.io.sensor:DRIVER",
    "vbd": "xenlike.io.blk:DRIVER",
}


@functools.cache
def _installed() -> Mapping[str, tuple[str, ...]]:
    """Returns the references of each device type; more than one where packages disagree."""
    # Reads a file of every installed package: milliseconds, which the zygote spends once for all domains.
    found = {name: {reference: None} for name, reference in _OURS.items()}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {})[point.value] = None
    return {name: tuple(references) for name, references in found.items()}


def reference_to(type: str) -> str | None:
    """Returns where the installed driver of a device type is; None where there is none.

    Raises:
        ConfigError: there are several, of different packages.
    """
    references = _installed().get(type, ())
    if len(references) > 1:
        raise ConfigError(
            f"there are {len(references)} drivers for devices of type {type!r}: {', '.join(references)}; uninstall all "
            "but one of their packages, or say which: spawn(..., drivers=[DRIVER]), Device(..., driver=DRIVER)"
        )
    return references[0] if references else None


def driver_types() -> list[str]:
    """Returns the device types that have a driver, sorted."""
    return sorted(_installed())


def load_driver(type: str, reference: str | None = None) -> Driver:
    """Returns the driver of a device type; imports its protocol, and neither of its halves.

    Args:
        type: the device type, such as `vbd`.
        reference: where it is, as `module:attr` or `/path/file.py:attr`; by default its entry point says.

    Raises:
        ConfigError: there is none, or what is there is none.
    """
    if reference is None:
        reference = reference_to(type)
    if reference is None:
        # It may have been installed since, or be on a path of this domain's own.
        _installed.cache_clear()
        reference = reference_to(type)
    if reference is None:
        known = ", ".join(driver_types())
        raise ConfigError(f"no driver for devices of type {type!r}; there are drivers for {known}")
    driver = resolve(reference)
    if not isinstance(driver, Driver):
        raise ConfigError(f"{reference!r} is no xenlike Driver but {driver!r}")
    if driver.type != type:
        raise ConfigError(f"{reference!r} drives devices of type {driver.type!r}, not {type!r}")
    return driver


def load_frontend(driver: Driver | type | str) -> type[Frontend]:
    """Returns a driver's frontend class, importing it if need be.

    Args:
        driver: the driver, the class itself, or a reference to either.

    Raises:
        ConfigError: there is no such class, or it is no Frontend.
    """
    found = _half(driver, "frontend")
    if not issubclass(found, Frontend):
        raise ConfigError(f"{found.__module__}:{found.__qualname__} is no subclass of xenlike.xenbus.Frontend")
    return found


def load_backend(driver: Driver | type | str) -> type[Backend]:
    """Returns a driver's backend class; as `load_frontend`."""
    found = _half(driver, "backend")
    if not issubclass(found, Backend):
        raise ConfigError(f"{found.__module__}:{found.__qualname__} is no subclass of xenlike.xenbus.Backend")
    return found


def _half(driver: Driver | type | str, side: Literal["frontend", "backend"]) -> type:
    found: object = resolve(driver) if isinstance(driver, str) else driver
    if isinstance(found, Driver):
        found = resolve(found.frontend if side == "frontend" else found.backend)
    if not isinstance(found, type):
        raise ConfigError(f"{found!r} is no {side} class, and no Driver")
    return found
