"""What a mock peer can be told to do; see `xenlike.testing.peer`.

await peer.play([Say(InitWait, {"max-size": "100"}), Hear(Initialised), Say(Connected), Respond(), Hush()])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.abi.xenbus import XenbusState

if TYPE_CHECKING:
    from collections.abc import Callable

    from xenlike.abi.struct import Struct
    from xenlike.testing.peer import MockPeer


class Act(Protocol):
    """One line of a script."""

    async def act(self, peer: MockPeer) -> None:
        """Does it."""
        ...


class Say:
    """Publishes nodes and then a state, which may be any text.

    A mock frontend that says Initialised or Connected for the first time, or after Initialising, shares a ring with it.
    Its nodes can be overridden: `Say(Initialised, {"ring-ref": "7"})`.
    """

    def __init__(self, state: XenbusState | int | str, nodes: Mapping[str, str] | None = None) -> None:
        self.state = state
        self.nodes = dict(nodes or {})

    async def act(self, peer: MockPeer) -> None:
        """Says it."""
        nodes = peer.nodes_for(self.state)
        await peer.say(self.state, {**nodes, **self.nodes})

    def __repr__(self) -> str:
        name = self.state.name if isinstance(self.state, XenbusState) else repr(self.state)
        return f"Say({name}{f', {self.nodes}' if self.nodes else ''})"


class Hear:
    """Waits until the other half has one of these states; `trio.TooSlowError` if it never has."""

    def __init__(self, *states: XenbusState) -> None:
        self.states = states

    async def act(self, peer: MockPeer) -> None:
        """Waits."""
        await peer.hear(*self.states)

    def __repr__(self) -> str:
        return f"Hear({', '.join(state.name for state in self.states)})"


class Respond:
    """Waits for requests and answers them, at first with zeros and the request's id; `PeerGone` if nobody is there.

    Args:
        count: how many.
        answer: makes the response from a request's bytes; its id is set afterwards, unless `members` has one.
        notify: whether an event is sent.
        members: of the response, such as `status=-1`.
    """

    def __init__(
        self,
        count: int = 1,
        answer: Callable[[bytes], Struct] | None = None,
        *,
        notify: bool = True,
        **members: int,
    ) -> None:
        self.count = count
        self.answer = answer
        self.notify = notify
        self.members = members

    async def act(self, peer: MockPeer) -> None:
        """Waits for requests, and answers."""
        for _ in range(self.count):
            while not peer.pending:
                peer.ring.req_event = peer.ring.req_prod + 1
                if not peer.pending:
                    await peer.ring.channel.wait()
            self.put(peer)
        if self.notify:
            peer.ring.channel.notify()
        await trio.lowlevel.checkpoint()

    def put(self, peer: MockPeer) -> None:
        """Publishes the answer to the next request, which is there, and sends no event."""
        ring, protocol = peer.ring, peer.protocol
        entry = ring.read(ring.rsp_prod, protocol.request_size)
        response = protocol.responses[0]() if self.answer is None else self.answer(entry)
        setattr(response, "id", id_of(peer, entry))  # noqa: B010 - every response has one
        for name, value in self.members.items():
            setattr(response, name, value)
        ring.write(ring.rsp_prod, response.pack())
        ring.rsp_prod += 1

    def __repr__(self) -> str:
        return f"Respond({', '.join([str(self.count), *(f'{k}={v}' for k, v in self.members.items())])})"


class Request:
    """Pushes requests, as bytes or structures, with their ids as they are."""

    def __init__(self, *requests: Struct | bytes, notify: bool = True) -> None:
        self.entries = [request if isinstance(request, bytes) else request.pack() for request in requests]
        self.notify = notify

    async def act(self, peer: MockPeer) -> None:
        """Pushes them."""
        ring = peer.ring
        for entry in self.entries:
            ring.write(ring.req_prod, entry)
            ring.req_prod += 1
        if self.notify:
            ring.channel.notify()
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"Request({len(self.entries)})"


class Hush:
    """Says nothing until everybody else sleeps."""

    async def act(self, peer: MockPeer) -> None:
        """Waits."""
        await wait_all_tasks_blocked()

    def __repr__(self) -> str:
        return "Hush()"


def id_of(peer: MockPeer, entry: bytes) -> int:
    """Returns the id in a packed request."""
    return int(getattr(peer.protocol.requests[0].unpack(entry.ljust(peer.protocol.request_size, b"\0")), "id"))  # noqa: B009
