"""`xenlike trace`: what it asks the machine for, what it prints, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.fake_machine import FakeMachine, served
from tests.unit.tracing.viewer import check_trace
from xenlike._core import Recorder
from xenlike.abi import recorder as abi
from xenlike.cli.app import app
from xenlike.errors import ConfigError, NoSuchDevice
from xenlike.toolstack.tracing import Clock, RecorderReader
from xenlike.toolstack.tracing.updates import TracedDevice, TraceDrivers, TraceParams, TraceUpdate


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMachine]:
    root = tmp_path / "run"
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(root))
    monkeypatch.delenv("XENLIKE_MACHINE", raising=False)
    with served("lab", root) as machine:
        machine.updates = updates()
        yield machine


def updates() -> list[TraceUpdate]:
    """Two domains that said a word each, the later one read first."""
    one, two = Recorder.private(), Recorder.private()
    one.trace(abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_STATE, "device/echo/0", 1, 4)
    two.trace(abi.XENLIKE_TRACE_USER, abi.XENLIKE_TRACE_TEXT, "hello")
    chunks = [RecorderReader(2, two.memory).read(), RecorderReader(3, one.memory).read()]
    clock = Clock.of(abi.RecorderHead.unpack(one.memory))
    names = {2: "storage", 3: "guest"}
    return [
        TraceUpdate(names=names, drivers=TraceDrivers()),
        TraceUpdate(chunks[:1], clock),
        TraceUpdate(chunks[1:], clock, clock.now_ns),
    ]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_lines_are_in_the_order_of_time(machine: FakeMachine) -> None:
    result = run("trace", "--last")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first == "    0.000000  d3 device/echo/0  state Initialising -> Connected"
    assert second.split(maxsplit=2)[1:] == ["d2", '"hello"']
    assert machine.traced == [TraceParams("", 127, follow=False)]


def test_what_is_wanted_is_asked_for(machine: FakeMachine) -> None:
    run("trace", "guest/xvda", "--last", "--class", "ring,entry", "--no-entries")
    assert machine.traced == [TraceParams("guest/xvda", abi.XENLIKE_TRACE_RING, follow=False)]
    assert run("trace", "--last", "--class", "user").stdout.count("\n") == 1


def test_only_the_devices_events_are_shown(machine: FakeMachine) -> None:
    machine.updates[0].device = TracedDevice("echo", 0, 3, 2, "guest/echo/0")
    machine.updates[0].drivers = None
    result = run("trace", "d3/echo/0", "--last", "--class", "xenbus")
    assert "state Initialising -> Connected" in result.stdout


def test_json_is_an_object_a_line(machine: FakeMachine) -> None:
    first, second = map(json.loads, run("trace", "--last", "--json").stdout.splitlines())
    assert (first["domid"], first["domain"], first["class"], first["event"]) == (3, "guest", "xenbus", "state")
    assert (first["device"], first["numbers"][:2]) == ("device/echo/0", [1, 4])
    assert second["text"] == "hello"
    assert first["time_ns"] <= second["time_ns"]


def test_a_file_for_perfetto_is_whole(machine: FakeMachine, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    result = run("trace", "--last", "--perfetto", str(file))
    assert result.exit_code == 0
    assert result.stdout == ""
    trace = json.loads(file.read_text())
    check_trace(trace)
    assert {"Connected", "hello"} <= {event["name"] for event in trace["traceEvents"]}


@pytest.mark.parametrize(
    ("error", "status"),
    [(NoSuchDevice("there is no device 'x'; there are: none"), 3), (ConfigError("'x' may be any of a, b"), 2)],
)
def test_a_device_that_is_not_there_leaves_no_file(
    machine: FakeMachine, tmp_path: Path, error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(machine, "trace", refuse)
    file = tmp_path / "trace.json"
    result = run("trace", "x", "--perfetto", str(file))
    assert result.exit_code == status
    assert result.stderr == f"xenlike: {error}\n"
    assert not file.exists()


def test_wrong_words_are_refused_before_anything_is_done(machine: FakeMachine, tmp_path: Path) -> None:
    result = run("trace", "--class", "rings")
    assert (result.exit_code, machine.traced) == (2, [])
    assert "no class of events 'rings'; there are: ring, entry, event" in result.stderr
    result = run("trace", "--last", "--perfetto", str(tmp_path / "no" / "such" / "folder"))
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


def test_a_machine_that_is_down_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("XENLIKE_MACHINE", raising=False)
    result = run("trace")
    assert result.exit_code == 3
    assert "no machine is running" in result.stderr
    assert run("-m", "lab", "trace").exit_code == 3


def test_a_machine_that_goes_down_ends_the_trace(machine: FakeMachine) -> None:
    machine.updates.append(TraceUpdate())

    async def then_down(params: TraceParams, send: object) -> None:
        assert callable(send)
        for update in machine.updates:
            await send(update)
        machine.down.set()

    machine.trace = then_down  # type: ignore[method-assign]
    result = run("trace")
    assert result.exit_code == 0
    assert '"hello"' in result.stdout


def test_what_was_lost_is_said(machine: FakeMachine) -> None:
    recorder = Recorder.private()
    for number in range(abi.XENLIKE_RECORDER_RECORDS + 5):
        recorder.trace(abi.XENLIKE_TRACE_USER, abi.XENLIKE_TRACE_TEXT, "", number)
    clock = Clock.of(abi.RecorderHead.unpack(recorder.memory))
    machine.updates = [TraceUpdate([RecorderReader(7, recorder.memory).read(10)], clock, clock.now_ns)]
    result = run("trace", "--last")
    assert "5 records of d7 were overwritten" in result.stderr
