"""Tracing a whole machine: both ends are heard, in order, whoever comes and dies, and nobody is left recording."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.system import trace_guests
from tests.system.conftest import GUARD_S, Watch
from tests.unit.tracing.viewer import check_trace
from xenlike import Device, Guest, Machine
from xenlike.abi import recorder as abi
from xenlike.errors import NoSuchDevice
from xenlike.toolstack.control import connect
from xenlike.toolstack.tracing import TraceEvent
from xenlike.toolstack.tracing.client import TraceClient
from xenlike.toolstack.tracing.reader import RecorderReader

pytestmark = pytest.mark.system
HOT = abi.XENLIKE_TRACE_RING | abi.XENLIKE_TRACE_ENTRY


async def spawn_pair(machine: Machine) -> tuple[Guest, Guest]:
    storage = await machine.spawn("storage", backends=["echo"], on_crash="restart")
    device = Device("echo", backend="storage")
    return storage, await machine.spawn("guest", trace_guests.asks_for_ever, devices=[device])


@asynccontextmanager
async def following(
    machine: Machine, watch: Watch, what: str = "", *, follow: bool = True
) -> AsyncIterator[TraceClient]:
    async with connect(machine.name, watch.runtime_dir) as control:
        yield TraceClient(control, what, follow=follow)


async def heard(client: TraceClient, enough: Callable[[list[TraceEvent]], bool]) -> list[TraceEvent]:
    """Follows until there is enough."""
    events: list[TraceEvent] = []
    with trio.fail_after(GUARD_S):
        async with aclosing(client.batches()) as batches:
            async for batch in batches:
                events += batch
                if enough(events):
                    return events
    return events


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(GUARD_S):
        while not condition():  # noqa: ASYNC110 - no event tells of another process
            await trio.sleep(0.005)


def masks(machine: Machine) -> dict[int, int]:
    """What is recorded of the hot paths, by domain."""
    found = {}
    for info in machine.hypercalls.domain_infos():
        found[info.domid] = RecorderReader(info.domid, machine.hypercalls.recorder_memory(info.domid)).mask & HOT
    return found


def served(count: int) -> Callable[[list[TraceEvent]], bool]:
    """Whether the guest has had that many answers."""

    def enough(events: list[TraceEvent]) -> bool:
        return sum(event.name == "popped" and event.side == 0 for event in events) >= count

    return enough


async def test_both_ends_of_a_request_are_told_in_the_order_of_their_happening(machine: Machine, watch: Watch) -> None:
    storage, guest = await spawn_pair(machine)
    async with following(machine, watch, "guest/echo/0") as client:
        events = await heard(client, served(5))
    index = next(event.a for event in events if event.name == "pushed" and event.side == 0)
    story = [
        (event.domid, event.name)
        for event in events
        if event.class_name == "entry" and event.a == index and event.time_ns
    ]
    front, back = guest.domid, storage.domid
    assert story[:4] == [(front, "pushed"), (back, "popped"), (back, "pushed"), (front, "popped")]
    assert {event.device for event in events} <= {"device/echo/0", f"backend/echo/{front}/0", ""}
    assert {event.domid for event in events} <= {front, back}
    said = [client.protocols.entry(event) for event in events if event.class_name == "entry"]
    assert {type(entry).__name__ for entry in said} == {"EchoRequest", "EchoResponse"}


async def test_hot_paths_are_recorded_only_while_somebody_follows(machine: Machine, watch: Watch) -> None:
    storage, guest = await spawn_pair(machine)
    assert set(masks(machine).values()) == {0}
    async with following(machine, watch, "guest/echo/0") as client:
        await heard(client, served(1))
        now = masks(machine)
        assert {domid for domid, mask in now.items() if mask} == {storage.domid, guest.domid}
        async with following(machine, watch) as other:
            await heard(other, served(1))
            assert set(masks(machine).values()) == {HOT}
        await until(lambda: machine.tracing.followers == 1)
        assert masks(machine) == now
    await until(lambda: machine.tracing.followers == 0)
    assert set(masks(machine).values()) == {0}


async def test_what_was_recorded_can_be_asked_for_afterwards(machine: Machine, watch: Watch) -> None:
    _, guest = await spawn_pair(machine)
    async with following(machine, watch, "guest/echo/0") as client:
        await heard(client, served(1))
    async with following(machine, watch, "device/echo/0", follow=False) as client:
        events = await heard(client, lambda _: False)
    states = [event for event in events if event.name == "state" and event.domid == guest.domid]
    assert [event.b for event in states][-1] == 4
    assert any(event.name == "granted" for event in events)
    assert any(event.name == "pushed" for event in events)
    assert machine.tracing.followers == 0


async def test_last_words_are_heard(machine: Machine, watch: Watch) -> None:
    guest = await machine.spawn("guest", trace_guests.says_last_words)
    async with following(machine, watch, "guest") as client:

        async def tell() -> None:
            await until(lambda: machine.tracing.followers == 1)
            await machine.domain0.store.write(f"/local/domain/{guest.domid}/data/go", "1")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            events = await heard(client, lambda events: any(event.text == "last words" for event in events))
    assert {event.domid for event in events} == {guest.domid}


async def test_a_domain_that_is_started_again_is_followed_from_its_first_request(
    machine: Machine, watch: Watch
) -> None:
    storage, guest = await spawn_pair(machine)
    before = storage.domid
    killed_ns = 0
    async with following(machine, watch, "guest/echo/0") as client:
        await heard(client, served(1))
    async with following(machine, watch, "guest/echo/0") as client:

        async def kill() -> None:
            nonlocal killed_ns
            await until(lambda: machine.tracing.followers >= 1)
            assert storage.pid is not None
            killed_ns = time.monotonic_ns()
            os.kill(storage.pid, signal.SIGKILL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            events = await heard(
                client,
                lambda events: any(
                    event.domid > guest.domid and event.name == "pushed" and event.a == 0 for event in events
                ),
            )
    again = storage.domid
    assert again != before
    first = next(event for event in events if event.domid == again and event.name == "popped")
    assert first.a == 0
    # It hears of the death by the hang-up, or of the new backend first.
    heard_of_it = [event for event in events if event.domid == guest.domid and event.name in ("lost", "state")]
    assert any(event.time_ns > killed_ns for event in heard_of_it)
    assert client.names[again] == "storage"


async def test_a_driver_that_no_entry_point_knows_is_decoded_too(machine: Machine, watch: Watch) -> None:
    shout = trace_guests.SHOUT
    await machine.spawn("storage", backends=["shout"], drivers=[shout])
    device = Device("shout", backend="storage", driver=shout)
    await machine.spawn("guest", trace_guests.asks_for_ever, devices=[device], args=["shout"])
    async with following(machine, watch, "guest/shout/0") as client:
        events = await heard(client, served(1))
    said = [client.protocols.entry(event) for event in events if event.class_name == "entry"]
    assert {type(entry).__name__ for entry in said} == {"EchoRequest", "EchoResponse"}


async def test_who_asks_for_what_is_not_there_is_told_what_is(machine: Machine, watch: Watch) -> None:
    await spawn_pair(machine)
    async with following(machine, watch, "guest/vbd/0") as client:
        with pytest.raises(NoSuchDevice, match=r"no device 'guest/vbd/0'; there are: guest/echo/0"):
            await heard(client, lambda _: False)
    assert machine.tracing.followers == 0


async def test_the_command_writes_a_whole_file_when_it_is_interrupted(
    machine: Machine, watch: Watch, tmp_path: Path
) -> None:
    await spawn_pair(machine)
    file = tmp_path / "trace.json"
    command = [
        sys.executable,
        "-m",
        "xenlike.cli",
        "-m",
        machine.name,
        "trace",
        "guest/echo/0",
        "--perfetto",
        str(file),
    ]
    environment = {**os.environ, "XENLIKE_RUNTIME_DIR": str(watch.runtime_dir)}
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, env=environment, stderr=subprocess.PIPE)
        nursery.start_soon(process.wait)
        await until(lambda: file.exists() and "EchoRequest" in file.read_text())
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        async with process.stderr:
            said = b"".join([chunk async for chunk in process.stderr])
    assert process.returncode == 130
    assert b"ui.perfetto.dev" in said
    trace = json.loads(file.read_text())
    slices = check_trace(trace)
    assert {"EchoRequest", "asleep"} <= {one["name"] for one in slices}
    await until(lambda: machine.tracing.followers == 0)
    assert set(masks(machine).values()) == {0}
