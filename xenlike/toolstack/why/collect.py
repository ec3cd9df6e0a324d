"""Puts evidence together from what a store and recorders say; `machine` and `xenlike.testing` bring the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from xenlike.toolstack.tracing.event import printable
from xenlike.toolstack.why.evidence import DomainFacts, End, Evidence, GrantFacts, PortFacts, Side
from xenlike.toolstack.why.recorded import Recorded

if TYPE_CHECKING:
    from xenlike.abi.protocol import Protocol

_MOST_GRANTS = 16
_MOST_ERROR, _MOST_VALUE, _MOST_NODES = 400, 256, 256
"""Of a device's nodes so much is looked at: an honest one has twenty, and what is told must fit into a message."""
_U32 = 1 << 32
_NUMBERS = re.compile(r"^(\d+ )?(\[E\w+( \d+)?\] )?")
"""What stands in front of an error node's text: the errno, and that again where Python says it."""

GrantOf = Callable[[int, str, int], GrantFacts | None]
"""Asks how a reference stands: domid, node and reference."""
PortOf = Callable[[int, int], PortFacts | None]
"""Asks how a port stands: domid and port."""


def make_end(
    side: Side, path: str, domain: DomainFacts, nodes: Mapping[str, str], error: str, recorded: Recorded
) -> End:
    """Returns one end, with what its domain's recorder tells.

    Args:
        side: which.
        path: its directory, absolute.
        domain: its domain.
        nodes: of its directory.
        error: its error node, as it is.
        recorded: the recorders.
    """
    domid, nodename = domain.domid, nodename_of(path)
    domain = msgspec.structs.replace(
        domain,
        program=domain.program or not recorded.is_used(domid),
        looked=recorded.looked(domid, nodename),
        begun=recorded.begun(domid, nodename),
    )
    queue = recorded.queue(domid, nodename)
    if queue is not None:
        queue = msgspec.structs.replace(queue, taken_s=recorded.taken_s(domid, queue.number))
    fitting = ((name, _fit(text[:_MOST_VALUE])) for name, text in nodes.items() if _is_name(name))
    itself, since_s = recorded.state(domid, nodename) or (None, None)
    return End(
        side=side,
        domain=domain,
        path=path,
        nodes=dict(islice(fitting, _MOST_NODES)),
        error=_fit(_NUMBERS.sub("", error)[:_MOST_ERROR]),
        itself=itself,
        since_s=since_s,
        queue=queue,
        stream=recorded.stream(domid, nodename),
    )


def make_evidence(
    name: str,
    type: str,
    front: End,
    back: End,
    protocol: Protocol | None,
    recorded: Recorded,
    grant_of: GrantOf,
    port_of: PortOf,
) -> Evidence:
    """Returns the evidence of one device.

    Args:
        name: what users call it.
        type: its device type.
        front: its frontend.
        back: its backend.
        protocol: where it is known.
        recorded: the recorders of both domains.
        grant_of: asks for a reference of the frontend's.
        port_of: asks for a port of the frontend's.
    """
    nodes = protocol.nodes if protocol is not None else ()
    grants = []
    for node in sorted((name for name in front.nodes if name.startswith("ring-ref")), key=_by_number)[:_MOST_GRANTS]:
        ref = front.number(node)
        grant = grant_of(front.domain.domid, node, ref) if ref is not None and ref < _U32 else None
        if grant is not None:
            grants.append(grant)
    port = front.number("event-channel")
    ends = [(end.domain.domid, nodename_of(end.path)) for end in (front, back) if end.path]
    return Evidence(
        name=name,
        type=type,
        front=front,
        back=back,
        front_needs=[node.name for node in nodes if node.side == "frontend" and node.default is None],
        back_needs=[node.name for node in nodes if node.side == "backend" and node.default is None],
        grants=grants,
        port=port_of(front.domain.domid, port) if port is not None and port < _U32 else None,
        trace=recorded.tail(ends, {grant.ref for grant in grants}, port or 0),
    )


def nodename_of(path: str) -> str:
    """Returns a directory's path as its domain writes it: `device/vbd/51712`."""
    return "/".join(path.split("/")[4:])


def _is_name(name: str) -> bool:
    return len(name) <= 64 and name.isascii() and name.isprintable()


def _fit(text: str) -> str:
    """Returns a domain's word so that it does nothing to a terminal."""
    return printable(text.encode(errors="replace"))


def _by_number(name: str) -> tuple[int, str]:
    return len(name), name
