"""Statistics of real machines: numbers add up, names are gone after every end, and nobody pays for not looking."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from tests.faults import leftovers
from tests.system.conftest import GUARD_S, Screen, Watch
from xenlike import Device, Machine, open_machine
from xenlike.domain.domain import Domain
from xenlike.toolstack.launch import remove_stale
from xenlike.toolstack.paths import SHM, MachinePaths, segment_machines
from xenlike.toolstack.statistics import DomainStatistics, Snapshot, fresh, read

T = TypeVar("T")
REQUESTS = 500
HERE = "tests.system.test_statistics"


async def works(domain: Domain, requests: int) -> None:
    from xenlike.frontends.echo import EchoFront

    echo = await domain.device("echo", kind=EchoFront)
    for _ in range(requests):
        assert await echo.upper(b"text") == b"TEXT"
    print("done", flush=True)
    await trio.sleep_forever()


async def look(machine: Machine) -> Snapshot:
    with trio.fail_after(GUARD_S):
        snapshot, is_fresh = await fresh(machine.name, machine.paths.folder.parent, patience_s=GUARD_S)
    assert is_fresh
    return snapshot


def named(snapshot: Snapshot, name: str) -> DomainStatistics:
    return next(domain for domain in snapshot.domains if domain.name == name)


async def until(look: Callable[[], T], is_so: Callable[[T], bool]) -> T:
    """Looks until it is so: nobody tells of a snapshot."""
    while not is_so(found := look()):  # noqa: ASYNC110
        await trio.sleep(0.005)
    return found


async def start_echo(machine: Machine, screen: Screen) -> None:
    await machine.spawn("driver", backends=["echo"], memory="8M")
    devices = [Device("echo", backend="driver")]
    await machine.spawn("guest", f"{HERE}:works", devices=devices, args=[REQUESTS], memory="8M")
    await screen.wait_for("guest", "done")


async def test_what_both_ends_of_a_ring_count_adds_up(machine: Machine, screen: Screen) -> None:
    await start_echo(machine, screen)
    snapshot = await look(machine)
    [front], [back] = named(snapshot, "guest").queues, named(snapshot, "driver").queues
    assert (front.name, front.side, back.side) == ("device/echo/0", "front", "back")
    assert front.requests == front.responses == back.requests == back.responses == REQUESTS
    assert (front.in_flight, back.in_flight, front.slots) == (0, 0, back.slots)
    for end, other in ((front, back), (back, front)):
        assert 0 < end.notifications <= end.kicks <= REQUESTS
        # Who sleeps was notified, or saw it in time.
        assert end.sleeps <= other.notifications + end.spurious + 1
        assert end.broken == ""


async def test_memory_ports_and_processes_are_those_of_the_machine(machine: Machine, screen: Screen) -> None:
    await start_echo(machine, screen)
    snapshot = await look(machine)
    listed = {info.domid: info for info in await machine.list()}
    assert [domain.domid for domain in snapshot.domains] == sorted(listed)
    for domain in snapshot.domains:
        info = listed[domain.domid]
        assert (domain.name, domain.state, domain.pid, domain.ram) == (info.name, info.state, info.pid, info.memory)
        assert 0 < domain.ram_used <= domain.ram
        assert domain.pool_used <= domain.pool
        assert domain.cpu_s > 0
    guest, driver = named(snapshot, "guest"), named(snapshot, "driver")
    # A ring and eight pages; the store's and the console's belong to others.
    assert driver.foreign_pages == 9
    assert guest.mapped_pages == 11
    assert machine.domain0.start_info.hypervisor_pid == snapshot.hypervisor_pid


async def test_an_idle_machine_publishes_nothing_and_a_lease_ends(machine: Machine, screen: Screen) -> None:
    root = machine.paths.folder.parent
    await start_echo(machine, screen)
    before = await look(machine)
    # What the hypervisor does is answer hypercalls: it would have published in between.
    for _ in range(200):
        machine.hypercalls.domain_infos()
    assert read(machine.name, root).sequence <= before.sequence + 1
    machine.publish(20, 200)
    with trio.fail_after(GUARD_S):
        last = await until(lambda: read(machine.name, root), lambda found: found.sequence >= before.sequence + 4)
        assert last.period_s == 0.02
        # The lease has ended when a snapshot that was asked for alone says that nobody wants others.
        while (await look(machine)).period_s:
            pass


async def test_deaths_and_births_are_published_unasked(machine: Machine, screen: Screen) -> None:
    root = machine.paths.folder.parent
    guest = await machine.spawn("mortal", "tests.system.guests:waits", memory="8M")
    await screen.wait_for("mortal", "ready")
    with trio.fail_after(GUARD_S):
        await until(lambda: running(machine.name, root), lambda names: "mortal" in names)
        await guest.destroy()
        await until(lambda: running(machine.name, root), lambda names: "mortal" not in names)


def running(name: str, root: Path) -> list[str]:
    try:
        return [domain.name for domain in read(name, root).domains if domain.state == "running"]
    except FileNotFoundError:
        return []


# Names.


async def test_the_name_is_gone_after_an_orderly_end(watch: Watch, screen: Screen) -> None:
    async with open_machine("orderly", runtime_dir=watch.runtime_dir, console=screen) as machine:
        await look(machine)
        assert segment_machines(watch.runtime_dir) == ["orderly"]
    assert segment_machines(watch.runtime_dir) == []


@contextmanager
def caller(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a machine, which says so when it has published."""
    program = f"""
import sys, trio
from xenlike import open_machine
from xenlike.toolstack.statistics import fresh
async def main():
    async with open_machine("mortal", runtime_dir={str(root)!r}) as machine:
        await fresh("mortal", {str(root)!r}, patience_s=30)
        print(machine.domain0.start_info.hypervisor_pid, machine._launched.reaper.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("victims", ["caller", "hypervisor", "hypervisor caller"])
async def test_the_name_is_gone_after_a_kill(runtime_dir: Path, victims: str) -> None:
    with caller(runtime_dir) as process:
        assert process.stdout is not None
        hypervisor, _ = map(int, (await trio.to_thread.run_sync(process.stdout.readline)).split())
        assert leftovers.names_below(runtime_dir)[-1] == "mortal (segment)"
        for victim in victims.split():
            os.kill({"caller": process.pid, "hypervisor": hypervisor}[victim], signal.SIGKILL)
        await leftovers.nothing(lambda: leftovers.names_below(runtime_dir))


@pytest.mark.parametrize("folder", ["stays", "goes"])
async def test_what_nobody_is_left_to_remove_the_next_start_does(runtime_dir: Path, folder: str) -> None:
    with caller(runtime_dir) as process:
        assert process.stdout is not None
        hypervisor, reaper = map(int, (await trio.to_thread.run_sync(process.stdout.readline)).split())
        for pid in (reaper, process.pid, hypervisor):
            os.kill(pid, signal.SIGKILL)
        await leftovers.nothing(lambda: leftovers.living(leftovers.of_session(hypervisor)))
    assert segment_machines(runtime_dir) == ["mortal"]
    if folder == "goes":
        shutil.rmtree(runtime_dir / "mortal")
    assert remove_stale(runtime_dir) == ["mortal"]
    assert leftovers.names_below(runtime_dir) == []


async def test_a_folder_that_was_removed_does_not_keep_the_reaper_from_the_segment(runtime_dir: Path) -> None:
    with caller(runtime_dir) as process:
        assert process.stdout is not None
        hypervisor, _ = map(int, (await trio.to_thread.run_sync(process.stdout.readline)).split())
        shutil.rmtree(runtime_dir / "mortal")
        os.kill(process.pid, signal.SIGKILL)
        os.kill(hypervisor, signal.SIGKILL)
        await leftovers.nothing(lambda: segment_machines(runtime_dir))


def test_the_next_machine_of_a_name_has_a_segment_of_its_own(runtime_dir: Path) -> None:
    paths = MachinePaths.of("again", runtime_dir)
    stale = SHM / paths.segment[1:]
    stale.write_bytes(b"left behind")

    async def main() -> None:
        async with open_machine("again", runtime_dir=runtime_dir, console=Screen()) as machine:
            assert len((await look(machine)).domains) == 2

    trio.run(main)
    assert not stale.exists()


# The commands.


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "xenlike.cli", *words]


async def run(machine: Machine, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "XENLIKE_RUNTIME_DIR": str(machine.paths.folder.parent)}
    return await trio.run_process(
        command("-m", machine.name, *words), capture_stdout=True, capture_stderr=True, check=False, env=environment
    )


async def test_stats_and_top_show_the_machine(machine: Machine, screen: Screen) -> None:
    await start_echo(machine, screen)
    done = await run(machine, "stats", "--json")
    found = json.loads(done.stdout)
    assert (found["machine"], found["fresh"]) == (machine.name, True)
    assert [domain["name"] for domain in found["domains"]] == ["Domain-0", "xenstored", "driver", "guest"]
    assert found["domains"][3]["queues"][0]["requests"] == REQUESTS
    only = json.loads((await run(machine, "stats", "guest", "--json")).stdout)
    assert only["domains"] == [found["domains"][3] | {"cpu_s": only["domains"][0]["cpu_s"]}]
    table = (await run(machine, "stats")).stdout.decode()
    assert f" {REQUESTS} " in table
    assert "device/echo/0" in table
    top = (await run(machine, "top", "--once", "--devices", "--period", "0.2")).stdout.decode()
    assert [line.split()[0] for line in top.splitlines()[2:]].count("echo/0") == 1
    nobody = await run(machine, "stats", "nobody")
    assert (nobody.returncode, b"has no domain 'nobody'" in nobody.stderr) == (3, True)


async def test_top_ends_by_q_and_leaves_the_terminal_as_it_was(machine: Machine) -> None:
    environment = {**os.environ, "XENLIKE_RUNTIME_DIR": str(machine.paths.folder.parent), "TERM": "xterm"}
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    words = command("-m", machine.name, "top", "-p", "0.2")
    process = await trio.lowlevel.open_process(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    try:
        shown = b""
        with trio.fail_after(GUARD_S):
            while b"xenstored" not in shown:
                await trio.lowlevel.wait_readable(ours)
                shown += os.read(ours, 65536)
            os.write(ours, b"dmq")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drain, ours)
                assert await process.wait() == 0
                nursery.cancel_scope.cancel()
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        await process.wait()
        os.close(ours)
        os.close(theirs)


async def _drain(fd: int) -> None:
    while True:
        await trio.lowlevel.wait_readable(fd)
        os.read(fd, 65536)


async def test_prometheus_is_served_until_an_interrupt(machine: Machine, screen: Screen) -> None:
    await start_echo(machine, screen)
    environment = {**os.environ, "XENLIKE_RUNTIME_DIR": str(machine.paths.folder.parent)}
    words = command("-m", machine.name, "stats", "--prometheus", "0")
    process = await trio.lowlevel.open_process(words, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        said = b""
        with trio.fail_after(GUARD_S):
            while not said.endswith(b"/metrics\n"):
                said += await process.stdout.receive_some()
            url = said.decode().split()[-1]
            assert url.startswith("http://127.0.0.1:")

            def scrape() -> str:
                with urllib.request.urlopen(url) as answer:
                    text: str = answer.read().decode()
                    return text

            text = await trio.to_thread.run_sync(scrape)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 130
    finally:
        process.kill()
        await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()
    assert f'xenlike_up{{machine="{machine.name}"}} 1.0' in text
    assert (
        f'device="device/echo/0",domain="guest",domid="3",machine="{machine.name}",queue="1",side="front"}} 500.0'
        in text
    )
