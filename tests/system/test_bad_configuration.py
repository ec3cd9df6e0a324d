"""Nothing is half-started: what is wrong with a domain or a device is said clearly, and then nothing of it is there."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.system import guests
from tests.system.conftest import GUARD_S, Screen, descriptors, processes_of, store_tree
from xenlike import Device, Disk, Exec, Machine, open_machine
from xenlike.abi.driver import Driver
from xenlike.errors import ConfigError, MachineError, NoSuchDevice, NoSuchDomain
from xenlike.io.echo import DRIVER, ECHO
from xenlike.toolstack.paths import SHM

pytestmark = pytest.mark.system


class Unchanged:
    """What there is of a machine, from every side."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def look(self) -> dict[str, Any]:
        return {
            "nodes": await store_tree(self._machine),
            "domains": [(info.domid, info.name, info.state, info.devices) for info in await self._machine.list()],
            "names": list(self._machine.domains),
            # The zygote keeps one ready for the next domain.
            "processes": {
                pid: name for pid, name in processes_of(self._machine._launched).items() if name != "xl-spare"
            },
            "descriptors": descriptors(),
            "descriptors of the hypervisor": open_in(self._machine._launched.hypervisor.pid),
            "descriptors of drivers": [open_in(guest.pid) for guest in self._machine.domains.values()],
        }


