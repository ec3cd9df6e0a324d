"""Who moves when: the two state machines of a split device, as pure functions.

    toolstack            frontend                         backend
    writes both dirs     Initialising                     Initialising
                                                          offers its features, -> InitWait
                         shares ring and event channel,
                         -> Initialised
                                                          maps the ring, -> Connected
                         reads the features,
                         -> Connected
                         ... requests ...                 ... responses ...
    online=0, Closing                                     -> Closing
                         stops, -> Closed
                                                          unmaps, -> Closed
    removes both dirs

Each end looks at its own state and at the one the other end has published, and takes one step; it
looks again until the step is to wait. A state that was skipped is therefore no case of its own: a
frontend that finds its backend Connected while it is still Initialising shares its ring first and
connects after. The tables follow Linux's drivers: `blkback_changed` of xen-blkfront and
`frontend_changed` of xen-blkback.
"""

from __future__ import annotations

from enum import Enum, auto

from xenlike.abi.xenbus import XenbusState
from xenlike.errors import ProtocolError

__all__ = [
    "BackendAction",
    "FrontendAction",
    "XenbusState",
    "backend_action",
    "frontend_action",
    "is_legal_move",
    "parse_state",
]

Unknown = XenbusState.Unknown
Initialising = XenbusState.Initialising
InitWait = XenbusState.InitWait
Initialised = XenbusState.Initialised
Connected = XenbusState.Connected
Closing = XenbusState.Closing
Closed = XenbusState.Closed
Reconfiguring = XenbusState.Reconfiguring
Reconfigured = XenbusState.Reconfigured

_ENDING = (Closing, Closed)


class FrontendAction(Enum):
    """The next step of a frontend."""

    WAIT = auto()
    """Nothing to do until the store or the ring says something new."""
    SETUP = auto()
    """Share a ring and an event channel, publish them, go to Initialised."""
    CONNECT = auto()
    """Read what the backend is, go to Connected."""
    REFRESH = auto()
    """Connected already; the backend says that something about it changed, such as a disk's size."""
    CLOSE = auto()
    """Stop, take the ring back, go to Closed."""
    LOST = auto()
    """The backend vanished without closing: disconnect, and wait for its return."""


class BackendAction(Enum):
    """The next step of a backend."""

    WAIT = auto()
    """Nothing to do until the store or the ring says something new."""
    OFFER = auto()
    """Disconnect if connected, publish the features, go to InitWait."""
    CONNECT = auto()
    """Map the ring, bind the event channel, go to Connected."""
    CLOSING = auto()
    """Go to Closing, and serve on until the frontend has stopped."""
    CLOSE = auto()
    """Stop, unmap, go to Closed."""


def frontend_action(own: XenbusState, backend: XenbusState) -> FrontendAction:
    """Returns the next step of a frontend.

    Args:
        own: the frontend's state. `Unknown` stands for a frontend whose backend is gone, and which
            waits for another.
        backend: the state its backend has published; `Unknown` where there is none.
    """
    if own in (Unknown, Initialising):
        if backend == InitWait or (backend == Connected and own == Initialising):
            return FrontendAction.SETUP
        # What a dead backend left in the store is no reason to connect to it again. A Closed one that
        # lives sees that we are at the beginning, and begins too; a Closing one waits for us.
        return FrontendAction.CLOSE if backend == Closing else FrontendAction.WAIT
    if own == Initialised:
        if backend == Connected:
            return FrontendAction.CONNECT
        if backend in _ENDING:
            return FrontendAction.CLOSE
        return FrontendAction.LOST if backend == Unknown else FrontendAction.WAIT
    if own in (Connected, Reconfiguring, Reconfigured):
        if backend == Connected:
            return FrontendAction.REFRESH
        if backend in _ENDING:
            return FrontendAction.CLOSE
        if backend in (Reconfiguring, Reconfigured):
            return FrontendAction.WAIT
        # It starts again from the beginning, so the ring we share is nobody's any more.
        return FrontendAction.LOST
    if own == Closing:
        return FrontendAction.CLOSE if backend in (*_ENDING, Unknown) else FrontendAction.WAIT
    return FrontendAction.WAIT


def backend_action(own: XenbusState, frontend: XenbusState, *, online: bool = True) -> BackendAction:
    """Returns the next step of a backend.

    Args:
        own: the backend's state.
        frontend: the state its frontend has published; `Unknown` where there is none.
        online: the toolstack's `online` node; False when the device is being taken away.
    """
    if not online and own not in _ENDING:
        return BackendAction.CLOSING
    if own in (Unknown, Initialising):
        return BackendAction.OFFER
    if own == InitWait:
        if frontend in (Initialised, Connected):
            return BackendAction.CONNECT
        if frontend == Closing:
            return BackendAction.CLOSING
        return BackendAction.CLOSE if frontend == Closed else BackendAction.WAIT
    if own in (Initialised, Connected, Reconfiguring, Reconfigured):
        if frontend == Closing:
            return BackendAction.CLOSING
        if frontend in (Closed, Unknown):
            return BackendAction.CLOSE
        # It started again without closing, as a guest does that was suspended, or crashed.
        return BackendAction.OFFER if frontend in (Initialising, InitWait) else BackendAction.WAIT
    if own == Closing:
        return BackendAction.CLOSE if frontend in (Closed, Unknown) else BackendAction.WAIT
    if own == Closed and frontend == Initialising and online:
        return BackendAction.OFFER
    return BackendAction.WAIT


_MOVES: dict[XenbusState, tuple[XenbusState, ...]] = {
    Unknown: (Initialising, InitWait, Initialised, Closing, Closed),
    Initialising: (InitWait, Initialised, Closing, Closed, Unknown),
    InitWait: (Initialised, Connected, Closing, Closed, Unknown),
    Initialised: (InitWait, Connected, Closing, Closed, Unknown, Initialising),
    Connected: (Reconfiguring, Closing, Closed, Unknown, Initialising, InitWait),
    Reconfiguring: (Reconfigured, Closing, Closed, Unknown, Initialising, InitWait),
    Reconfigured: (Connected, Closing, Closed, Unknown, Initialising, InitWait),
    Closing: (Closed, Initialising, Unknown),
    Closed: (Initialising, InitWait, Unknown, Closing),
}


def is_legal_move(old: XenbusState, new: XenbusState) -> bool:
    """Says whether one end may go from `old` to `new`; to stay is legal.

    Forwards an end may skip states. Backwards it goes only to begin again: to Initialising, to
    InitWait (a backend whose frontend begins again), or to Unknown (its other end is gone).
    """
    return new == old or new in _MOVES[old]


def parse_state(text: str | None, domid: int | None = None) -> XenbusState:
    """Returns the state that a `state` node holds; `Unknown` where there is none or it is empty.

    Raises:
        ProtocolError: it holds something else than 0 to 8.
    """
    if not text:
        return Unknown
    if len(text) == 1 and "0" <= text <= "8":
        return XenbusState(int(text))
    raise ProtocolError(f"state = {text[:32]!r} is not a xenbus state (0 to 8)", domid)
