"""A peer that says nothing: for ever, or for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from xenlike.testing.faults import Faults, delay, stop
from xenlike.testing.law import Broken, law
from xenlike.testing.load import Load
from xenlike.testing.meeting import connected_backend
from xenlike.testing.script import Respond
from xenlike.testing.waiting import waiting
from xenlike.xenbus import XenbusState

if TYPE_CHECKING:
    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback, Plugged
    from xenlike.testing.peer import MockBackend

TASKS = 12
"""Operations that wait at once; more than some drivers have pages."""


@law("A half whose peer never answers the handshake waits, can be cancelled, and goes when it is taken away.")
async def in_the_handshake(case: Case) -> None:
    async with case.machine() as machine:
        case.step("a frontend without an answer is waited for, and taken away")
        peer = await case.mock_backend(machine)
        await case.settle()
        with trio.move_on_after(1) as scope:
            await peer.device.frontend.wait_connected()
        case.expect(scope.cancelled_caught, "the frontend says that it is connected, and nobody was there")
        await _take_away(case, machine, peer.device)
    async with case.machine() as machine:
        case.step("a backend without an answer is taken away")
        device = (await case.mock_frontend(machine)).device
        await case.settle()
        state = device.states()[1]
        case.expect(state is XenbusState.InitWait, f"the backend should wait in InitWait and is {state.name}")
        await _take_away(case, machine, device)


async def _take_away(case: Case, machine: Loopback, device: Plugged) -> None:
    machine.tree.write(f"{device.back_path}/online", "0")
    await case.settle()
    machine.tree.remove(device.front_path)
    machine.tree.remove(device.back_path)
    await case.settle()
    for domain, path in ((device.front, device.front_path), (device.back, device.back_path)):
        case.expect(not domain.has(path), f"{path} was taken away, and its device lives on")


@law("An operation whose request is never answered can be cancelled; a late answer harms nobody.")
async def cancelled(case: Case) -> None:
    async with case.machine() as machine:
        case.step("start operations that nobody answers, and cancel them")
        peer = await connected_backend(case, machine)
        for _ in range(2):
            left = TASKS

            async def ask() -> None:
                nonlocal left
                try:
                    await case.try_out(peer.device)
                finally:
                    left -= 1

            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(ask)
                await case.settle()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await case.settle()
                case.expect(not left, f"{left} operations that were cancelled have not ended")
        case.step("answer them after all")
        if peer.pending:
            await Respond(peer.pending).act(peer)
        await case.settle()
        state = peer.heard()
        case.expect(
            state is XenbusState.Connected, f"after late answers the frontend is {state.name}{_why(case, peer)}"
        )
        flying = peer.device.frontend.queue.in_flight
        case.expect(not flying, f"all was answered, and the frontend believes that {flying} requests are in flight")


def _why(case: Case, peer: MockBackend) -> str:
    return "".join(f": {text}" for text in case.errors(peer.device).values())


@law("A device whose backend answers nothing can be taken away, and everybody who waits is told.")
async def detached(case: Case) -> None:
    async with case.machine() as machine:
        case.step("start operations that nobody answers, and take the device away")
        peer = await connected_backend(case, machine)
        with trio.move_on_after(100) as patience:
            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(case.try_out, peer.device)
                await case.settle()
                await peer.say(XenbusState.Closing, {"online": "0"})
                await case.settle()
                state = peer.heard()
                case.expect(state is XenbusState.Closed, f"the backend is Closing, and the frontend stays {state.name}")
                await peer.say(XenbusState.Closed)
                machine.tree.remove(peer.device.front_path)
                machine.tree.remove(peer.device.back_path)
        case.expect(not patience.cancelled_caught, "the device was taken away, and operations still wait for an answer")


@law("A backend that died without an answer is replaced, and the next one answers.")
async def replaced(case: Case) -> None:
    async with case.machine() as machine:
        case.step("start operations that nobody answers")
        peer = await connected_backend(case, machine)
        load = Load(case, peer.device)
        await case.settle()
        case.step("kill the silent backend, and give the frontend an honest one")
        await machine.kill(peer.device.back)
        await case.relink(peer.device, machine.driver)
        await load.more(10)
        load.stop()
        await load.finished()


@law("A domain is stopped for a while: its peer waits, others go on, and then everything is answered.", seeded=True)
async def stopped(case: Case) -> None:
    faults = Faults(case.seed, case.dice.choice(("driver", "guest")), actions=(stop, delay))
    async with case.machine(faults) as machine:
        case.step(f"attach a device, and use it, while {faults!r} waits")
        device = case.plug(machine)
        await case.settle()
        load = None
        if device.front.has(device.front_path):
            load = Load(case, device)
            await case.settle_or(faults, load)
        case.step("while it is stopped, others go on")
        driver, guest = await machine.add_domain("other driver"), await machine.add_domain("other guest")
        other = await case.attach(machine, guest=guest, driver=driver)
        await case.exercise(other)
        if faults.action is stop and faults.struck.is_set():
            await trio.sleep(1)
        case.step("it goes on")
        for domain in (machine.driver, machine.guest):
            domain.go()
        await case.connected(device)
        if load is None:
            load = Load(case, device)
        try:
            with trio.fail_after(100):
                await load.more(5)
        except trio.TooSlowError:
            raise Broken("; ".join(["it went on, and operations are never done", *waiting(machine)])) from None
        load.stop()
        await load.finished()
