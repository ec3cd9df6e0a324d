"""What a device protocol is: its messages, and the xenstore nodes by which both ends agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from xenlike.abi.types import PAGE_SIZE, Scalar

if TYPE_CHECKING:
    from xenlike.abi.struct import Struct

Side = Literal["frontend", "backend"]

XEN_HEADER_SIZE = 64
"""Of a ring in Xen's layout: what is left of a page is for messages."""


@dataclass(frozen=True, slots=True)
class Node:
    """A xenstore node below a device's frontend or backend directory.

    Args:
        name: the node's name, such as `feature-persistent`.
        type: `u8`..`s64` (decimal in the store), `bool` (`0` or `1`) or `str`.
        side: who writes it.
        default: what the other end assumes when it is not there; None where it must be there.
        doc: what it means.
        unit: its unit, where that is neither bytes nor a count.
    """

    name: str
    type: object
    side: Side = "frontend"
    default: int | bool | str | None = None
    doc: str = ""
    unit: str = ""

    def parse(self, text: str) -> Any:
        """Returns the node's value as its type.

        Raises:
            ValueError: the text is not of that type, or out of its range.
        """
        if self.type is str:
            return text
        value = self._number(text)
        low, high = (0, 1) if self.type is bool else self._range()
        if not low <= value <= high:
            raise ValueError(f"{self.name} = {value} is not in {low}..{high}")
        return bool(value) if self.type is bool else value

    def format(self, value: int | bool | str) -> str:
        """Returns the text to be written to the store."""
        return value if isinstance(value, str) else str(int(value))

    def _number(self, text: str) -> int:
        # int() would also take signs in odd places, underscores and other scripts' digits.
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
            raise ValueError(f"{self.name} = {text!r} is not a decimal number")
        return int(text)

    def _range(self) -> tuple[int, int]:
        kinds = get_args(self.type)[1:] if get_origin(self.type) is Annotated else ()
        for kind in kinds:
            if isinstance(kind, Scalar):
                if kind.signed:
                    return -(1 << 8 * kind.size - 1), (1 << 8 * kind.size - 1) - 1
                return 0, (1 << 8 * kind.size) - 1
        return -(1 << 63), (1 << 64) - 1


def _largest(messages: tuple[type[Struct], ...]) -> int:
    return max((message.__layout__.size for message in messages), default=0)


class Protocol:
    """The messages of a ring and the nodes around it.

    Args:
        name: the protocol's name, such as `blkif`.
        requests: the request structure, or all that may appear in a request slot.
        responses: the response structure or structures.
        nodes: the xenstore nodes, of both sides.
        doc: one line on what it does.

    Raises:
        ValueError: a message is larger than a ring of one page.
    """

    __slots__ = ("doc", "entry_size", "name", "nodes", "request_size", "requests", "response_size", "responses")

    def __init__(
        self,
        name: str,
        requests: type[Struct] | tuple[type[Struct], ...],
        responses: type[Struct] | tuple[type[Struct], ...],
        nodes: tuple[Node, ...] | list[Node] = (),
        doc: str = "",
    ) -> None:
        self.name = name
        self.requests = requests if isinstance(requests, tuple) else (requests,)
        self.responses = responses if isinstance(responses, tuple) else (responses,)
        self.nodes = tuple(nodes)
        self.doc = doc
        self.request_size = _largest(self.requests)
        """Bytes of the largest request."""
        self.response_size = _largest(self.responses)
        """Bytes of the largest response."""
        layouts = [message.__layout__ for message in (*self.requests, *self.responses)]
        align = max(layout.align for layout in layouts)
        self.entry_size = (max(layout.size for layout in layouts) + align - 1) & -align
        """Bytes of a slot, which holds either: `sizeof(union ..._sring_entry)`."""
        if self.entry_size > PAGE_SIZE - XEN_HEADER_SIZE:
            raise ValueError(
                f"{name}: a message of {self.entry_size} bytes does not fit into a ring of one page of {PAGE_SIZE}: "
                "put large data into granted pages, and their references into the message"
            )

    def node(self, name: str, side: Side) -> Node:
        """Returns the node of that name that `side` writes; KeyError where there is none."""
        for node in self.nodes:
            if node.name == name and node.side == side:
                return node
        raise KeyError(f"{self.name} has no {side} node {name}")

    def __repr__(self) -> str:
        return f"Protocol({self.name!r}, request_size={self.request_size}, response_size={self.response_size})"
