"""It does what it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike.testing.law import law
from xenlike.testing.load import Load
from xenlike.xenbus import XenbusState

if TYPE_CHECKING:
    from xenlike.testing.case import Case

ALONE = 10
AT_ONCE = 40


@law("Every operation of a connected device gets the right answer, and costs no connection.")
async def alone(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device")
        device = await case.attach(machine)
        for number in range(ALONE):
            case.step(f"use it, time {number + 1}")
            await case.exercise(device)
            case.expect(
                device.states() == (XenbusState.Connected, XenbusState.Connected),
                f"the connection was given up in honest use: {case.say_states(device)}",
            )
        case.expect(
            device.backend.queue.statistics().requests,
            f"`exercise` returned {ALONE} times, and the backend has had no request: it does not use the device",
        )


@law("Any number of tasks may use a device at once; each gets its own answer, also when the ring is full.")
async def together(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device")
        device = await case.attach(machine)
        case.step(f"use it from {AT_ONCE} tasks at once")
        load = Load(case, device, AT_ONCE)
        await load.more(3 * AT_ONCE)
        load.stop()
        await load.finished()
        case.expect(load.gone == 0, f"{load.gone} operations ended with PeerGone, and nobody had gone")
        case.expect(
            device.states() == (XenbusState.Connected, XenbusState.Connected),
            f"the connection was given up in honest use: {case.say_states(device)}",
        )


@law("Two devices of one domain do not meddle with each other.")
async def apart(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach two devices")
        one, two = await case.attach(machine, 0), await case.attach(machine, 1)
        case.step("use both at once")
        loads = [Load(case, one), Load(case, two)]
        for load in loads:
            await load.more(30)
            load.stop()
        for load in loads:
            await load.finished()
