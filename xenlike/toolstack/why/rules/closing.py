"""The way out: online = 0, Closing, Closed, and who does not follow.

toolstack     online = 0
backend                   Closing               Closed
frontend                            Closed
toolstack                                              removes both directories
"""

from __future__ import annotations

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.why.evidence import Evidence
from xenlike.toolstack.why.rule import Finding, rules, waits

CLOSING, rule = rules()

_ENDING = (XenbusState.Closing, XenbusState.Closed)


@rule("going-away", "Nothing to do: when both ends are Closed the toolstack removes the device.")
def going_away(e: Evidence) -> Finding | None:
    """`online = 0` says that the device is being taken away for good."""
    if e.back.nodes.get("online") != "0":
        return None
    if e.back.state not in _ENDING:
        text = f"the device is being taken away (online = 0), and {e.back.title} is still {e.back.state.name}"
        return Finding("the toolstack", e.back.title, text)
    if e.front.state not in _ENDING:
        text = f"the device is being taken away (online = 0), and {e.front.title} is still {e.front.state.name}"
        return Finding("the toolstack", e.front.title, text)
    last = e.front if e.front.state == XenbusState.Closing else e.back
    if last.state == XenbusState.Closing:
        text = f"the device is being taken away (online = 0), and {last.title} is not Closed yet"
        return Finding("the toolstack", last.title, text)
    return Finding(e.front.who, "the toolstack", "both ends are Closed and the device is going away (online = 0)")


@rule("frontend-does-not-close", "The frontend must stop and go to Closed; look at its `disconnect`.")
def frontend_does_not_close(e: Evidence) -> Finding | None:
    """A backend stays in Closing, and serves on, until its frontend is Closed."""
    if e.back.state != XenbusState.Closing or e.front.state == XenbusState.Closed:
        return None
    return waits(e.back, e.front, f"{e.back.title} is Closing and {e.front.title} is still {e.front.state.name}")


@rule("backend-does-not-close", "The backend must let go of the ring and go to Closed; look at its `disconnect`.")
def backend_does_not_close(e: Evidence) -> Finding | None:
    """The frontend has stopped; it cannot begin again before the backend is done."""
    if e.front.state not in _ENDING or e.back.state == XenbusState.Closed:
        return None
    return waits(
        e.front, e.back, f"{e.front.title} is {e.front.state.name} and {e.back.title} is still {e.back.state.name}"
    )


@rule("nobody-relinks", "Attach the device anew; a driver domain that is started again is linked by the toolstack.")
def nobody_relinks(e: Evidence) -> Finding | None:
    """A frontend that is Closed begins again only when the toolstack says so."""
    if e.front.state != XenbusState.Closed or e.back.state != XenbusState.Closed:
        return None
    text = f"{e.front.title} and {e.back.title} are both Closed, and nobody has linked the frontend to a backend again"
    return Finding(e.front.who, "the toolstack", text)


@rule(
    "backend-closed", "Start the driver domain again, or attach the device anew: the frontend takes the next backend."
)
def backend_closed(e: Evidence) -> Finding | None:
    """The frontend holds its requests and waits for another backend."""
    if e.back.state != XenbusState.Closed:
        return None
    text = f"{e.back.title} is Closed, and {e.front.title} ({e.front.state.name}) waits to be linked to another"
    return Finding(e.front.who, "the toolstack", text)
