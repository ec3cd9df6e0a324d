"""A peer that breaks rules: only its own connection may suffer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from xenlike.errors import PeerGone, ProtocolError
from xenlike.testing.forging import Forger
from xenlike.testing.law import Broken, Inapplicable, law
from xenlike.testing.meeting import connected_backend, connected_frontend
from xenlike.testing.running import limited
from xenlike.testing.script import Respond, id_of
from xenlike.testing.wellformed import limit_of, requests_of
from xenlike.xenbus import XenbusState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback, Plugged
    from xenlike.testing.peer import MockBackend, MockFrontend
    from xenlike.testing.wellformed import Place

_OVER = (XenbusState.Closing, XenbusState.Closed)
TASKS = 4


@law("A frontend whose indices are impossible loses its connection, and nobody else loses anything.")
async def request_index(case: Case) -> None:
    for how, step in (("ahead", 1), ("far ahead", 1 << 30), ("back", -1)):
        async with case.machine() as machine:
            case.step(f"another guest is served; a frontend's req_prod runs {how}")
            honest = await case.attach(machine, 1)
            peer = await connected_frontend(case, machine)
            before = len(machine.driver.grants.mappings)
            peer.ring.req_prod += (peer.ring.size if step == 1 else 0) + step
            peer.ring.channel.notify()
            await _given_up(case, peer, "backend", f"req_prod is {peer.ring.req_prod}, with {peer.ring.size} slots")
            left = len(machine.driver.grants.mappings)
            case.expect(left < before, f"the backend gave a broken ring up, and still maps it: {left} mappings")
            await case.exercise(honest)


async def _given_up(case: Case, peer: MockFrontend | MockBackend, side: str, why: str) -> None:
    await case.settle()
    case.expect(peer.heard() in _OVER, f"{why}; the {side} should give the connection up, and is {peer.heard().name}")


@law("A backend whose indices are impossible loses its connection, and its callers are told.")
async def response_index(case: Case) -> None:
    for how, step in (("ahead of what is in flight", 1), ("far ahead", 1 << 30), ("back", -1 - (1 << 20))):
        async with case.machine() as machine:
            case.step(f"a backend's rsp_prod runs {how}")
            peer = await connected_backend(case, machine)
            async with _callers(case, peer):
                peer.ring.rsp_prod += peer.pending + step
                peer.ring.channel.notify()
                await _given_up(case, peer, "frontend", f"rsp_prod is {peer.ring.rsp_prod}")
            await _honest_again(case, machine, peer.device)


@asynccontextmanager
async def _callers(case: Case, peer: MockBackend) -> AsyncIterator[None]:
    """Has some tasks use a mock backend; `Broken` if one of them hangs when it was given up."""
    with trio.move_on_after(100) as patience:
        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(case.try_out, peer.device)
            await case.settle()
            if not peer.pending:
                raise Inapplicable("its operations send no requests")
            yield
    if patience.cancelled_caught:
        raise Broken("the connection was given up, and operations still wait for an answer")


async def _honest_again(case: Case, machine: Loopback, device: Plugged) -> None:
    case.step("the frontend is given an honest backend")
    await case.relink(device, machine.driver)
    await case.exercise(device)


@law("A response that answers nothing ends the connection.")
async def unknown_id(case: Case) -> None:
    async with case.machine() as machine:
        case.step("a backend answers with an id that is not in flight")
        peer = await connected_backend(case, machine)
        if peer.ring.size < 2:
            raise Inapplicable("its ring has one slot, whose id is in flight")
        async with _callers(case, peer):
            await Respond(id=peer.ring.size - 1).act(peer)
            await _given_up(
                case, peer, "frontend", f"a response had the id {peer.ring.size - 1}, which nobody asked with"
            )
        await _honest_again(case, machine, peer.device)


@law("A request is answered once: a second response with its id ends the connection.")
async def duplicate_id(case: Case) -> None:
    async with case.machine() as machine:
        case.step("a backend answers a request twice, and another one never")
        peer = await connected_backend(case, machine)
        async with _callers(case, peer):
            while peer.pending < 2:
                raise Inapplicable("its operations have never two requests in flight")
            entry = peer.ring.read(peer.ring.rsp_prod, case.protocol.request_size)
            first = id_of(peer, entry)
            await Respond(id=first).act(peer)
            await case.settle()
            if peer.heard() is XenbusState.Connected and peer.pending:
                await Respond(id=first).act(peer)
            await _given_up(
                case,
                peer,
                "frontend",
                f"id {first} was answered twice, so it was not cleared when it was answered first",
            )
        await _honest_again(case, machine, peer.device)


@law("Whatever a response says, an operation ends, with nothing worse than one of xenlike's errors.", seeded=True)
async def response_content(case: Case) -> None:
    kind = case.protocol.responses[0]
    async with case.machine() as machine:
        case.step("a backend answers with random bytes and the right ids")
        peer = await connected_backend(case, machine)
        respond = Respond(answer=lambda _: kind.unpack(case.dice.randbytes(case.protocol.response_size)))

        async def answer() -> None:
            try:
                while True:
                    await respond.act(peer)
            except PeerGone:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            for _ in range(10):
                with limited(10, steps=5000):
                    await case.try_out(peer.device)
            nursery.cancel_scope.cancel()


@law("A number over its declared limit is answered with an error, or ends the connection.")
async def over_limit(case: Case) -> None:
    async with case.machine() as machine, Forger(case, machine) as forger:
        nodes = forger.nodes()
        for place in requests_of(case.protocol):
            if isinstance(place.limit, str) and place.limit not in nodes:
                raise Broken(
                    f"the limit of {place.name} is the node {place.limit!r}, which the protocol does not declare"
                )
        limited = [
            (place, limit) for place in requests_of(case.protocol) if (limit := limit_of(place, nodes)) is not None
        ]
        if not limited:
            raise Inapplicable("its protocol declares no limit")
        for place, limit in limited:
            for value in dict.fromkeys((limit + 1, place.high)):
                if limit < value <= place.high and forger.uses(place):
                    case.step(f"a request is honest but for {place.name} = {value}; its limit is {limit}")
                    outcome = await forger.send(place, value)
                    case.expect(
                        outcome.refused,
                        f"{place.name} = {value} is over its limit {_named(place, limit)}, and the backend answered "
                        f"{outcome}: it does not check bounds",
                    )
                    case.expect(not outcome.touched, f"{place.name} = {value}: the backend changed {outcome.touched}")


def _named(place: Place, limit: int) -> str:
    return f"{place.limit} = {limit}" if isinstance(place.limit, str) else f"of {limit}"


@law("A page that was not granted is not used: the request is answered with an error, or ends the connection.")
async def not_granted(case: Case) -> None:
    async with case.machine() as machine, Forger(case, machine) as forger:
        grefs = [place for place in requests_of(case.protocol) if place.is_gref]
        if not grefs:
            raise Inapplicable("its requests name no grants")
        for place in grefs:
            for value in (4000, place.high, 0):
                if not forger.uses(place):
                    continue
                case.step(f"a request is honest but for {place.name} = {value}, which is not granted")
                outcome = await forger.send(place, value)
                case.expect(
                    outcome.refused,
                    f"{place.name} = {value} is no grant of this frontend, and the backend answered {outcome}: "
                    "an error was swallowed",
                )


@law(
    "Requests of random bytes are answered or end the connection; the driver domain and its other guests live on.",
    seeded=True,
)
async def random_requests(case: Case) -> None:
    async with case.machine() as machine:
        case.step("another guest is served; a frontend sends random bytes")
        honest = await case.attach(machine, 1)
        device = await case.attach(machine)
        for number in range(6):
            case.step(f"random bytes, time {number + 1}")
            entry = _random_request(case, device)
            with trio.move_on_after(100) as scope:
                try:
                    await device.frontend.queue.submit_raw(bytes(entry), 1)
                except (PeerGone, ProtocolError):
                    await case.settle()
                    machine.relink(device, machine.driver, case.kit.back_nodes)
                    machine.tree.write(f"{device.back_path}/state", "1")
                    await _mended(case, machine, device)
            case.expect(not scope.cancelled_caught, "a request of random bytes was never answered")
            await case.exercise(honest)


def _random_request(case: Case, device: Plugged) -> bytearray:
    """Returns random bytes, often with honest numbers where there are limits, so that the rest is looked at, too."""
    entry = bytearray(case.dice.randbytes(case.protocol.request_size))
    nodes = {node.name: node.default for node in case.protocol.nodes} | device.frontend.peer
    for place in requests_of(case.protocol):
        limit = limit_of(place, nodes)
        if limit is not None and case.dice.random() < 0.8:
            place.put(entry, case.dice.randint(0, min(limit, place.high)))
    return entry


async def _mended(case: Case, machine: Loopback, device: Plugged) -> None:
    """Detaches a device that was given up, and attaches it again."""
    await case.detach(device)
    fresh = await case.attach(machine)
    device.front_path, device.back_path = fresh.front_path, fresh.back_path


@law("A storm of events with nothing behind them delays only its author.")
async def storm(case: Case) -> None:
    async with case.machine() as machine:
        case.step("another guest is served; a frontend sends events, and no requests")
        honest = await case.attach(machine, 1)
        peer = await connected_frontend(case, machine)
        for _ in range(100):
            peer.ring.channel.notify()
            await case.settle()
        await case.exercise(honest)
        state = peer.heard()
        case.expect(state is XenbusState.Connected, f"events without requests made the backend {state.name}")
