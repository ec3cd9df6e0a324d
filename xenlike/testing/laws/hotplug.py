"""Devices that come and go while the machine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike.testing.law import law
from xenlike.testing.load import Load
from xenlike.xenbus import XenbusState

if TYPE_CHECKING:
    from xenlike.testing.case import Case


@law("A device that nobody uses is detached in order, and can be attached again.")
async def detach(case: Case) -> None:
    async with case.machine() as machine:
        for number in range(3):
            case.step(f"attach a device, use it, and detach it, time {number + 1}")
            device = await case.attach(machine)
            await case.exercise(device)
            await case.detach(device)


@law("A device is detached under load: every task is told, nobody hangs, and other devices go on.", seeded=True)
async def detach_under_load(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach two devices, and use both")
        device, other = await case.attach(machine, 0), await case.attach(machine, 1)
        load, others = Load(case, device), Load(case, other)
        await load.more(10)
        await load.rounds(case.dice.randrange(30))
        case.step("detach one of them under load")
        await case.detach(device)
        load.stop()
        await load.finished()
        case.step("use the other one")
        await others.more(10)
        others.stop()
        await others.finished()


@law("Devices are attached while others are under load.", seeded=True)
async def attach_under_load(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and use it")
        load = Load(case, await case.attach(machine, 0))
        await load.more(5)
        for number in (1, 2, 3):
            case.step(f"attach device {number} while device 0 is under load")
            await load.rounds(case.dice.randrange(20))
            device = await case.attach(machine, number)
            await case.exercise(device)
            if case.dice.random() < 0.5:
                await case.detach(device)
        await load.more(5)
        load.stop()
        await load.finished()


@law("A frontend that is closed from its own side answers what is in flight, and both halves are Closed.")
async def close(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, use it, and close it under load")
        device = await case.attach(machine)
        load = Load(case, device)
        await load.more(5)
        load.stop()
        await device.frontend.close()
        await case.until(
            machine,
            lambda: device.states() == (XenbusState.Closed, XenbusState.Closed),
            lambda: f"the frontend closed the device: {case.say_states(device)}",
        )
        case.step("take its directories away")
        machine.tree.remove(device.front_path)
        machine.tree.remove(device.back_path)
        await load.finished()
