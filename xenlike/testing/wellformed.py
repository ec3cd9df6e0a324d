"""Requests as bytes: which numbers are where, honest ones by chance, and honest ones with one lie in them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenlike.errors import RequestFailed
from xenlike.xenbus.pages import SharedPages

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from xenlike.abi.layout import Layout
    from xenlike.abi.protocol import Protocol
    from xenlike.abi.types import Scalar
    from xenlike.xenbus import Frontend

MOST_ELEMENTS = 4
PAGES = 2


@dataclass(frozen=True)
class Place:
    """A number in a packed request.

    Attributes:
        name: such as `size` or `seg[0].gref`.
        offset: in bytes.
        scalar: its type.
        limit: its largest honest value, or the node that holds it.
        element: the element of an array that it is part of, such as `seg[0]`; empty where it is not.
    """

    name: str
    offset: int
    scalar: Scalar
    limit: int | str | None
    element: str = ""

    @property
    def high(self) -> int:
        """The largest value of its type."""
        return (1 << 8 * self.scalar.size - self.scalar.signed) - 1

    @property
    def is_gref(self) -> bool:
        """Whether it is a grant reference; those have that in their name."""
        return "gref" in self.name.rpartition(".")[2]

    def get(self, entry: bytes | bytearray) -> int:
        """Returns the number."""
        value: int = struct.unpack_from(f"<{self.scalar.code}", entry, self.offset)[0]
        return value

    def put(self, entry: bytearray, value: int) -> None:
        """Writes the number."""
        struct.pack_into(f"<{self.scalar.code}", entry, self.offset, value)


def places(layout: Layout, base: int = 0, prefix: str = "", element: str = "") -> Iterator[Place]:
    """Yields all numbers of a structure; of an array the first few elements."""
    for member in layout.fields.values():
        count = 1 if member.length is None else min(member.length, MOST_ELEMENTS)
        each = member.size // (member.length or 1)
        for index in range(count):
            name = f"{prefix}{member.name}" + ("" if member.length is None else f"[{index}]")
            at = base + member.offset + index * each
            part = element or ("" if member.length is None else name)
            if member.nested is not None:
                yield from places(member.nested, at, f"{name}.", part)
            elif member.scalar is not None:
                yield Place(name, at, member.scalar, member.limit, part)


def requests_of(protocol: Protocol) -> list[Place]:
    """Returns the numbers of a protocol's (first kind of) request."""
    return list(places(protocol.requests[0].__layout__))


def in_use(protocol: Protocol, entry: bytes | bytearray, place: Place) -> bool:
    """Says whether a request has something at a place; an array's elements that are all zero are not in use."""
    if not place.element:
        return True
    return any(other.get(entry) for other in requests_of(protocol) if other.element == place.element)


def limit_of(place: Place, nodes: Mapping[str, object]) -> int | None:
    """Returns a number's largest honest value, given the nodes of both ends; None where it has none."""
    if isinstance(place.limit, str):
        value = nodes.get(place.limit)
        return None if value is None else int(str(value))
    return place.limit


async def random_exercise(frontend: Frontend, dice: random.Random) -> None:
    """What is done with a driver that has no `exercise`: a request with honest numbers, made by chance.

    Numbers are within their limits, grant references name pages that are granted, and everything else is zero.

    Raises:
        RequestFailed: the backend refused.
    """
    protocol = frontend.protocol
    await frontend.wait_connected()
    nodes = {node.name: node.default for node in protocol.nodes} | frontend.peer
    entry = bytearray(protocol.request_size)

    async def send() -> None:
        response = (await frontend.queue.submit_raw(bytes(entry), 1))[0]
        refused = status_of(protocol, response)
        if refused is not None and refused < 0:
            raise RequestFailed(refused, "the backend refused a request whose numbers are within their limits")

    if frontend.pool_pages:
        async with frontend.pages.take() as page:
            _fill(entry, protocol, dice, nodes, [page.gref])
            await send()
    else:
        _fill(entry, protocol, dice, nodes, _granted(frontend).grefs)
        await send()


def _fill(
    entry: bytearray, protocol: Protocol, dice: random.Random, nodes: Mapping[str, object], grefs: list[int]
) -> None:
    for place in requests_of(protocol):
        limit = limit_of(place, nodes)
        if place.is_gref:
            place.put(entry, dice.choice(grefs))
        elif limit is not None:
            place.put(entry, dice.randint(0, min(limit, place.high)))


def _granted(frontend: Frontend) -> SharedPages:
    """Returns pages granted for as long as the present connection lives."""
    queue = frontend.queue
    found: SharedPages | None = getattr(queue, "_testing_pages", None)
    if found is None:
        found = SharedPages(frontend.domain, frontend.otherend_id, PAGES)
        setattr(queue, "_testing_pages", found)  # noqa: B010 - a queue has no such attribute
        close = queue.close

        def closing(reason: Exception) -> None:
            close(reason)
            frontend.give_back(found.close)

        setattr(queue, "close", closing)  # noqa: B010
    return found


def status_of(protocol: Protocol, response: bytes) -> int | None:
    """Returns a response's status; None where its protocol has no signed member of that name."""
    for place in places(protocol.responses[0].__layout__):
        if place.name == "status" and place.scalar.signed:
            return place.get(response)
    return None


class Overheard:
    """The requests that a frontend sends, as packed bytes, from now until its connection ends.

    Args:
        frontend: a connected one.

    Attributes:
        entries: what was sent.
    """

    def __init__(self, frontend: Frontend) -> None:
        self.entries: list[bytes] = []
        queue, size = frontend.queue, frontend.protocol.request_size
        real = queue._post

        def post(entries: bytes, count: int, completion: object, first: int = 0) -> int:
            sent: int = real(entries, count, completion, first)  # type: ignore[arg-type]
            self.entries += [bytes(entries[at : at + size]) for at in range(0, sent * size, size)]
            return sent

        setattr(queue, "_post", post)  # noqa: B010