def open_in(pid: int | None) -> int | None:
    """How many descriptors a process has; None for who may not look."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


@asynccontextmanager
async def nothing_started(machine: Machine) -> AsyncIterator[None]:
    """Sees that the block changes nothing of the machine."""
    everything = Unchanged(machine)
    with trio.fail_after(GUARD_S):
        # Until the zygote has one ready, and the last birth is in the statistics, the machine still changes by itself.
        segment = SHM / machine.paths.segment[1:]
        while "xl-spare" not in processes_of(machine._launched).values() or not segment.exists():
            await trio.lowlevel.checkpoint()
    before = await everything.look()
    yield
    with trio.fail_after(GUARD_S):
        # Whoever asked has his answer; the killed process of an undone start may take a moment more.
        while (after := await everything.look()) != before:
            new = {path: value for path, value in after["nodes"].items() if path not in before["nodes"]}
            assert new == {}, machine.console.tail("storage").decode()
            assert after["names"] == before["names"]
            await trio.lowlevel.checkpoint()


@pytest.fixture
async def lab(machine: Machine, screen: Screen) -> Machine:
    """A machine with a driver domain for disks, one that serves nothing, and one with a disk."""
    await machine.spawn("storage", backends=["vbd"])
    await machine.spawn("idle", guests.waits)
    await screen.wait_for("idle", "ready")
    return machine


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    return str(path)


def wrong_devices(folder: Path, image: str) -> Iterator[tuple[Callable[[], list[Disk | Device]], str]]:
    """Ways to describe devices wrongly, and words of what is said of each."""
    (folder / "empty.img").touch()
    (folder / "odd.img").write_bytes(bytes(1000))
    os.mkfifo(folder / "fifo.img")
    yield lambda: [Disk(str(folder / "none.img"))], "none.img of disk xvda does not exist"
    yield lambda: [Disk(str(folder))], "neither a file nor|cannot be read and written"
    yield lambda: [Disk(str(folder / "fifo.img"), access="ro")], "neither a file nor a block device"
    yield lambda: [Disk(str(folder / "empty.img"))], "0 bytes, which is not one or more whole sectors"
    yield lambda: [Disk(str(folder / "odd.img"))], "1000 bytes, which is not one or more whole sectors"
    yield lambda: [Disk(image), Disk(str(folder / "none.img"), vdev="xvdb", backend="storage")], "does not exist"
    yield lambda: [Disk(image, format="qcow3")], "'qcow3' is not known"
    yield lambda: [Disk(image, access="rx")], "'rx' is not known"
    yield lambda: [Disk(image, vdev="sdzzzz9")], "sdzzzz9"
    yield lambda: [Disk("")], "no path"
    yield lambda: [Disk(image), Disk(image)], "two devices named xvda"
    yield lambda: [Disk(image), Disk(image, vdev="51712", backend="storage")], "two devices named xvda"
    yield lambda: [Disk(image, backend="nobody")], "backend 'nobody', and no domain of that name is running"
    yield lambda: [Disk(image, backend="77")], "backend '77', and no domain"
    yield lambda: [Disk(image, backend="idle")], r"domain 'idle' does not serve 'vbd': start it with backends=\['vbd'\]"
    yield lambda: [Disk(image, backend="guest")], "backend 'guest', and no domain|cannot serve itself"
    yield (
        lambda: [Device("teleporter")],
        "'teleporter', and no such driver is installed; there are echo, kv, rng, sensor, vbd",
    )
    yield lambda: [Device("Echo")], "'Echo' is none"
    yield lambda: [Device("echo", backend="storage")], "'storage' does not serve 'echo'"
    yield lambda: [Device("echo", -1)], "-1 is not in"
    yield lambda: [Device("echo", nodes={"state": 4})], "'state' belongs to xenbus"
    yield lambda: [Device("echo"), Device("echo")], "two devices named echo/0"
    other = Driver("echo", ECHO, "my.front:Front", "my.back:Back")
    yield lambda: [Device("echo", driver=DRIVER), Device("echo", 1, driver=other)], "two drivers for .* 'echo'"


WRONG_WORDS: list[tuple[dict[str, Any], str]] = [
    ({"memory": "many"}, "'many' is not a size"),
    ({"memory": 0}, "more than nothing"),
    ({"memory": -4096}, "more than nothing"),
    ({"memory": 5000}, "whole number of pages"),
    ({"memory": "100T"}, "100T|104857600 MiB"),
    ({"memory": 1 << 62}, "MiB"),
    (
        {"backends": ["teleporter"]},
        "serve 'teleporter', and no such driver is installed; there are echo, kv, rng, sensor, vbd",
    ),
    ({"entry": "guests"}, "write package.module:function or path/file.py:function"),
    ({"entry": "no.such.module:main"}, "no module no.such.module"),
    ({"entry": "no/such/file.py:main"}, "no file no/such/file.py"),
    ({"entry": ":main"}, "write package.module:function"),
    ({"entry": lambda domain: None}, "is local"),
    ({"entry": Exec(["no-such-program"])}, "no-such-program, is not executable"),
    ({"entry": Exec(["/etc/passwd"])}, "/etc/passwd, is not executable"),
    ({"entry": Exec([])}, "nothing, is not executable"),
    ({"args": [{1, 2}]}, "args of 'guest'"),
    ({"on_crash": "panic"}, "on_crash='panic' of 'guest' is none of destroy, restart, preserve"),
    ({"on_reboot": ""}, "on_reboot='' of 'guest'"),
    ({"name": ""}, "no name for a domain"),
    ({"name": "two words"}, "no name for a domain"),
    ({"name": "x" * 64}, "no name for a domain"),
    ({"name": "storage"}, "a domain named 'storage' already"),
]


async def test_a_domain_that_is_described_wrongly_is_not_started(
    lab: Machine, tmp_path: Path, image: str, screen: Screen
) -> None:
    async with nothing_started(lab):
        for words, said in WRONG_WORDS:
            arguments: dict[str, Any] = {"name": "guest", "entry": guests.returns} | words
            with pytest.raises(ConfigError, match=said):
                await lab.spawn(**arguments)
        for devices, said in wrong_devices(tmp_path, image):
            with pytest.raises(ConfigError, match=said):
                await lab.spawn("guest", guests.returns, devices=devices())
    assert screen.text("guest") == ""
    guest = await lab.spawn("guest", guests.reads, args=[0, 512], devices=[Disk(image, backend="storage")])
    with trio.fail_after(GUARD_S):
        assert (await guest.wait()).ok


async def test_a_device_that_is_described_wrongly_is_not_plugged_in(
    lab: Machine, tmp_path: Path, image: str, screen: Screen
) -> None:
    async with nothing_started(lab):
        for devices, said in wrong_devices(tmp_path, image):
            if said.startswith("two "):
                continue
            with pytest.raises(ConfigError, match=said):
                for device in reversed(devices()):
                    await lab.attach("idle", device)
        stranger = Driver("echo", ECHO, "my.front:Front", "my.back:Back")
        with pytest.raises(ConfigError, match=r"'idle' was not started with .*my.front:Front.*drivers="):
            await lab.attach("idle", Device("echo", driver=stranger))
        with pytest.raises(NoSuchDomain, match="no domain 'nobody'; it has storage, idle"):
            await lab.attach("nobody", Disk(image))
        with pytest.raises(NoSuchDevice, match="no device 'xvda'; it has none"):
            await lab.detach("idle", "xvda")
    await lab.attach("idle", Disk(image, backend="storage"))
    async with nothing_started(lab):
        with pytest.raises(ConfigError, match="has a device xvda already"):
            await lab.attach("idle", Disk(image))


async def test_an_entry_that_is_found_out_only_by_its_domain_is_told_on_its_console(
    lab: Machine, screen: Screen
) -> None:
    async with nothing_started(lab):
        for name, entry, said in [
            ("attribute", "tests.system.guests:nothing", "tests.system.guests has no 'nothing'"),
            ("thing", "tests.system.guests:os", "no function but <module 'os'"),
        ]:
            guest = await lab.spawn(name, entry)
            with trio.fail_after(GUARD_S):
                assert (await guest.wait()).reason == "crash"
            assert said in screen.text(name)
            assert "Traceback" not in screen.text(name)


@pytest.mark.parametrize("name", ["", "two words", "-x", "x" * 64, "../lab"])
async def test_a_machine_with_no_name_is_not_started(watch, screen: Screen, name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a machine"):
        async with open_machine(name, runtime_dir=watch.runtime_dir, console=screen):
            pytest.fail("it runs")
    assert not watch.launched


async def test_a_machine_in_a_folder_that_cannot_be_is_not_started(watch, screen: Screen, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    (tmp_path / "file").touch()
    for folder, kind, said in [
        (deep, ConfigError, "too long a path for sockets"),
        (tmp_path / "file", ConfigError, "not a folder of ours"),
    ]:
        with pytest.raises(kind, match=said):
            async with open_machine("lab", runtime_dir=folder, console=screen):
                pytest.fail("it runs")
    assert not watch.launched


# -- not enough of something ----------------------------------------------------------------------------------------


@contextmanager
def descriptor_limit(pid: int, limit: int) -> Iterator[None]:
    """Lets a process have no descriptor numbered `limit` or higher."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


