"""The device buses as a service: what every domain with a store runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import trio

from xenlike.xenbus.bus import BackendBus, DriverLike, FrontendBus
from xenlike.xenbus.interface import DomainLike

if TYPE_CHECKING:
    from collections.abc import Mapping


class ConfiguredDomain(DomainLike, Protocol):
    """A domain that the toolstack has told what to run."""

    @property
    def config(self) -> Mapping[str, object]:
        """The toolstack's words."""
        ...


async def run_buses(
    domain: ConfiguredDomain, *, task_status: trio.TaskStatus[FrontendBus] = trio.TASK_STATUS_IGNORED
) -> None:
    """Runs a domain's frontends, and the backends it was given; `started` with the bus of the frontends.

    In the domain's configuration, `backends` lists the device types it serves, "*" for all, and
    `drivers` maps types to `{"frontend": "module:Class", "backend": "module:Class"}` for drivers that
    are in no entry point.
    """
    types = domain.config.get("backends")
    async with trio.open_nursery() as nursery:
        if isinstance(types, list) and types:
            served = None if "*" in types else [str(name) for name in types]
            await nursery.start(BackendBus(domain, _halves(domain, "backend"), served).run)
        await FrontendBus(domain, _halves(domain, "frontend")).run(task_status=task_status)


def _halves(domain: ConfiguredDomain, side: Literal["frontend", "backend"]) -> dict[str, DriverLike]:
    given = domain.config.get("drivers")
    if not isinstance(given, dict):
        return {}
    return {str(name): str(halves[side]) for name, halves in given.items()}
