"""One end of a device in a few lines: what the table of `xenlike why` shows, and reports of tests."""

from __future__ import annotations

from xenlike.toolstack.tracing.words import state_name
from xenlike.toolstack.why.evidence import End, Evidence, GrantFacts

_BROKEN = {1: "its peer ran ahead", 2: "its peer went back", 3: "closed", 4: "bad tag"}
_WORTH_IT = {
    "frontend": ("ring-ref", "ring-ref0", "ring-page-order", "ring-layout", "event-channel", "protocol"),
    "backend": ("online", "ring-layout", "max-ring-page-order"),
}


def facts(evidence: Evidence, end: End) -> list[tuple[str, str]]:
    """Returns names and values, in an order that is the same for both ends; values may have several lines."""
    rows = [("domain", _domain(end)), ("state", _state(end))]
    if end.error:
        rows.append(("error", end.error))
    rows.append(("nodes", "\n".join(_nodes(evidence, end)) or "-"))
    queue = end.queue
    if queue is not None and queue.nr_slots:
        mine, theirs, event = ("req_prod", "rsp_cons", "rsp_event")
        if end.side == "backend":
            mine, theirs, event = ("rsp_prod", "req_cons", "req_event")
        rows.append(("ring", f"{mine} {queue.prod}, {theirs} {queue.cons}, of {queue.nr_slots} slots"))
        what = "in flight" if end.side == "frontend" else "unanswered"
        rows.append((what, f"{queue.unanswered}" + (f", {queue.starved} wait for a page" if queue.starved else "")))
        rows.append(("told", f"kicked at {queue.kicked}, armed at {queue.armed} ({event})"))
        if queue.broken or not queue.in_use:
            how = _BROKEN.get(queue.broken, "no longer in use")
            rows.append(("broken", how + (f": {queue.bad_index}" if queue.bad_index else "")))
    if end.stream is not None:
        way = {2: "published to", 3: "read to"}.get(end.stream.side, "?")
        index = end.stream.prod if end.stream.side == 2 else end.stream.cons
        rows.append(("stream", f"{way} {index}, of {end.stream.nr_slots} slots"))
    if end.side == "frontend":
        if evidence.port is not None:
            port = evidence.port
            whom = f" with d{port.domid}" if port.domid >= 0 else ""
            rows.append(("channel", f"port {port.port}: {port.status}{whom}"))
        if evidence.grants:
            rows.append(("grants", "\n".join(_grant(grant) for grant in evidence.grants[:4])))
    elif evidence.port is not None and evidence.port.remote_port:
        rows.append(("channel", f"port {evidence.port.remote_port}"))
    return rows


def _domain(end: End) -> str:
    domain = end.domain
    number = f"d{domain.domid}" if domain.domid >= 0 else ""
    return " ".join(word for word in (domain.name, number, domain.state) if word)


def _state(end: End) -> str:
    if not end.nodes:
        return "no directory"
    text = end.nodes.get("state", "missing")
    text = f"{text} ({end.state.name})" if text.isdigit() else f"{text!r}"
    since = "" if end.since_s is None else f" for {end.since_s:.1f} s"
    if end.itself in (None, int(end.state)):
        return text + since
    return f"{text}, by itself {state_name(end.itself or 0)}{since}"


def _nodes(evidence: Evidence, end: End) -> list[str]:
    needed = evidence.front_needs if end.side == "frontend" else evidence.back_needs
    names = dict.fromkeys((*_WORTH_IT[end.side], *needed))
    lines = [f"{name} = {end.nodes[name][:40]}" for name in names if name in end.nodes]
    asked = ["event-channel", *needed] if end.side == "frontend" else needed
    if end.side == "frontend" and not any(name.startswith("ring-ref") for name in end.nodes):
        asked = ["ring-ref", *asked]
    return lines + [f"{name} missing" for name in asked if name not in end.nodes] if end.nodes else lines


def _grant(grant: GrantFacts) -> str:
    if not grant.given:
        return f"{grant.node} {grant.ref}: not given"
    return f"{grant.node} {grant.ref}: for d{grant.peer}, mapped {grant.mapped} times"
