"""What both ends agree on before they connect: ring layout, ring size, features.

Nodes of the ring, besides those that a `Protocol` declares (names and defaults as in Xen's
`io/blkif.h`):

    backend    max-ring-page-order   largest order it maps                        default 0
               ring-layout           layouts it knows, such as "xen cacheline"    default "xen"
    frontend   ring-page-order       the ring has 1 << order pages                default 0
               ring-layout           the layout it chose                          default "xen"
               ring-ref              gref of the ring, where the order is 0
               ring-refN             gref of page N of the ring, where it is not
               event-channel         port for the backend to bind
               protocol              "x86_64-abi"

Everything here came from the other end's directory: missing and empty values mean the default,
anything else is a value in its range or a `ProtocolError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenlike.abi.protocol import Node
from xenlike.abi.types import u32
from xenlike.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from xenlike.abi.protocol import Protocol, Side

NodeValue = int | bool | str
"""A node's value as its type."""

NATIVE_PROTOCOL = "x86_64-abi"
LAYOUTS = ("xen", "cacheline")
MAX_RING_PAGE_ORDER = 4
"""Largest ring a frontend may ask of a backend here: 16 pages, as Linux's xen-blkback."""

_BACKEND_RING_NODES = ("max-ring-page-order", "ring-layout")
_FRONTEND_RING_NODES = ("ring-page-order", "ring-layout", "ring-ref", "ring-ref0", "event-channel", "protocol")

_MAX_ORDER = Node("max-ring-page-order", u32, "backend", 0)
_ORDER = Node("ring-page-order", u32, "frontend", 0)
_PORT = Node("event-channel", u32)


def backend_nodes(protocol: Protocol) -> tuple[str, ...]:
    """Returns the names a frontend reads in its backend's directory."""
    return tuple(dict.fromkeys((*_BACKEND_RING_NODES, *_names(protocol, "backend"))))


def frontend_nodes(protocol: Protocol) -> tuple[str, ...]:
    """Returns the names a backend reads in its frontend's directory."""
    return tuple(dict.fromkeys((*_FRONTEND_RING_NODES, *_names(protocol, "frontend"))))


def _names(protocol: Protocol, side: Side) -> Iterable[str]:
    return (node.name for node in protocol.nodes if node.side == side)


def parse_node(node: Node, text: str | None, domid: int | None = None) -> NodeValue:
    """Returns a node's value as its type; the default where it is missing or empty.

    Raises:
        ProtocolError: it is missing and has no default, or is not of its type.
    """
    if not text:
        if node.default is None:
            raise ProtocolError(f"{node.name} is missing", domid)
        return node.default
    if node.type is not str and len(text) > 32:
        raise ProtocolError(f"{node.name} = {text[:32]!r}... is not a decimal number", domid)
    try:
        value: NodeValue = node.parse(text)
    except ValueError as reason:
        raise ProtocolError(str(reason), domid) from None
    return value


def parse_features(
    protocol: Protocol, side: Side, raw: Mapping[str, str | None], domid: int | None = None, *, partial: bool = False
) -> dict[str, NodeValue]:
    """Returns the values of all nodes that a protocol declares for one side.

    Args:
        protocol: declares the nodes.
        side: whose nodes, "frontend" or "backend".
        raw: the texts by name, as read from the other end's directory.
        domid: the other end, for the error.
        partial: leave out nodes that are missing and have no default: a backend may publish its
            features early and the rest, such as a disk's size, only when it connects.

    Raises:
        ProtocolError: as for `parse_node`.
    """
    return {
        node.name: parse_node(node, raw.get(node.name), domid)
        for node in protocol.nodes
        if node.side == side and not (partial and node.default is None and not raw.get(node.name))
    }


def format_nodes(protocol: Protocol, side: Side, values: Mapping[str, NodeValue]) -> dict[str, str]:
    """Returns the texts of nodes that this end writes.

    Raises:
        ValueError: a value does not fit the type its protocol declares; a fault of this driver.
    """
    declared = {node.name: node for node in protocol.nodes if node.side == side}
    texts = {}
    for name, value in values.items():
        texts[name] = value if isinstance(value, str) else str(int(value))
        if name in declared:
            declared[name].parse(texts[name])
    return texts


