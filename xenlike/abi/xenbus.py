"""The states of a split device (Xen's `io/xenbus.h`)."""

from __future__ import annotations

from enum import IntEnum


class XenbusState(IntEnum):
    """What a frontend or backend writes to its `state` node.

    A state that skips some on the way is legal; `Unknown` means that the node is not there.
    """

    Unknown = 0
    Initialising = 1
    InitWait = 2
    """Finished early initialisation, waiting for the peer or the hotplug scripts."""
    Initialised = 3
    """Initialised, waiting for a connection from the peer."""
    Connected = 4
    Closing = 5
    """The device is being closed, because of an error or an unplug."""
    Closed = 6
    Reconfiguring = 7
    """The device is being reconfigured; the frontend keeps its connection."""
    Reconfigured = 8
