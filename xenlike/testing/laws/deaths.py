"""Either half's domain is killed, anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike.testing.faults import Faults, kill
from xenlike.testing.law import law
from xenlike.testing.load import Load
from xenlike.xenbus import XenbusState

if TYPE_CHECKING:
    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback, Plugged

_OVER = (XenbusState.Closed, XenbusState.Closing, XenbusState.Unknown)


@law(
    "The driver domain is killed under load: everything is answered by the next one, or ends with PeerGone.",
    seeded=True,
)
async def of_the_backend(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and use it")
        device = await case.attach(machine)
        load = Load(case, device)
        for number in range(2):
            await load.more(3)
            await load.rounds(case.dice.randrange(60))
            case.step(f"kill its driver domain, time {number + 1}")
            await machine.kill(device.back)
            if case.dice.random() < 0.5:
                await case.settle()
            if case.dice.random() < 0.5:
                machine.mourn(device)
            if case.dice.random() < 0.5:
                await case.settle()
            case.step(f"give it another driver domain, time {number + 1}")
            await case.relink(device, await machine.add_domain(f"driver {number + 2}"))
        await load.more(10)
        load.stop()
        await load.finished()


@law("The guest is killed under load: its backend lets go of everything, and serves the next guest.", seeded=True)
async def of_the_frontend(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and use it; another guest uses another one")
        other = await machine.add_domain("other guest")
        device, living = await case.attach(machine), await case.attach(machine, guest=other)
        load, others = Load(case, device), Load(case, living)
        await load.more(5)
        await load.rounds(case.dice.randrange(60))
        case.step("kill the guest; the other one goes on")
        await machine.kill(device.front)
        await others.more(5)
        others.stop()
        await others.finished()
        load.check()
        await _mourned(case, machine, device)
        case.step("attach a device to a new guest")
        await case.exercise(await case.attach(machine, guest=await machine.add_domain("guest again")))


async def _mourned(case: Case, machine: Loopback, device: Plugged) -> None:
    await case.until(
        machine,
        lambda: device.states()[1] in _OVER,
        lambda: f"the guest is dead, and its backend stays {device.states()[1].name}",
    )
    await case.settle()
    dead = set(device.front.memory.windows.values())
    mapped = [
        mapping for mapping in device.back.grants.mappings if any(window in dead for _, window, _ in mapping._places)
    ]
    case.expect(not mapped, f"the guest is dead, and its backend still maps {len(mapped)} of its pages")


@law("A domain is killed before or after it publishes, maps, responds or notifies; then all goes on.", seeded=True)
async def at_a_point(case: Case) -> None:
    faults = Faults(case.seed, case.dice.choice(("driver", "guest")), actions=(kill,))
    async with case.machine(faults) as machine:
        case.step(f"attach a device, and use it, while {faults!r} waits")
        device = case.plug(machine)
        await case.settle()
        load = None
        if machine.guest.alive and device.front.has(device.front_path):
            load = Load(case, device)
            await case.settle_or(faults, load)
        if not machine.driver.alive:
            case.step("give it another driver domain")
            if case.dice.random() < 0.5:
                machine.mourn(device)
            await case.relink(device, await machine.add_domain("driver again"))
        elif not machine.guest.alive:
            case.step("the guest is dead; attach a device to another one")
            await case.until(
                machine,
                lambda: device.states()[1] in (*_OVER, XenbusState.InitWait),
                lambda: f"the guest is dead, and its backend stays {device.states()[1].name}",
            )
            device = await case.attach(machine, guest=await machine.add_domain("guest again"))
            load = None
        await case.exercise(device)
        if load is not None:
            await load.more(3)
            load.stop()
            await load.finished()
