"""What the frontend shares, and what is wrong with it: nodes, ring, grants, event channel.

A frontend that is Initialised says: here are my ring (`ring-ref`) and my port (`event-channel`), come and get them. So
these rules look at a frontend that says so, and at a backend that is not Connected yet.
"""

from __future__ import annotations

from collections.abc import Iterator

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.why.evidence import Evidence
from xenlike.toolstack.why.rule import Finding, rules, waits
from xenlike.xenbus.negotiate import NATIVE_PROTOCOL

SHARING, rule = rules()

_U32 = 1 << 32


def _shares(e: Evidence) -> bool:
    """Whether the frontend says that its part is done, and the backend has not answered, or has given up."""
    if e.front.state not in (XenbusState.Initialised, XenbusState.Connected):
        return False
    waiting = e.back.state in (XenbusState.InitWait, XenbusState.Initialised)
    return waiting or (e.back.state == XenbusState.Closing and bool(e.back.error))


def _finding(e: Evidence, because: str) -> Finding:
    """The backend cannot go on, and the reason lies with the frontend, who waits for it."""
    return waits(e.front, e.front, f"{e.back.title} is in {e.back.state.name} because {because}")


def ring_refs(e: Evidence) -> list[str]:
    """Returns the nodes in which the ring's references must be."""
    order = e.front.number("ring-page-order") or 0
    if order == 0:
        return ["ring-ref0" if "ring-ref0" in e.front.nodes and "ring-ref" not in e.front.nodes else "ring-ref"]
    return [f"ring-ref{index}" for index in range(1 << min(order, 10))]


def _needed(e: Evidence) -> Iterator[str]:
    yield from ring_refs(e)
    yield "event-channel"
    yield from e.front_needs


@rule("protocol-unknown", "Only programs of this machine's word size and byte order can share a ring here.")
def protocol_unknown(e: Evidence) -> Finding | None:
    """Node `protocol` is the frontend's ABI."""
    protocol = e.front.nodes.get("protocol", "")
    if not _shares(e) or protocol in ("", NATIVE_PROTOCOL):
        return None
    return _finding(e, f"node protocol = {protocol[:32]!r} is not {NATIVE_PROTOCOL!r}")


@rule("layout-not-offered", "The frontend may choose only among the words of the backend's node ring-layout.")
def layout_not_offered(e: Evidence) -> Finding | None:
    """The backend offers layouts, the frontend chooses one."""
    layout = e.front.nodes.get("ring-layout") or "xen"
    offered = (e.back.nodes.get("ring-layout") or "xen").split()
    if not _shares(e) or layout in offered:
        return None
    return _finding(e, f"ring-layout = {layout[:32]!r} was not offered: the backend knows {', '.join(offered)}")


@rule("ring-too-large", "The frontend may choose at most the backend's node max-ring-page-order.")
def ring_too_large(e: Evidence) -> Finding | None:
    """The ring has 1 << order pages."""
    order, most = e.front.number("ring-page-order") or 0, e.back.number("max-ring-page-order") or 0
    if not _shares(e) or order <= most:
        return None
    return _finding(e, f"ring-page-order = {order} is more than the {most} that the backend maps")


@rule("node-missing", "The frontend must write the node before it says Initialised.")
def node_missing(e: Evidence) -> Finding | None:
    """Also while the frontend has only begun to write: then its state is what comes last."""
    begins = e.front.state in (XenbusState.Unknown, XenbusState.Initialising) and e.back.state == XenbusState.InitWait
    some = any(e.front.nodes.get(node) for node in ("ring-ref", "ring-ref0", "event-channel"))
    if not (_shares(e) or (begins and some)):
        return None
    missing = [node for node in _needed(e) if not e.front.nodes.get(node)]
    if not missing:
        return None
    what = f"node {missing[0]} is missing" if len(missing) == 1 else f"nodes {', '.join(missing)} are missing"
    return _finding(e, what)


@rule("node-not-a-number", "References and ports are decimal numbers, without sign and without 0x.")
def node_not_a_number(e: Evidence) -> Finding | None:
    """The backend takes a node for what it should be, or gives up."""
    if not _shares(e):
        return None
    for node in (*ring_refs(e), "event-channel"):
        number = e.front.number(node)
        if number is None or number >= _U32:
            return _finding(e, f"node {node} = {e.front.nodes.get(node, '')[:32]!r} is not a number")
    return None


@rule("grant-revoked", "The frontend must keep the grants of its ring until the backend is Closed.")
def grant_revoked(e: Evidence) -> Finding | None:
    """The entry of the frontend's grant table says nothing."""
    for grant in e.grants if _shares(e) else ():
        if not grant.given:
            return _finding(
                e, f"grant {grant.ref} ({grant.node}) of d{e.front.domain.domid} is not given, or was revoked"
            )
    return None


@rule(
    "grant-to-another", "The frontend grants to the domain in its node backend-id; that may be another after a restart."
)
def grant_to_another(e: Evidence) -> Finding | None:
    """A grant names one domain, and so does the memory behind it."""
    for grant in e.grants if _shares(e) else ():
        whom = next((d for d in (grant.peer, grant.window_peer) if d is not None and d != e.back.domain.domid), None)
        if whom is not None:
            text = f"grant {grant.ref} ({grant.node}) is for d{whom}, and not for d{e.back.domain.domid}"
            return _finding(e, text)
        if grant.window_peer is None:
            return _finding(e, f"grant {grant.ref} ({grant.node}) names a page that can be granted to nobody")
    return None


@rule("port-closed", "The frontend must keep its event channel open until the backend is Closed.")
def port_closed(e: Evidence) -> Finding | None:
    """There is nothing to bind to."""
    if not _shares(e) or e.port is None or e.port.status in ("unbound", "interdomain"):
        return None
    return _finding(e, f"event-channel {e.port.port} of d{e.front.domain.domid} is {e.port.status}")


@rule("port-of-another", "The frontend makes its port for the domain in its node backend-id, and only once.")
def port_of_another(e: Evidence) -> Finding | None:
    """A port is made for one domain, and bound once."""
    if not _shares(e) or e.port is None or e.port.domid == e.back.domain.domid:
        return None
    how = "is bound to" if e.port.status == "interdomain" else "was made for"
    return _finding(e, f"event-channel {e.port.port} {how} d{e.port.domid}, and not d{e.back.domain.domid}")
