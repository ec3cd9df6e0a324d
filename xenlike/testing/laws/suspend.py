"""A domain is suspended and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from xenlike.testing.law import Broken, Inapplicable, law
from xenlike.testing.load import Load
from xenlike.testing.waiting import waiting

if TYPE_CHECKING:
    from xenlike.testing.case import Case


@law("For a suspend, what is in flight is answered and nothing new begins; afterwards everything goes on.", seeded=True)
async def under_load(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and use it")
        device = await case.attach(machine)
        load = Load(case, device)
        for number in range(3):
            await load.more(5)
            await load.rounds(case.dice.randrange(20))
            case.step(f"quiesce the guest under load, time {number + 1}")
            with trio.move_on_after(100) as scope:
                await machine.guest.frontends.quiesce()
            if scope.cancelled_caught:
                raise Broken("; ".join(["the guest never gets quiet", *waiting(machine)]))
            flying = device.frontend.queue.in_flight
            case.expect(not flying, f"the guest is quiet, and {flying} requests are in flight")
            await case.settle()
            load.check()
            done, flying = load.done, device.frontend.queue.in_flight
            case.expect(not flying, f"the guest is quiet, and {flying} requests were sent since")
            await trio.sleep(1)
            case.expect(load.done == done, f"{load.done - done} operations were done while the guest was suspended")
            case.step(f"revive the guest, time {number + 1}")
            await machine.guest.frontends.revive()
            await case.connected(device)
        await load.more(10)
        load.stop()
        await load.finished()


@law("A suspend waits for the answers to all that is in flight, however long that takes.")
async def waits(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, use it, and stop its driver domain")
        device = await case.attach(machine)
        load = Load(case, device)
        await load.more(5)
        machine.driver.stop()
        await case.settle()
        if not device.frontend.queue.in_flight:
            raise Inapplicable("its operations wait for no answers")
        case.step("quiesce the guest while requests are in flight")
        async with trio.open_nursery() as nursery:
            quiet = False

            async def quiesce() -> None:
                nonlocal quiet
                await machine.guest.frontends.quiesce()
                quiet = True

            nursery.start_soon(quiesce)
            await trio.sleep(60)
            flying = device.frontend.queue.in_flight
            case.expect(not quiet, f"the guest says that it is quiet, and {flying} requests are in flight")
            case.step("the driver domain goes on, and answers")
            machine.driver.go()
        await machine.guest.frontends.revive()
        await load.more(5)
        load.stop()
        await load.finished()


@law("A guest that wakes up elsewhere, with another driver domain, goes on.")
async def elsewhere(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, use it, and quiesce its guest")
        device = await case.attach(machine)
        load = Load(case, device)
        await load.more(5)
        await machine.guest.frontends.quiesce()
        case.step("its driver domain goes, another one comes, and the guest is revived")
        await machine.kill(device.back)
        machine.relink(device, await machine.add_domain("driver again"), case.kit.back_nodes)
        await machine.guest.frontends.revive()
        await case.connected(device)
        await load.more(10)
        load.stop()
        await load.finished()
