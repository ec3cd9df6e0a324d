"""Nodes of the other half: missing, empty, nonsense, extreme, and features that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import trio

from xenlike.abi.types import Scalar
from xenlike.testing.law import Inapplicable, law
from xenlike.testing.meeting import meet, serve_nothing
from xenlike.testing.peer import MockBackend
from xenlike.testing.running import limited
from xenlike.testing.script import Hear, Hush, Say
from xenlike.xenbus import XenbusState as S

if TYPE_CHECKING:
    from xenlike.abi.protocol import Node
    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback
    from xenlike.testing.script import Act

NONSENSE = ("much", "1e3", " 1", "0x10", "1_000", "-", "9" * 40, "x" * 2000)
_RING = {
    "ring-ref": ("", "4294967296", "-1", "much", "7", "0"),
    "event-channel": ("", "4294967296", "-1", "much", "4000"),
    "protocol": ("arm-abi",),
    "ring-layout": ("spiral",),
    "ring-page-order": ("31", "-1", "much"),
}
_OTHER = {"frontend": "backend", "backend": "frontend"}


def _bounds(node: Node) -> tuple[int, int] | None:
    """Returns the least and the largest value of a node's type; None for texts."""
    if node.type is bool:
        return 0, 1
    for kind in get_args(node.type):
        if isinstance(kind, Scalar):
            bits = 8 * kind.size
            return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind.signed else (0, (1 << bits) - 1)
    return None


def _numbers(case: Case) -> list[tuple[Node, int, int]]:
    found = [(node, *bounds) for node in case.protocol.nodes if (bounds := _bounds(node)) is not None]
    if not found:
        raise Inapplicable("its protocol declares no node that is a number")
    return found


@law("A node that is missing or empty stands for its default; without a default, there is no connection.")
async def missing(case: Case) -> None:
    if not case.protocol.nodes:
        raise Inapplicable("its protocol declares no node")
    for node in case.protocol.nodes:
        for text in (None, ""):
            how = "missing" if text is None else "empty"
            case.step(f"the {node.side}'s node {node.name} is {how}")
            async with case.machine() as machine:
                met = await meet(case, machine, node.side, {node.name: text})
                if node.default is None:
                    case.expect(
                        not met.connected,
                        f"{node.name}, which has no default, was {how}, and the {_OTHER[node.side]} connected",
                    )
                else:
                    case.expect(
                        met.connected,
                        f"{node.name} was {how}, and the {_OTHER[node.side]} did not take its default "
                        f"{node.default!r}: it is {met.state.name} {met.error}",
                    )


@law("A node that is no value of its type ends the handshake, with an error node that names it.")
async def nonsense(case: Case) -> None:
    for node, low, high in _numbers(case):
        texts = [*NONSENSE, str(high + 1), str(low - 1)]
        for text in texts:
            shown = text if len(text) < 20 else f"{text[:8]}... of {len(text)} characters"
            case.step(f"the {node.side}'s node {node.name} is {shown!r}")
            async with case.machine() as machine:
                met = await meet(case, machine, node.side, {node.name: text})
                other = _OTHER[node.side]
                case.expect(not met.connected, f"{node.name} = {shown!r} was taken: the {other} connected")
                case.expect(
                    met.state in (S.Closing, S.Closed),
                    f"the {other} should refuse {node.name} = {shown!r} and is {met.state.name}",
                )
                case.expect(
                    node.name in met.error,
                    f"the {other} refused {node.name} = {shown!r}; its error node says {met.error!r}, "
                    "and not which node it was",
                )


@law("A ring, port or layout that does not exist ends the handshake, and a frontend that mends its ways connects.")
async def ring(case: Case) -> None:
    for name, texts in _RING.items():
        for text in texts:
            case.step(f"the frontend's node {name} is {text!r}")
            async with case.machine() as machine:
                met = await meet(case, machine, "frontend", {name: text})
                case.expect(
                    met.state in (S.Closing, S.Closed),
                    f"the backend should refuse {name} = {text!r} and is {met.state.name}",
                )
                left = len(machine.driver.grants.mappings)
                case.expect(not left, f"the backend refused {name} = {text!r}, and maps {left} pages nevertheless")
                await met.peer.play([Say(S.Closed), Hear(S.Closed)])
                machine.tree.remove(f"{met.peer.path}/{name}")
                begin: list[Act] = [Say(S.Initialising), Hear(S.InitWait), Say(S.Initialised, case.front_nodes), Hush()]
                await met.peer.play(begin)
                case.expect(
                    met.peer.heard() is S.Connected,
                    f"{name} was {text!r} and is right now, but the backend is {met.peer.heard().name}",
                )


@law("The largest and the smallest value of a node harm nobody: operations fail at most with xenlike's errors.")
async def extreme(case: Case) -> None:
    for node, low, high in _numbers(case):
        for value in dict.fromkeys((low, high, 0, 1)):
            case.step(f"the {node.side}'s node {node.name} is {value}")
            async with case.machine() as machine:
                met = await meet(case, machine, node.side, {node.name: str(value)})
                if met.connected and isinstance(met.peer, MockBackend):
                    await _use(case, met.peer)
                await case.settle()


async def _use(case: Case, peer: MockBackend) -> None:
    # A peer that answers nothing of use may be asked for ever; that is for the caller to end.
    with limited(steps=2000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_nothing, peer)
            for _ in range(3):
                await case.try_out(peer.device)
            nursery.cancel_scope.cancel()


@law("Without any one of its optional features a device still works.")
async def features(case: Case) -> None:
    switches = [node for node in case.protocol.nodes if node.type is bool]
    if not switches:
        raise Inapplicable("its protocol declares no node that is a feature")
    for node in switches:
        case.step(f"the {node.side} offers no {node.name}")
        async with case.machine() as machine:
            _rewrite(machine, node)
            device = await case.attach(machine)
            for _ in range(5):
                await case.exercise(device)


def _rewrite(machine: Loopback, node: Node) -> None:
    """Has one half's feature be 0 in the store, whatever it says itself."""
    real, part = machine.tree.write, "/device/" if node.side == "frontend" else "/backend/"

    def write(path: str, value: str) -> None:
        real(path, "0" if part in path and path.endswith(f"/{node.name}") else value)

    setattr(machine.tree, "write", write)  # noqa: B010 - a method, to mypy
