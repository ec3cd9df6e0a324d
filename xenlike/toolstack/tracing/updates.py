"""What goes over a machine's control socket while somebody follows its trace.

The method `trace` is answered by events, each with one update in its `update`, as JSON. Records go as they are: a
client makes sense of them, so that nothing of that costs the machine anything, or can hurt it.
"""

from __future__ import annotations

import msgspec

from xenlike.toolstack.tracing.clock import Clock
from xenlike.toolstack.tracing.reader import Chunk


class TraceParams(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of `trace`.

    Attributes:
        what: a device or a domain as people name it; everything if it is empty.
        classes: bits of `XENLIKE_TRACE_RING` and `XENLIKE_TRACE_ENTRY` that are to be recorded meanwhile.
        follow: go on with what comes, until the client leaves; without it the answer is what is there.
    """

    what: str = ""
    classes: int = 0
    follow: bool = True


class TracedDevice(msgspec.Struct, frozen=True):
    """The device that was meant.

    Attributes:
        type: such as `vbd`.
        id: its number.
        front: the guest's domid, when it was asked.
        back: the backend's, likewise.
        name: how it is best called, such as `guest/xvda`.
    """

    type: str
    id: int
    front: int
    back: int
    name: str


class TraceDrivers(msgspec.Struct, frozen=True):
    """What a client needs to find the protocols of drivers that are in no entry point.

    Attributes:
        frontends: `module:Class` by device type.
        sys_path: where the machine finds modules.
    """

    frontends: dict[str, str] = {}
    sys_path: list[str] = []


class TraceUpdate(msgspec.Struct, omit_defaults=True):
    """One message.

    Attributes:
        chunks: records of domains.
        clock: of the machine, not older than the records.
        horizon_ns: no record that is yet to come is older than this; 0 where nothing is known.
        names: of the domains by domid, when they changed.
        device: in the first message, if one device is meant.
        domain: likewise, the domain's name.
        drivers: when they changed.
    """

    chunks: list[Chunk] = []
    clock: Clock | None = None
    horizon_ns: int = 0
    names: dict[int, str] | None = None
    device: TracedDevice | None = None
    domain: str = ""
    drivers: TraceDrivers | None = None
