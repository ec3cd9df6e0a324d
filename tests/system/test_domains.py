"""Laws of domains: every end is seen and reported with its reason, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.system import guests
from tests.system.conftest import GUARD_S, Screen, Watch, processes_of, store_tree
from xenlike import Device, Disk, Exec, Exit, Guest, Machine, open_machine
from xenlike.abi import sched
from xenlike.errors import ConfigError, HypervisorGone, MachineError, NoSuchDevice, NoSuchDomain
from xenlike.toolstack import launch
from xenlike.toolstack.config import Action

pytestmark = pytest.mark.system
HERE = Path(__file__).parent


def lives(pid: int | None) -> bool:
    return os.path.exists(f"/proc/{pid}")


async def end_of(guest: Guest) -> Exit:
    with trio.fail_after(GUARD_S):
        return await guest.wait()


# -- ends -----------------------------------------------------------------------------------------------------------

POWEROFF, CRASH = Exit("poweroff"), Exit("crash")

ENDS: list[tuple[Callable[..., object], tuple[object, ...], Exit]] = [
    (guests.returns, (), POWEROFF),
    (guests.returns_at_once, (), POWEROFF),
    (guests.raises, (), CRASH),
    (guests.raises_at_once, (), CRASH),
    (guests.exits, (None,), POWEROFF),
    (guests.exits, (0,), POWEROFF),
    (guests.exits, (3,), CRASH),
    (guests.exits_at_once, (0,), POWEROFF),
    (guests.exits_at_once, (3,), CRASH),
    (guests.exits, ("last words",), CRASH),
    (guests.leaves, (0,), Exit("poweroff", code=0)),
    (guests.leaves, (7,), Exit("crash", code=7)),
    (guests.shuts_down, (sched.SHUTDOWN_poweroff,), POWEROFF),
    (guests.shuts_down, (sched.SHUTDOWN_suspend,), Exit("suspend")),
    (guests.shuts_down, (sched.SHUTDOWN_crash,), CRASH),
    (guests.shuts_down, (sched.SHUTDOWN_watchdog,), Exit("watchdog")),
    (guests.shuts_down, (sched.SHUTDOWN_soft_reset,), Exit("soft_reset")),
    (guests.kills_itself, (signal.SIGKILL,), Exit("crash", signal=signal.SIGKILL)),
    (guests.kills_itself, (signal.SIGSEGV,), Exit("crash", signal=signal.SIGSEGV)),
    (guests.kills_itself, (signal.SIGTERM,), Exit("crash", signal=signal.SIGTERM)),
]


async def test_every_end_is_reported_as_it_was_and_leaves_nothing(machine: Machine, screen: Screen) -> None:
    before = await store_tree(machine)
    alive = [await machine.spawn(f"guest-{at}", entry, args=[*args]) for at, (entry, args, _) in enumerate(ENDS)]
    endings = [await end_of(guest) for guest in alive]
    assert endings == [ending for _, _, ending in ENDS]
    assert [guest.state for guest in alive] == [str(ending) for ending in endings]
    assert [ending.ok for ending in endings] == [ending.reason != "crash" for ending in endings]
    assert machine.domains == {}
    assert await store_tree(machine) == before
    assert [info.name for info in await machine.list()] == ["Domain-0", "xenstored"]
    for at in (2, 3):
        assert "Traceback" in screen.text(f"guest-{at}")
        assert "guests.py" in screen.text(f"guest-{at}")
        assert screen.text(f"guest-{at}").endswith("RuntimeError: broken on purpose\n")
    assert screen.text("guest-9") == "last words\n"


async def test_a_killed_domain_is_seen_and_its_name_is_free_again(machine: Machine, screen: Screen) -> None:
    guest = await machine.spawn("guest", guests.waits)
    await screen.wait_for("guest", "ready")
    assert (guest.state, guest.is_running) == ("running", True)
    pid = guest.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await end_of(guest) == Exit("crash", signal=signal.SIGKILL)
    assert guest.state == "crash (killed by SIGKILL)"
    assert guest.pid is None
    assert not lives(pid)
    second = await machine.spawn("guest", guests.returns)
    assert second.domid != guest.domid
    assert await end_of(second) == POWEROFF


# -- shutdown -------------------------------------------------------------------------------------------------------


async def test_a_domain_that_is_asked_to_end_does(machine: Machine, screen: Screen) -> None:
    for name in ("poweroff", "suspend", "crash"):
        guest = await machine.spawn(name, guests.tidies_up)
        await screen.wait_for(name, "ready")
        with trio.fail_after(GUARD_S):
            assert await guest.shutdown(name) == Exit(name)
            assert await guest.wait() == Exit(name)
            assert await guest.shutdown() == Exit(name)
        assert screen.text(name) == "ready\ntidied up\n"
    plain = await machine.spawn("plain", guests.waits_at_once)
    await screen.wait_for("plain", "ready")
    with trio.fail_after(GUARD_S):
        assert await plain.shutdown() == POWEROFF


async def test_a_destroyed_domain_is_gone_when_destroy_returns(machine: Machine, screen: Screen) -> None:
    before = await store_tree(machine)
    deaf = await machine.spawn("deaf", guests.ignores_requests)
    guest = await machine.spawn("guest", guests.waits, on_crash="restart")
    for name in ("deaf", "guest"):
        await screen.wait_for(name, "ready")
    pids = [deaf.pid, guest.pid]
    with trio.fail_after(GUARD_S):
        assert await deaf.shutdown(timeout_s=0.01) == Exit("destroyed")
        await guest.destroy()
        assert await guest.wait() == Exit("destroyed")
        await guest.destroy()
    assert not any(map(lives, pids))
    assert machine.domains == {}
    assert await store_tree(machine) == before


async def test_a_domain_is_destroyed_at_any_moment_of_its_birth(machine: Machine) -> None:
    before = await store_tree(machine)
    for checkpoints in range(12):
        guest = await machine.spawn("guest", guests.waits)
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(GUARD_S):
            await guest.destroy()
        assert guest.state == "destroyed"
    assert await store_tree(machine) == before


async def test_a_domain_that_ends_while_it_is_ended_confuses_nobody(machine: Machine, screen: Screen) -> None:
    before = await store_tree(machine)
    actions: list[Action] = ["destroy", "restart", "preserve"]
    for number in range(18):
        name = f"guest-{number}"
        guest = await machine.spawn(name, guests.waits, on_crash=actions[number % 3])
        await screen.wait_for(name, "ready")
        pid = guest.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for _ in range(number * 12):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(GUARD_S):
            if number % 2:
                await guest.destroy()
            else:
                await guest.shutdown()
                # Started again, it was asked no more, or just in time.
                await guest.destroy()
        assert not guest.is_running
    assert await store_tree(machine) == before


# -- the end of all -------------------------------------------------------------------------------------------------


async def test_what_lives_when_the_block_ends_is_ended(watch: Watch, screen: Screen) -> None:
    """All of it: waiting ones, deaf ones, and ones that are just being born."""
    async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
        await machine.spawn("waits", guests.waits)
        await machine.spawn("deaf", guests.ignores_requests)
        await screen.wait_for("waits", "ready")
        await screen.wait_for("deaf", "ready")
        for number in range(3):
            await machine.spawn(f"young-{number}", guests.waits)
        assert len(processes_of(watch.launched[0])) >= 4
    watch.check()


async def test_an_error_in_the_block_is_raised_as_it_is_and_ends_the_machine(watch: Watch, screen: Screen) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
            await machine.spawn("waits", guests.waits)
            _ = 1 / 0
    watch.check()


async def test_cancelling_the_block_ends_the_machine(watch: Watch, screen: Screen) -> None:
    with trio.CancelScope() as scope:
        async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
            await machine.spawn("waits", guests.waits)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    watch.check()


async def test_a_hypervisor_that_dies_takes_all_but_its_caller(watch: Watch, screen: Screen) -> None:
    """Also what a domain had started, which has no death signal of its own."""
    with pytest.raises(HypervisorGone, match="lab"), trio.fail_after(GUARD_S):
        async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
            await machine.spawn("waits", guests.waits)
            await machine.spawn("script", Exec(["sh", "-c", "sleep 1000 & echo ready; wait"]))
            await screen.wait_for("waits", "ready")
            await screen.wait_for("script", "ready")
            watch.launched[0].hypervisor.kill()
            await trio.sleep_forever()
    watch.check()


# -- again ----------------------------------------------------------------------------------------------------------


async def test_a_domain_that_crashes_is_started_again_within_reason(
    machine: Machine, screen: Screen, tmp_path: Path
) -> None:
    counters = [tmp_path / "some", tmp_path / "many"]
    guest, hopeless = [
        await machine.spawn(counter.name, guests.crashes_until, args=[str(counter), lives], on_crash="restart")
        for counter, lives in zip(counters, (3, 100), strict=True)
    ]
    first = guest.domid
    await screen.wait_for("some", "ready")
    assert await end_of(hopeless) == CRASH
    assert [counter.stat().st_size for counter in counters] == [3, 5]
    assert screen.text("some").count("RuntimeError: not yet") == 2
    assert guest.is_running
    assert guest.domid >= first + 2
    assert machine.domains == {"some": guest}
    nodes = await store_tree(machine)
    assert f"/local/domain/{guest.domid}/name" in nodes
    assert f"/local/domain/{first}" not in nodes


async def test_what_follows_an_end_is_as_asked(machine: Machine, screen: Screen) -> None:
    alive: dict[str, Guest] = {}
    actions: list[Action] = ["destroy", "preserve", "restart"]
    for action in actions:
        alive[action] = await machine.spawn(action, guests.waits, on_poweroff=action)
        await screen.wait_for(action, "ready")
        with trio.fail_after(GUARD_S):
            assert await alive[action].shutdown() == POWEROFF
    await screen.wait_for("restart", "ready\nready")
    assert list(machine.domains) == ["preserve", "restart"]
    assert [guest.is_running for guest in alive.values()] == [False, False, True]
    line = (await machine.list())[-1]
    assert (line.name, line.state, line.pid) == ("preserve", "poweroff", None)
    with pytest.raises(ConfigError, match="named 'preserve' already"):
        await machine.spawn("preserve", guests.returns)


async def test_a_reboot_is_another_life_of_the_same_domain(machine: Machine, screen: Screen) -> None:
    guest = await machine.spawn("guest", guests.waits)
    await screen.wait_for("guest", "ready")
    domid = guest.domid
    with trio.fail_after(GUARD_S):
        assert await guest.shutdown("reboot") == Exit("reboot")
        assert await guest.wait_restarted(domid) != domid
    await screen.wait_for("guest", "ready\nready")
    with trio.fail_after(GUARD_S):
        assert await guest.shutdown() == POWEROFF
        with pytest.raises(MachineError, match="poweroff"):
            await guest.wait_restarted(guest.domid)


# -- entries --------------------------------------------------------------------------------------------------------


async def test_an_entry_is_called_with_its_domain_and_arguments(machine: Machine, screen: Screen) -> None:
    file = HERE / "guests.py"
    entries: dict[str, Callable[..., object] | str] = {
        "async": guests.says,
        "sync": guests.says_at_once,
        "module": "tests.system.guests:says",
        "file": f"{file}:says",
        "file-sync": f"{file}:says_at_once",
    }
    for name, entry in entries.items():
        guest = await machine.spawn(name, entry, args=["one", 2, None, [3.5]])
        assert await end_of(guest) == POWEROFF
        assert screen.text(name) == f"d{guest.domid} {name}: one 2 None [3.5]\n"


async def test_a_domain_runs_where_its_caller_runs_with_nothing_of_its_caller_open(
    machine: Machine, screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = f"{HERE / 'guests.py'}:prints_its_surroundings"
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        guest = await machine.spawn("surroundings", entry)
        assert await end_of(guest) == POWEROFF
    said = dict(line.split(" ", 1) for line in screen.text("surroundings").splitlines())
    assert said["cwd"] == str(tmp_path)
    assert said["name"] == f"xl-d{guest.domid}-surroundings"[:15]
    assert len(said["descriptors"].split()) < 20


async def test_an_executable_is_handed_its_socket_and_its_output_is_shown(machine: Machine, screen: Screen) -> None:
    script = """
    echo "hello, $WHO"
    echo "to the other" >&2
    test -S /proc/self/fd/$XENLIKE_HYPERCALL_FD && echo socket
    test -S /proc/self/fd/$XENLIKE_RESOURCE_FD && echo channel
    read nothing || echo no input
    exit 5
    """
    guest = await machine.spawn("script", Exec(["sh", "-c", script], {"WHO": "world"}))
    assert await end_of(guest) == Exit("crash", code=5)
    assert sorted(screen.text("script").split("\n")[:-1]) == [
        "channel",
        "hello, world",
        "no input",
        "socket",
        "to the other",
    ]


async def test_what_an_executable_started_ends_with_it(machine: Machine, watch: Watch, screen: Screen) -> None:
    """They would hold its output open, and its hypercall socket."""
    for name, last in [
        ("returns", "true"),
        ("killed", "wait"),
        ("destroyed", "wait"),
        ("signal", "kill -TERM $$; wait"),
    ]:
        script = f"sleep 1000 & (sleep 1000 & exec sleep 1000) & echo ready; {last}"
        guest = await machine.spawn(name, Exec(["sh", "-c", script]))
        await screen.wait_for(name, "ready")
        if name == "killed" and guest.pid is not None:
            os.kill(guest.pid, signal.SIGKILL)
        with trio.fail_after(GUARD_S):
            if name == "destroyed":
                await guest.destroy()
            ending = await guest.wait()
        assert (
            str(ending)
            == {
                "returns": "poweroff",
                "killed": "crash (killed by SIGKILL)",
                "destroyed": "destroyed",
                "signal": "crash (killed by SIGTERM)",
            }[name]
        )
    # Whoever saw the domain's end does not wait for theirs; a machine does that at its own.
    with trio.fail_after(GUARD_S):
        while "sleep" in processes_of(watch.launched[0]).values():
            await trio.lowlevel.checkpoint()


async def test_what_slipped_away_from_a_domain_ends_with_the_machine(watch: Watch, screen: Screen) -> None:
    async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
        # It speaks when it has a session of its own, and then holds nothing of its parents' open.
        slip = "setsid sh -c 'echo $$; exec >&- 2>&-; exec sleep 1000'"
        guest = await machine.spawn("script", Exec(["sh", "-c", f"pid=$({slip} &); echo $pid"]))
        await end_of(guest)
        escaped = int(screen.text("script"))
        assert lives(escaped)
    assert not lives(escaped)


# -- adopted processes ----------------------------------------------------------------------------------------------


async def become_a_domain(machine: Machine, screen: Screen, word: str | None) -> Exit:
    """Has a process adopted, tells it a word or kills it, and returns how its domain ended."""
    guest, sock = await machine.adopt("adopted")
    command = [sys.executable, str(HERE / "adopted.py"), str(sock.fileno())]
    pipe = subprocess.PIPE
    with sock:
        process = await trio.to_thread.run_sync(
            lambda: subprocess.Popen(command, pass_fds=[sock.fileno()], stdin=pipe, stdout=pipe, text=True, bufsize=1)
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert await trio.to_thread.run_sync(process.stdout.readline) == "running\n"
            assert await trio.to_thread.run_sync(process.stdout.readline) == f"d{guest.domid} adopted\n"
            await screen.wait_for("adopted", f"hello from d{guest.domid}\n")
            assert await machine.domain0.store.read(f"/local/domain/{guest.domid}/data/adopted") == "yes"
            assert guest.is_running
            if word is not None:
                process.stdin.write(f"{word}\n")
            else:
                process.kill()
            return await end_of(guest)
        finally:
            process.kill()


async def test_a_process_that_runs_already_becomes_a_domain(machine: Machine, screen: Screen) -> None:
    before = await store_tree(machine)
    endings = [await become_a_domain(machine, screen, word) for word in ("shutdown", "return", "hang up", None)]
    assert endings == [Exit("reboot"), CRASH, CRASH, CRASH]
    assert machine.domains == {}
    assert await store_tree(machine) == before


async def test_an_adopted_domain_is_its_socket(machine: Machine) -> None:
    guest, sock = await machine.adopt("closed")
    with pytest.raises(MachineError):
        guest.running.take_socket()
    sock.close()
    assert await end_of(guest) == CRASH
    guest, sock = await machine.adopt("destroyed")
    with sock, trio.fail_after(GUARD_S):
        await guest.destroy()
        assert sock.recv(1) == b""
    assert guest.state == "destroyed"


# -- consoles -------------------------------------------------------------------------------------------------------


async def test_output_larger_than_the_ring_comes_whole_and_in_order(machine: Machine, screen: Screen) -> None:
    lines = 4000
    guest = await machine.spawn("guest", guests.talks, args=[lines])
    assert await end_of(guest) == POWEROFF
    assert screen.text("guest") == "".join(f"{number:07d} {'x' * 56}\n" for number in range(lines))
    assert machine.console.tail("guest") in screen.text("guest").encode()


async def test_what_is_typed_reaches_the_domain(machine: Machine, screen: Screen) -> None:
    guest = await machine.spawn("guest", guests.listens)
    await screen.wait_for("guest", "ready")
    await guest.console_input(b"some words\n")
    assert await end_of(guest) == POWEROFF
    assert screen.text("guest") == "ready\nheard some words\n"


async def test_lines_are_printed_behind_their_domains_name(watch: Watch, capfd: pytest.CaptureFixture[str]) -> None:
    async with open_machine("lab", runtime_dir=watch.runtime_dir) as machine:
        await end_of(await machine.spawn("python", guests.says, args=["hello"]))
        await end_of(await machine.spawn("shell", Exec(["printf", "no newline"])))
    out = capfd.readouterr().out
    assert "python | d2 python: hello\n" in out
    assert "shell | no newline\n" in out


async def test_a_console_is_opened_by_others_too(machine: Machine, screen: Screen) -> None:
    guest = await machine.spawn("guest", guests.listens)
    await screen.wait_for("guest", "ready")
    with machine.open_console("guest") as console, trio.fail_after(GUARD_S):
        assert await console.receive() == b"ready\n"
        await guest.console_input(b"x\n")
        assert b"".join([data async for data in console]) == b"heard x\n"
    with pytest.raises(NoSuchDomain):
        machine.open_console("guest")


# -- memory and devices ---------------------------------------------------------------------------------------------


async def test_a_domain_has_the_memory_it_was_given(machine: Machine, screen: Screen) -> None:
    guest = await machine.spawn("guest", guests.allocates, memory="2M")
    assert await end_of(guest) == POWEROFF
    ram, refused, pages = screen.text("guest").splitlines()
    assert ram == f"ram {2 << 20}"
    assert "ENOMEM" in refused
    assert "memory=" in refused
    # Two of its 512 pages are its rings.
    assert pages == "pages 448"


async def test_backends_live_in_any_domain(machine: Machine, screen: Screen, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"sector 0".ljust(512) + b"sector 1".ljust(512))
    await machine.spawn("driver", backends=["echo", "vbd"])
    for backend in ("0", "driver"):
        disk = Disk(str(image), backend=backend)
        alive = [
            await machine.spawn(
                f"echo-{backend}", guests.echoes, args=["hello"], devices=[Device("echo", backend=backend)]
            ),
            await machine.spawn(f"one-{backend}", guests.reads, args=[512, 512], devices=[disk]),
            await machine.spawn(f"two-{backend}", guests.reads_at_once, args=[0, 1024], devices=[disk]),
        ]
        assert [await end_of(guest) for guest in alive] == [POWEROFF] * 3
        assert screen.text(f"echo-{backend}") == "echo HELLO\n"
        assert screen.text(f"one-{backend}") == "disk b'sector 1        '\n"
        assert screen.text(f"two-{backend}") == "disk b'sector 0        '\n"


async def test_the_list_tells_what_there_is(machine: Machine, screen: Screen) -> None:
    driver = await machine.spawn("driver", backends=["echo"])
    guest = await machine.spawn("guest", guests.waits, memory="8M", devices=[Device("echo", 3, backend="driver")])
    await screen.wait_for("guest", "ready")
    lines = {info.name: info for info in await machine.list()}
    assert list(lines) == ["Domain-0", "xenstored", "driver", "guest"]
    assert lines["Domain-0"].pid == os.getpid()
    assert (lines["driver"].backends, lines["driver"].domid) == (["echo"], driver.domid)
    line = lines["guest"]
    assert (line.state, line.memory, line.devices, line.pid) == ("running", 8 << 20, ["echo/3"], guest.pid)
    with pytest.raises(NoSuchDomain, match="driver, guest"):
        machine.find("nobody")
    with pytest.raises(NoSuchDevice, match="echo/3"):
        await machine.detach("guest", "xvda")


# -- machines -------------------------------------------------------------------------------------------------------


async def test_two_machines_live_side_by_side_in_one_process(watch: Watch, screen: Screen) -> None:
    async with (
        open_machine("one", runtime_dir=watch.runtime_dir, console=screen) as one,
        open_machine("two", runtime_dir=watch.runtime_dir, console=screen) as two,
    ):
        first = await one.spawn("first", guests.says, args=["hello"])
        second = await two.spawn("second", guests.says, args=["hello"])
        assert first.domid == second.domid
        assert await end_of(first) == await end_of(second) == POWEROFF
        assert [info.name for info in await one.list()] == ["Domain-0", "xenstored"]
    watch.check()


async def test_a_name_is_one_machines_at_a_time(watch: Watch, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    # How long it waits for one that is just ending.
    monkeypatch.setattr(launch, "LOCK_PATIENCE_S", 0.0)
    async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
        with pytest.raises(MachineError, match="'lab' is running already"):
            async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen):
                pytest.fail("there are two of one name")
        assert await end_of(await machine.spawn("guest", guests.returns)) == POWEROFF
    async with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen):
        pass


# -- without async --------------------------------------------------------------------------------------------------


def test_a_script_needs_no_async(watch: Watch, screen: Screen, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"sector 0".ljust(512))
    with open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
        machine.spawn("driver", backends=["vbd"])
        guest = machine.spawn("guest", guests.reads, args=[0, 512], devices=[Disk(str(image), backend="driver")])
        assert guest.wait(GUARD_S) == POWEROFF
        assert (guest.name, guest.state) == ("guest", "poweroff")
        waiting = machine.spawn("waits", guests.waits)
        with pytest.raises(TimeoutError, match="'waits' did not end"):
            waiting.wait(0.01)
        assert [info.name for info in machine.list()] == ["Domain-0", "xenstored", "driver", "waits"]
        assert waiting.shutdown(timeout_s=GUARD_S) == POWEROFF
        with pytest.raises(ConfigError):
            machine.spawn("guest", "no.such.module:main")
        machine.spawn("destroyed", guests.waits).destroy()
    assert screen.text("guest") == "disk b'sector 0        '\n"
    with pytest.raises(HypervisorGone):
        machine.list()
    watch.check()


def test_an_error_in_a_script_is_raised_as_it_is(watch: Watch, screen: Screen) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine,
    ):
        machine.spawn("waits", guests.waits)
        _ = 1 / 0
    watch.check()


def test_a_script_hears_that_a_machine_of_that_name_runs(
    watch: Watch, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LOCK_PATIENCE_S", 0.0)
    second = open_machine("lab", runtime_dir=watch.runtime_dir, console=screen)
    with (
        open_machine("lab", runtime_dir=watch.runtime_dir, console=screen),
        pytest.raises(MachineError, match="running already"),
    ):
        second.__enter__()


def test_a_script_hears_of_its_hypervisors_death(watch: Watch, screen: Screen) -> None:
    with pytest.raises(HypervisorGone), open_machine("lab", runtime_dir=watch.runtime_dir, console=screen) as machine:
        guest = machine.spawn("waits", guests.waits)
        watch.launched[0].hypervisor.kill()
        guest.wait(GUARD_S)