@dataclass(frozen=True, slots=True)
class RingChoice:
    """A ring both ends can work with: its layout and its page order."""

    layout: str
    page_order: int

    @property
    def nr_pages(self) -> int:
        """Pages of the ring."""
        return 1 << self.page_order


def choose_ring(
    raw: Mapping[str, str | None], layouts: Sequence[str], page_order: int, domid: int | None = None
) -> RingChoice:
    """Chooses, at the frontend, among what the backend offers.

    Args:
        raw: texts of the backend's nodes.
        layouts: what the frontend would like, best first; "xen" is always its last resort.
        page_order: the ring's order it would like; it gets less where the backend maps less.
        domid: the backend, for the error.

    Raises:
        ProtocolError: `max-ring-page-order` is not a number.
    """
    offered = (raw.get("ring-layout") or "xen").split()
    layout = next((name for name in layouts if name in offered and name in LAYOUTS), "xen")
    most = parse_node(_MAX_ORDER, raw.get("max-ring-page-order"), domid)
    return RingChoice(layout, min(page_order, int(most), MAX_RING_PAGE_ORDER))


def ring_nodes(choice: RingChoice, grefs: Sequence[int], port: int) -> dict[str, str]:
    """Returns what a frontend publishes about its ring."""
    nodes = {"protocol": NATIVE_PROTOCOL, "event-channel": str(port)}
    if choice.layout != "xen":
        nodes["ring-layout"] = choice.layout
    if choice.page_order == 0:
        nodes["ring-ref"] = str(grefs[0])
        return nodes
    nodes["ring-page-order"] = str(choice.page_order)
    nodes |= {f"ring-ref{index}": str(gref) for index, gref in enumerate(grefs)}
    return nodes


def accept_ring(
    raw: Mapping[str, str | None], layouts: Sequence[str], max_page_order: int, domid: int | None = None
) -> RingChoice:
    """Checks, at the backend, what the frontend chose.

    Raises:
        ProtocolError: it chose something that was not offered.
    """
    if raw.get("protocol") not in (None, "", NATIVE_PROTOCOL):
        raise ProtocolError(f"protocol = {_short(raw['protocol'])} is not {NATIVE_PROTOCOL!r}", domid)
    layout = raw.get("ring-layout") or "xen"
    if layout not in layouts:
        raise ProtocolError(f"ring-layout = {_short(layout)} was not offered", domid)
    order = int(parse_node(_ORDER, raw.get("ring-page-order"), domid))
    if order > max_page_order:
        raise ProtocolError(f"ring-page-order = {order} is more than the {max_page_order} offered", domid)
    return RingChoice(layout, order)


def ring_ref_names(choice: RingChoice, raw: Mapping[str, str | None]) -> tuple[str, ...]:
    """Returns the names of the nodes that hold the ring's references.

    A ring of one page has `ring-ref`, or `ring-ref0` from a frontend that always counts.
    """
    if choice.page_order == 0:
        return ("ring-ref",) if raw.get("ring-ref") or not raw.get("ring-ref0") else ("ring-ref0",)
    return tuple(f"ring-ref{index}" for index in range(choice.nr_pages))


def parse_gref(name: str, text: str | None, domid: int | None = None) -> int:
    """Returns a grant reference; whether it is one is for the hypervisor to say.

    Raises:
        ProtocolError: it is missing, or no u32.
    """
    return int(parse_node(Node(name, u32), text, domid))


def parse_port(text: str | None, domid: int | None = None) -> int:
    """Returns the port to bind to; raises `ProtocolError` as `parse_gref` does."""
    return int(parse_node(_PORT, text, domid))


def parse_domid(name: str, text: str | None) -> int:
    """Returns the domid that the toolstack wrote to `frontend-id` or `backend-id`.

    Raises:
        ProtocolError: it is missing, or no domid (0 to 0x7fef; those above are Xen's own).
    """
    value = int(parse_node(Node(name, u32), text))
    if value >= 0x7FF0:
        raise ProtocolError(f"{name} = {value} is not a domid")
    return value


def _short(text: str | None) -> str:
    return repr((text or "")[:32])
