"""Which events belong to a device: those of both ends' rings and states, and what was done for them.

An event of a grant or a channel names no device, but the domain that it is for. It counts as the device's when that
is the other end; two devices between the same two domains cannot be told apart by that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xenlike.abi import recorder as abi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xenlike.toolstack.tracing.event import TraceEvent
    from xenlike.toolstack.tracing.updates import TracedDevice

_NAMED = abi.XENLIKE_TRACE_RING | abi.XENLIKE_TRACE_ENTRY | abi.XENLIKE_TRACE_XENBUS | abi.XENLIKE_TRACE_USER
# Events that say for whom.
_TELLS = {
    abi.XENLIKE_TRACE_EVENT: (abi.XENLIKE_TRACE_ALLOC, abi.XENLIKE_TRACE_BIND, abi.XENLIKE_TRACE_CLOSE),
    abi.XENLIKE_TRACE_GRANT: (abi.XENLIKE_TRACE_GRANTED,),
}
_HOME = re.compile(r"/local/domain/([0-9]+)/(.*)", re.ASCII)


class Selection:
    """Says which events are wanted.

    Args:
        classes: bits of the classes.
        device: the only device, with both ends; None for all.
        domain: name of the only domain; empty for all.
    """

    def __init__(self, classes: int, device: TracedDevice | None = None, domain: str = "") -> None:
        self._classes = classes
        self._device = device
        self._domain = domain
        self._guest = ""
        self._domids: set[int] = set()
        self._fronts: set[int] = set() if device is None else {device.front}
        self._backs: set[int] = set() if device is None else {device.back}
        # For whom a domain's ports and references are.
        self._peers: dict[tuple[int, int, int], int] = {}

    def know(self, names: Mapping[int, str]) -> None:
        """Takes the domains there are: one that was started again has another number."""
        self._domids |= {domid for domid, name in names.items() if name == self._domain}
        if self._device is not None:
            self._guest = self._guest or names.get(self._device.front, "")
            self._fronts |= {domid for domid, name in names.items() if name == self._guest}

    def wants(self, event: TraceEvent) -> bool:
        """Whether an event is wanted; to be asked of all, in order, since it learns from them."""
        mine = self._device is None or self._is_the_devices(event)
        if not event.kind & self._classes:
            return False
        return mine and (not self._domain or event.domid in self._domids)

    def _is_the_devices(self, event: TraceEvent) -> bool:
        if event.device and event.kind & _NAMED:
            return self._is_end(event.domid, event.device)
        if event.kind == abi.XENLIKE_TRACE_STORE and event.payload:
            return self._is_of_path(event.domid, event.text.partition(" = ")[0])
        if event.kind in (abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_EVENT):
            peer = self._peer(event)
            if peer is not None:
                return (event.domid in self._fronts and peer in self._backs) or (
                    event.domid in self._backs and peer in self._fronts
                )
        return event.domid in self._fronts | self._backs

    def _is_end(self, domid: int, nodename: str) -> bool:
        device = self._device
        assert device is not None
        if domid in self._fronts and nodename == f"device/{device.type}/{device.id}":
            return True
        if any(nodename == f"backend/{device.type}/{front}/{device.id}" for front in self._fronts):
            self._backs.add(domid)
            return True
        return False

    def _is_of_path(self, domid: int, path: str) -> bool:
        home = _HOME.fullmatch(path)
        if home is not None:
            domid, path = int(home[1]), home[2]
        parts = path.removeprefix("error/").split("/")
        nodename = "/".join(parts[: 4 if parts[0] == "backend" else 3])
        return self._is_end(domid, nodename)

    def _peer(self, event: TraceEvent) -> int | None:
        """Returns for whom a channel or a grant is, where that can be told."""
        if event.kind == abi.XENLIKE_TRACE_GRANT and event.event == abi.XENLIKE_TRACE_MAPPED:
            return event.b
        if event.kind == abi.XENLIKE_TRACE_GRANT and event.event == abi.XENLIKE_TRACE_UNMAPPED:
            return None
        key = (event.domid, event.kind, event.a)
        if event.event in _TELLS[event.kind]:
            self._peers[key] = event.b
        return self._peers.get(key)
