"""Who has to move next, on the way to Connected. The table of moves is in `xenlike.xenbus.state`.

frontend      Initialising      Initialising      Initialised      Initialised     Connected
backend       Initialising      InitWait          InitWait         Connected       Connected
next          backend           frontend          backend          frontend        -
"""

from __future__ import annotations

from xenlike.abi.xenbus import XenbusState
from xenlike.errors import ProtocolError
from xenlike.toolstack.why.evidence import End, Evidence
from xenlike.toolstack.why.rule import Finding, rules, waits
from xenlike.xenbus.state import parse_state

LINKS, link = rules()
HANDSHAKE, rule = rules()

_BEGINNING = (XenbusState.Unknown, XenbusState.Initialising)


@link("no-directory", "The toolstack makes both directories in one step; attach the device anew.")
def no_directory(e: Evidence) -> Finding | None:
    """Half a device: its other half was taken away, or never made."""
    for end, other in ((e.back, e.front), (e.front, e.back)):
        if not end.nodes:
            what = end.path or f"its node {end.side}"
            return Finding(other.who, "the toolstack", f"there is no {what} in the store")
    return None


@link("not-linked", "The toolstack points both ends to each other in one step; attach the device anew.")
def not_linked(e: Evidence) -> Finding | None:
    """Each directory names the other end's."""
    for end, other in ((e.front, e.back), (e.back, e.front)):
        path, domid = end.nodes.get(other.side, ""), end.nodes.get(f"{other.side}-id", "")
        if path != other.path or domid != str(other.domain.domid):
            text = f"{end.title} is linked to {path or 'nothing'} of d{domid or '?'}, and not to {other.path}"
            return Finding(other.who, "the toolstack", text)
    return None


@link("no-state", "A state is one digit, 0 to 8: `xenlike.abi.xenbus.XenbusState`.")
def no_state(e: Evidence) -> Finding | None:
    """Who reads it gives the connection up."""
    for end, other in ((e.front, e.back), (e.back, e.front)):
        try:
            parse_state(end.nodes.get("state"))
        except ProtocolError as error:
            return waits(other, end, f"{end.title} has published that {error}")
    return None


def _why_not_begun(end: End) -> str:
    domain = end.domain
    if domain.program:
        return f"its domain runs a program of its own, or nothing yet: nobody there has taken up {end.path}"
    if domain.looked is False:
        return "its domain has never looked at the device: the bus does not run there, or something blocks its loop"
    if domain.begun is False:
        return "its domain has seen the device and has not begun with it: the driver is being imported or made"
    return "its `setup` has not returned, or something blocks its domain's loop"


@rule("backend-not-begun", "Look at the driver domain's console and at the driver's `setup`.")
def backend_not_begun(e: Evidence) -> Finding | None:
    """It publishes its features and goes to InitWait."""
    if e.back.state not in _BEGINNING or e.back.nodes.get("online") == "0":
        return None
    state = e.back.state.name
    return waits(e.front, e.back, f"{e.back.title} is in {state} and has offered nothing: {_why_not_begun(e.back)}")


@rule("frontend-not-begun", "Look at the guest's console and at the driver's `setup`.")
def frontend_not_begun(e: Evidence) -> Finding | None:
    """It shares ring and event channel and goes to Initialised."""
    if e.front.state not in _BEGINNING or e.back.state not in (XenbusState.InitWait, XenbusState.Connected):
        return None
    text = f"{e.front.title} is in {e.front.state.name} and has shared no ring: {_why_not_begun(e.front)}"
    return waits(e.back, e.front, text)


@rule("backend-does-not-connect", "Look at the driver domain's console and at the driver's `connect`.")
def backend_does_not_connect(e: Evidence) -> Finding | None:
    """It maps the ring, binds the event channel and goes to Connected."""
    front = (XenbusState.Initialised, XenbusState.Connected)
    if e.front.state not in front or e.back.state not in (XenbusState.InitWait, XenbusState.Initialised):
        return None
    done = [
        "mapped the ring" if any(grant.mapped for grant in e.grants) else "not mapped the ring",
        "bound the event channel" if e.port is not None and e.port.status == "interdomain" else "not bound the channel",
    ]
    how = "its `connect` has not returned" if done[0].startswith("mapped") else "it has not heard of it"
    text = f"{e.back.title} is in {e.back.state.name} although {e.front.title} has shared everything: {how} "
    return waits(e.front, e.back, f"{text}(it has {' and '.join(done)})")


@rule("backend-node-missing", "The backend must write the node before it says Connected: return it from `connect`.")
def backend_node_missing(e: Evidence) -> Finding | None:
    """The protocol declares it, without a default: the frontend cannot do without."""
    if e.front.state != XenbusState.Initialised or e.back.state != XenbusState.Connected:
        return None
    missing = [node for node in e.back_needs if not e.back.nodes.get(node)]
    if not missing:
        return None
    what = f"node {missing[0]} of {e.back.title} is missing"
    if len(missing) > 1:
        what = f"nodes {', '.join(missing)} of {e.back.title} are missing"
    return waits(e.front, e.back, f"{e.front.title} is in Initialised because {what}")


@rule("frontend-does-not-connect", "Look at the guest's console and at the driver's `connect`.")
def frontend_does_not_connect(e: Evidence) -> Finding | None:
    """It reads what the backend is and goes to Connected."""
    if e.front.state != XenbusState.Initialised or e.back.state != XenbusState.Connected:
        return None
    text = f"{e.front.title} is in Initialised although {e.back.title} is Connected: its `connect` has not returned"
    return waits(e.front, e.front, text)
