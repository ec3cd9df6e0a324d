"""The handshake: its order, and peers that do it otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio import TooSlowError

from xenlike.errors import GrantError, HypercallError
from xenlike.testing.law import Broken, law
from xenlike.testing.script import Hear, Hush, Say
from xenlike.xenbus import XenbusState as S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback, Plugged
    from xenlike.testing.peer import MockPeer
    from xenlike.testing.script import Act

_FRONT, _BACK = [S.Initialising, S.Initialised, S.Connected], [S.Initialising, S.InitWait, S.Connected]


@law("An honest handshake passes through all its states, and nodes are there before the state that speaks of them.")
async def order(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and read the store's history")
        device = case.plug(machine)
        await case.settle()
        for side, path, due in (("frontend", device.front_path, _FRONT), ("backend", device.back_path, _BACK)):
            seen = _states(machine, path)
            missing = [state.name for state in due if state not in seen]
            names = " -> ".join(state.name for state in seen)
            case.expect(not missing, f"the {side} skipped {', '.join(missing)}: it went {names}{_why(case, device)}")
            case.expect(seen == due, f"the {side} went {names}, and not {' -> '.join(state.name for state in due)}")
        _nodes_in_time(case, machine, device)


def _why(case: Case, device: Plugged) -> str:
    errors = case.errors(device)
    return "".join(f"; {side} error: {text}" for side, text in errors.items())


def _states(machine: Loopback, path: str) -> list[S]:
    found: list[S] = []
    for changed, value in machine.tree.history:
        if changed == f"{path}/state" and value is not None and value.isdigit():
            state = S(int(value))
            if not found or found[-1] != state:
                found.append(state)
    return found


def _nodes_in_time(case: Case, machine: Loopback, device: Plugged) -> None:
    at: dict[str, int] = {}
    for index, (path, value) in enumerate(machine.tree.history):
        at.setdefault(f"{path} {value}" if path.endswith("/state") else path, index)
    front, back = device.front_path, device.back_path
    initialised = at[f"{front}/state {int(S.Initialised)}"]
    for names in (("event-channel",), ("ring-ref", "ring-ref0")):
        written = [at[f"{front}/{name}"] for name in names if f"{front}/{name}" in at]
        case.expect(written, f"the frontend has not published {' or '.join(names)}")
        case.expect(min(written) < initialised, f"the frontend said Initialised before it published {names[0]}")
    for path, side in ((front, "frontend"), (back, "backend")):
        connected = at[f"{path}/state {int(S.Connected)}"]
        for node in case.protocol.nodes:
            written_at = at.get(f"{path}/{node.name}")
            if node.side == side and written_at is None:
                case.expect(node.default is not None, f"the {side} said Connected and never published {node.name}")
            elif node.side == side and written_at is not None:
                case.expect(written_at < connected, f"the {side} said Connected before it published {node.name}")


@law("Either half may come first, and by any time.")
async def either_first(case: Case) -> None:
    async with case.machine() as machine:
        case.step("the device is there before the driver domain runs")
        await machine.kill(machine.driver)
        device = case.plug(machine)
        await case.settle()
        await case.relink(device, await machine.add_domain("driver again"))
        await case.exercise(device)
        case.step("the device is there before the guest has its bus")
        late = await machine.add_domain("late")
        await case.exercise(await case.attach(machine, guest=late, driver=device.back))


@law("A peer that skips a state is connected to all the same.")
async def skipped(case: Case) -> None:
    async with case.machine() as machine:
        case.step("a backend says Connected without InitWait")
        peer: MockPeer = await case.mock_backend(machine)
        await _reach(case, peer, [Say(S.Connected, case.back_nodes), Hear(S.Connected)], "frontend")
    async with case.machine() as machine:
        case.step("a frontend says Connected without Initialised")
        peer = await case.mock_frontend(machine)
        await _reach(case, peer, [Hear(S.InitWait), Say(S.Connected, case.front_nodes), Hear(S.Connected)], "backend")
    async with case.machine() as machine:
        case.step("a frontend says Initialised before the backend has offered anything")
        peer = await case.mock_frontend(machine)
        await _reach(case, peer, [Say(S.Initialised, case.front_nodes), Hear(S.Connected)], "backend")


async def _reach(case: Case, peer: MockPeer, script: Sequence[Act], side: str) -> None:
    for line in script:
        try:
            await line.act(peer)
        except TooSlowError:
            errors = _why(case, peer.device)
            raise Broken(f"the {side} stays {peer.heard().name} at {line!r} of {script!r}{errors}") from None


@law("A state that is said again changes nothing.")
async def repeated(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and write both states again")
        device = await case.attach(machine)
        await case.exercise(device)
        before = dict(machine.tree.nodes)
        for path in (device.back_path, device.front_path, device.back_path):
            machine.tree.write(f"{path}/state", str(int(S.Connected)))
            await case.settle()
        changed = sorted(path for path in before if machine.tree.nodes.get(path) != before[path])
        case.expect(not changed, f"after Connected was said again, {', '.join(changed)} changed")
        await case.exercise(device)


@law("A frontend that begins again gets a fresh connection, and nothing of the old one is kept.")
async def again(case: Case) -> None:
    async with case.machine() as machine:
        peer = await case.mock_frontend(machine)
        for number in range(4):
            case.step(f"a frontend connects, time {number + 1}, and goes back to Initialising")
            said = Say(S.Initialised, case.front_nodes)
            await _reach(case, peer, [Hear(S.InitWait), said, Hear(S.Connected), Say(S.Connected), Hush()], "backend")
            await _reach(case, peer, [Say(S.Initialising), Hear(S.InitWait), Hush()], "backend")
            left = len(machine.driver.grants.mappings)
            case.expect(not left, f"the backend is InitWait again, and still maps {left} pages of the old connection")


@law("Whatever states a peer says, an honest handshake works afterwards.", seeded=True)
async def walk(case: Case) -> None:
    async with case.machine() as machine:
        peer: MockPeer = await case.mock_frontend(machine)
        await _wander(case, peer, case.front_nodes)
        case.step("the frontend closes, and begins again")
        close: list[Act] = [Say(S.Closed), Hush(), Hear(S.Closed), Say(S.Initialising), Hear(S.InitWait)]
        await _reach(case, peer, close, "backend")
        await _reach(case, peer, [Say(S.Initialised, case.front_nodes), Hear(S.Connected)], "backend")
    async with case.machine() as machine:
        peer = await case.mock_backend(machine)
        await _wander(case, peer, case.back_nodes)
        case.step("the frontend is given an honest backend")
        await case.relink(peer.device, machine.driver)
        await case.exercise(peer.device)


async def _wander(case: Case, peer: MockPeer, nodes: dict[str, str]) -> None:
    said = []
    for _ in range(case.dice.randint(3, 12)):
        state = S(case.dice.randint(1, 8))
        said.append(state.name)
        case.step(f"the peer has said {', '.join(said)}")
        told = nodes if case.dice.random() < 0.7 else None
        try:
            await Say(state, told).act(peer)
        except (GrantError, HypercallError):
            # A ring that it was offered is not there any more; it says Connected all the same.
            await peer.say(state, told)
        if case.dice.random() < 0.7:
            await case.settle()
    await case.settle()