async def with_more_and_more_descriptors(
    machine: Machine, pid: int, start: Callable[[], Awaitable[None]], step: int
) -> tuple[int, int]:
    """Tries to start something under ever higher limits until it works; returns how often it failed and worked."""
    taken = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
    failed = 0
    async with nothing_started(machine):
        for limit in range(min_free(pid), taken + 40, step):
            try:
                with descriptor_limit(pid, limit), trio.fail_after(GUARD_S):
                    await start()
                return failed, 1
            except OSError as error:
                if error.errno != errno.EMFILE:
                    raise
                failed += 1
    return failed, 0


def min_free(pid: int) -> int:
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    return next(number for number in range(1 << 20) if number not in taken)


@pytest.mark.parametrize("whose", ["toolstack", "hypervisor"])
async def test_without_descriptors_nothing_is_half_started(
    machine: Machine, screen: Screen, image: str, whose: str
) -> None:
    pid = os.getpid() if whose == "toolstack" else machine._launched.hypervisor.pid
    if not os.access(f"/proc/{pid}/fd", os.R_OK):
        pytest.skip("only root may look at a process that is not dumpable")

    async def spawn() -> None:
        guest = await machine.spawn("guest", guests.waits, devices=[Disk(image)])
        await guest.destroy()

    async def adopt() -> None:
        guest, sock = await machine.adopt("adopted", devices=[Disk(image)])
        sock.close()
        await guest.wait()

    # The first device of a kind makes a directory for its kind, which stays.
    await spawn()
    for start, step in ((spawn, 1), (adopt, 3)):
        failed, worked = await with_more_and_more_descriptors(machine, pid, start, step)
        assert failed
        assert worked


async def test_a_start_that_is_cancelled_leaves_nothing(lab: Machine, image: str, screen: Screen) -> None:
    """At its first checkpoint, and at ever later ones."""
    devices: list[Disk | Device] = [Disk(image, backend="storage"), Disk(image, vdev="xvdb"), Device("echo")]
    # The first device of a kind makes a directory for its kind, which stays.
    await (await lab.spawn("guest", guests.waits, devices=devices)).destroy()
    started = False
    checkpoints = 0

    async def start(scope: trio.CancelScope) -> None:
        nonlocal started
        with scope:
            guest = await lab.spawn("guest", guests.waits, devices=devices)
            started = True
            with trio.CancelScope(shield=True):  # the cancellation may come after the start's last checkpoint
                await guest.destroy()

    async with nothing_started(lab):
        while not started:
            checkpoints += 1 + checkpoints // 4
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(start, scope)
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                if not started:
                    scope.cancel()
            assert "guest" not in lab.domains
            assert screen.text("storage") == ""


async def test_a_backend_that_died_is_no_backend(lab: Machine, image: str) -> None:
    storage = lab.find("storage")
    with trio.fail_after(GUARD_S):
        await storage.destroy()
    async with nothing_started(lab):
        with pytest.raises((ConfigError, MachineError), match="'storage', and no domain of that name is running"):
            await lab.spawn("guest", guests.returns, devices=[Disk(image, backend="storage")])
