"""The control socket: requests, errors of their own class, consoles, and who may connect."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.unit.fake_machine import FakeMachine
from xenlike.errors import ConfigError, MachineError, NoSuchDevice, NoSuchDomain, NoSuchMachine
from xenlike.toolstack.console_log import ConsoleLog
from xenlike.toolstack.control import Control, connect
from xenlike.toolstack.control_server import ControlServer, find_domain
from xenlike.toolstack.control_wire import MAX_LINE, DomainInfo, ExitInfo, RemoteFailure
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.paths import MachinePaths


@asynccontextmanager
async def serving(root: Path, machine: FakeMachine) -> AsyncIterator[Control]:
    paths = MachinePaths.of("lab", root)
    paths.create()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlServer(machine, paths.control).serve)
            async with connect("lab", root) as control:
                yield control
            nursery.cancel_scope.cancel()
    assert not paths.control.exists()


async def test_list_gives_what_the_machine_says(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeMachine()) as control:
        assert await control.domains() == [DomainInfo(3, "guest", "running", 64 << 20, 77, 1.5, [], ["xvda"])]


@pytest.mark.parametrize("who", ["guest", "3"])
async def test_a_domain_goes_by_name_or_domid(tmp_path: Path, who: str) -> None:
    machine = FakeMachine()
    async with serving(tmp_path, machine) as control:
        assert await control.shutdown(who, "reboot", 5) == ExitInfo("reboot", 0)
        await control.destroy(who)
    assert machine.guest.destroyed
    with pytest.raises(NoSuchDomain, match="there are: guest"):
        find_domain(machine, "4")


async def test_a_disk_arrives_as_it_was_described(tmp_path: Path) -> None:
    machine = FakeMachine()
    disk = Disk("/a.img", "raw", "xvdb", "ro", "storage")
    async with serving(tmp_path, machine) as control:
        await control.block_attach("3", disk)
    assert machine.attached == [("guest", disk)]


async def test_statistics_are_asked_for_in_whole_milliseconds(tmp_path: Path) -> None:
    machine = FakeMachine()
    async with serving(tmp_path, machine) as control:
        assert await control.publish(500, 10_000) == 7
        assert await control.publish() == 7
        for wrong in ({"period_ms": -1}, {"lease_ms": 1 << 32}, {"period_ms": 0.5}):
            with pytest.raises(ConfigError, match="publish: Expected `int`"):
                await control.call("publish", wrong, int)
    assert machine.leases == [(500, 10_000), (0, 0)]


async def test_errors_come_back_as_their_own_class(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeMachine()) as control:
        with pytest.raises(NoSuchDomain, match="no domain 'nobody'"):
            await control.destroy("nobody")
        with pytest.raises(NoSuchDevice, match="has no xvdq"):
            await control.block_detach("guest", "xvdq")
        with pytest.raises(MachineError, match="did not shut down"):
            await control.shutdown("guest", timeout_s=0)
        with pytest.raises(ConfigError, match="'because' is no reason"):
            await control.shutdown("guest", "because")
        with pytest.raises(ConfigError, match="no method 'dance'"):
            await control.call("dance", {}, object)
        with pytest.raises(ConfigError, match="unknown field"):
            await control.call("destroy", {"domain": "guest", "now": True}, object)
        with pytest.raises(ConfigError, match="vdev 'yda'"):
            words = {"target": "/a", "vdev": "yda"}
            await control.call("block-attach", {"domain": "guest", "disk": words}, object)
        assert len(await control.domains()) == 1


async def test_an_unknown_kind_of_error_is_still_one_of_ours(tmp_path: Path) -> None:
    machine = FakeMachine()

    async def fail(domain: str, disk: Disk) -> None:
        raise OSError(28, "No space left on device")

    machine.attach_disk = fail  # type: ignore[method-assign]
    async with serving(tmp_path, machine) as control:
        with pytest.raises(RemoteFailure, match="No space left"):
            await control.block_attach("guest", Disk("/a"))


async def test_a_console_gives_what_was_said_and_what_comes_then_ends(tmp_path: Path) -> None:
    machine = FakeMachine()
    machine.log.feed("guest", b"early\n")
    got = []
    async with serving(tmp_path, machine) as control:
        async for data in control.console("guest"):
            got.append(data)
            if len(got) == 1:
                await control.console_input("guest", b"hello\n")
                machine.log.feed("guest", b"\xff\x00late")
                machine.log.end("guest")
        assert got == [b"early\n", b"\xff\x00late"]
        assert [data async for data in control.console("guest", follow=False)] == [b"early\n\xff\x00late"]
        assert len(await control.domains()) == 1  # the connection is of use again
    assert machine.guest.typed == b"hello\n"


async def test_down_is_answered_then_done(tmp_path: Path) -> None:
    paths = MachinePaths.of("lab", tmp_path)
    paths.create()
    machine = FakeMachine()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlServer(machine, paths.control).serve)

            async def end_when_asked() -> None:
                await machine.down.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_when_asked)
            async with connect("lab", tmp_path) as control:
                with trio.CancelScope(shield=True):
                    await control.down()


async def test_a_line_without_end_or_sense_costs_only_its_connection(tmp_path: Path) -> None:
    machine = FakeMachine()
    async with serving(tmp_path, machine) as control:
        path = str(MachinePaths.of("lab", tmp_path).control)
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b"no json\n")
            assert b"bad request" in await stream.receive_some()
        async with await trio.open_unix_socket(path) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x" * (2 * MAX_LINE + (1 << 17)))
                await stream.receive_some()
                raise trio.BrokenResourceError
        assert len(await control.domains()) == 1


async def test_a_domain_of_the_machine_is_not_let_in(tmp_path: Path) -> None:
    machine = FakeMachine()
    machine.guest.pid = os.getpid()
    async with serving(tmp_path, machine) as control:
        with pytest.raises(MachineError, match="went away"):
            await control.domains()


async def test_no_such_machine_names_those_there_are(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeMachine()):
        with pytest.raises(NoSuchMachine, match="no machine 'other' is running; there are: lab"):
            await connect("other", tmp_path).__aenter__()


async def test_a_socket_left_behind_is_no_machine_and_is_replaced(tmp_path: Path) -> None:
    paths = MachinePaths.of("lab", tmp_path)
    paths.create()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(paths.control))
    left.close()
    with pytest.raises(NoSuchMachine):
        await connect("lab", tmp_path).__aenter__()
    async with serving(tmp_path, FakeMachine()) as control:
        assert len(await control.domains()) == 1


async def test_the_log_keeps_the_end_and_never_waits() -> None:
    log = ConsoleLog(limit=10)
    for number in range(10):
        log.feed("a", b"%d23" % number)
    assert log.tail("a") == b"723823923"
    log.feed("a", b"x" * 100)
    assert log.tail("a") == b"x" * 10
    with log.subscribe("a") as output:
        for _ in range(1000):
            log.feed("a", b"y")  # nobody reads
        assert await output.receive() == b"x" * 10
        log.forget("a")
        rest = [data async for data in output]
    assert rest == [b"y"] * 255
    assert log.tail("a") == b""
