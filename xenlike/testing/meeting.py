"""A real half meets a mock peer that is honest but for a few nodes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenlike.errors import PeerGone
from xenlike.testing.peer import MockBackend, MockFrontend
from xenlike.testing.script import Respond
from xenlike.xenbus import XenbusState as S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xenlike.abi.protocol import Side
    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback


@dataclass
class Met:
    """How it went.

    Attributes:
        peer: the mock.
        state: where the real half ended.
        error: what it wrote to its error node.
    """

    peer: MockBackend | MockFrontend
    state: S
    error: str

    @property
    def connected(self) -> bool:
        """Whether the real half thinks that it is."""
        return self.state is S.Connected


async def meet(case: Case, machine: Loopback, side: Side, nodes: Mapping[str, str | None]) -> Met:
    """Has a mock `side` go through the handshake.

    Args:
        case: the law's.
        machine: a fresh one.
        side: who is mocked.
        nodes: what it says otherwise than an honest one; None for a node that is not there.
    """
    if side == "backend":
        return await _back(case, machine, nodes)
    return await _front(case, machine, nodes)


def _mixed(honest: Mapping[str, str], nodes: Mapping[str, str | None]) -> dict[str, str]:
    mixed = {**honest, **{name: text or "" for name, text in nodes.items()}}
    return {name: text for name, text in mixed.items() if nodes.get(name, "") is not None}


def _remove(machine: Loopback, path: str, nodes: Mapping[str, str | None]) -> None:
    for name, text in nodes.items():
        if text is None:
            machine.tree.remove(f"{path}/{name}")


async def _back(case: Case, machine: Loopback, nodes: Mapping[str, str | None]) -> Met:
    peer = await case.mock_backend(machine)
    said = _mixed(case.back_nodes, nodes)
    _remove(machine, peer.path, nodes)
    await peer.say(S.InitWait, said)
    await case.settle()
    if peer.heard() is S.Initialised:
        peer.take_ring(case.protocol)
        await peer.say(S.Connected, said)
        await case.settle()
    return Met(peer, peer.heard(), case.errors(peer.device).get("frontend", ""))


async def _front(case: Case, machine: Loopback, nodes: Mapping[str, str | None]) -> Met:
    peer = await case.mock_frontend(machine)
    _remove(machine, peer.path, nodes)
    await case.settle()
    _, ring = peer.share_ring(case.protocol)
    await peer.say(S.Initialised, _mixed({**case.front_nodes, **ring}, nodes))
    await case.settle()
    return Met(peer, peer.heard(), case.errors(peer.device).get("backend", ""))


async def serve_nothing(peer: MockBackend) -> None:
    """Answers all requests with zeros, until it is cancelled."""
    answer = Respond()
    with suppress(PeerGone):
        while True:
            await answer.act(peer)


async def connected_backend(case: Case, machine: Loopback, id: int = 0) -> MockBackend:
    """Returns a mock backend that a real frontend is connected to."""
    peer = await case.mock_backend(machine, id)
    await peer.say(S.InitWait, case.back_nodes)
    await peer.hear(S.Initialised)
    peer.take_ring(case.protocol)
    await peer.say(S.Connected, case.back_nodes)
    await peer.hear(S.Connected)
    await case.settle()
    return peer


async def connected_frontend(case: Case, machine: Loopback, id: int = 0) -> MockFrontend:
    """Returns a mock frontend that a real backend is connected to."""
    peer = await case.mock_frontend(machine, id)
    await peer.connect(case.protocol, case.front_nodes)
    await case.settle()
    return peer
