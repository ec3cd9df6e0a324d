"""The client's side of a trace: what the machine sends becomes events, in order."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from xenlike.toolstack.tracing.merge import Merger
from xenlike.toolstack.tracing.protocols import Protocols
from xenlike.toolstack.tracing.select import Selection
from xenlike.toolstack.tracing.updates import TracedDevice, TraceDrivers, TraceParams, TraceUpdate

if TYPE_CHECKING:
    from xenlike.toolstack.control import Control
    from xenlike.toolstack.tracing.clock import Clock
    from xenlike.toolstack.tracing.event import TraceEvent


class TraceClient:
    """Follows a machine's trace.

    Args:
        control: the connection, which it takes for itself.
        what: a device or a domain as people name it; everything if it is empty.
        classes: bits of the classes that are wanted.
        follow: go on with what comes; without it what is there is all.

    Attributes:
        names: the domains' names by domid, so far as they were seen.
        device: the device that was meant, once the first events have come.
        protocols: of all devices.
        first_ns: time of the first event that was wanted; 0 before it.
    """

    def __init__(self, control: Control, what: str = "", classes: int = 127, *, follow: bool = True) -> None:
        self._control = control
        self._params = TraceParams(what, classes, follow)
        self._selection = Selection(classes)
        self._merger = Merger()
        self._clock: Clock | None = None
        self.names: dict[int, str] = {}
        self.device: TracedDevice | None = None
        self.protocols = Protocols()
        self.first_ns = 0

    @property
    def lost(self) -> dict[int, int]:
        """How many records were lost so far, by domain: overwritten before they were read, or nonsense."""
        return self._merger.lost

    async def batches(self) -> AsyncGenerator[list[TraceEvent], None]:
        """Yields events in order, some at a time; ends when all was sent.

        Raises:
            NoSuchDevice: there is no such device or domain.
            ConfigError: several may be meant.
            MachineError: the machine went away.
        """
        params: dict[str, object] = msgspec.to_builtins(self._params)
        async with aclosing(self._control.events("trace", params)) as events:
            async for event in events:
                if found := self._take(msgspec.json.decode(event["update"], type=TraceUpdate)):
                    yield found
        if found := self.rest():
            yield found

    def rest(self) -> list[TraceEvent]:
        """Returns what was kept back; for whoever leaves before the end."""
        return self._wanted(self._merger.rest(self._clock)) if self._clock is not None else []

    def _take(self, update: TraceUpdate) -> list[TraceEvent]:
        if update.device is not None or update.domain:
            self.device = update.device
            self._selection = Selection(self._params.classes, update.device, update.domain)
        if update.names is not None:
            self.names |= update.names
            self._selection.know(update.names)
        if update.drivers is not None:
            self._learn(update.drivers)
        if update.clock is not None:
            self._clock = update.clock
            for chunk in update.chunks:
                self._merger.add(chunk, update.clock)
        return self._wanted(self._merger.upto(update.horizon_ns)) if update.horizon_ns else []

    def _wanted(self, events: list[TraceEvent]) -> list[TraceEvent]:
        wanted = [event for event in events if self._selection.wants(event)]
        if wanted and not self.first_ns:
            self.first_ns = wanted[0].time_ns
        return wanted

    def _learn(self, drivers: TraceDrivers) -> None:
        self.protocols.learn(drivers.frontends)
        # Last: our own modules are ours, whatever the machine was started with.
        sys.path += [entry for entry in drivers.sys_path if entry not in sys.path]
