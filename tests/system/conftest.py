"""Whole machines for tests, and the law that each of them leaves nothing behind."""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from xenlike import Machine, open_machine
from xenlike.toolstack import machine as machine_module
from xenlike.toolstack.launch import Launched, launch
from xenlike.toolstack.paths import MachinePaths, segment_machines

GUARD_S = 30


class Screen:
    """Takes what domains print, and waits for words."""

    def __init__(self) -> None:
        self._said: dict[str, bytes] = {}
        self._more = trio.Event()

    def __call__(self, name: str, data: bytes) -> None:
        self._said[name] = self._said.get(name, b"") + data
        self._more.set()

    def text(self, name: str) -> str:
        return self._said.get(name, b"").decode()

    async def wait_for(self, name: str, words: str) -> None:
        """Waits until a domain has said something."""
        with trio.fail_after(GUARD_S):
            while words not in self.text(name):
                self._more = trio.Event()
                await self._more.wait()


class Watch:
    """What there was before a test, and which machines it started."""

    def __init__(self, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir
        self.launched: list[Launched] = []
        self._descriptors = descriptors()
        self._shared = shared_memory()

    def check(self) -> None:
        """Sees that no process, file or shared memory is left."""
        for launched in self.launched:
            assert launched.hypervisor.poll() is not None, "a hypervisor is still running"
            assert launched.reaper.poll() is not None, "a reaper is still running"
            assert processes_of(launched) == {}, "processes of a machine are still running"
        if self.runtime_dir.exists():
            assert list(self.runtime_dir.rglob("*")) == []
        assert segment_machines(self.runtime_dir) == []
        assert shared_memory() - self._shared == set()

    def check_descriptors(self) -> None:
        """Sees that this process has no descriptor more; not inside an event loop, which has its own."""
        gc.collect()
        assert {fd: at for fd, at in descriptors().items() if self._descriptors.get(fd) != at} == {}


def processes_of(launched: Launched) -> dict[int, str]:
    """The living processes in the session of a machine's hypervisor, and their names."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        state, _, _, session = rest.split()[:4]
        if int(session) == launched.hypervisor.pid and state != "Z":
            found[int(entry)] = name
    return found


def descriptors() -> dict[int, str]:
    """This process's descriptors, and what they are of."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
    return found


def shared_memory() -> set[str]:
    """Names of ours there; benchmarks and demo put their images there while they run, which may be now.

    So may other machines, whose segments are told from those of a test's own by `segment_machines`.
    """
    others = re.compile(r"bench|demo|^xenlike-\d+-[0-9a-f]{8}-")
    return {name for name in os.listdir("/dev/shm") if "xenlike" in name and not others.search(name)}


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A folder for machines, with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="xl-"))
    yield folder / "run"
    shutil.rmtree(folder)


@pytest.fixture
def watch(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Fails the test if a machine that was started in it left anything behind."""
    gc.collect()
    watch = Watch(runtime_dir)

    def recorded(paths: MachinePaths, lock: int, store_domid: int) -> Launched:
        launched = launch(paths, lock, store_domid)
        watch.launched.append(launched)
        return launched

    monkeypatch.setattr(machine_module, "launch", recorded)
    yield watch
    watch.check()
    watch.check_descriptors()


@pytest.fixture
def screen() -> Screen:
    """What the machine's domains print."""
    return Screen()


@pytest.fixture
async def machine(watch: Watch, screen: Screen) -> AsyncIterator[Machine]:
    """A machine of its own for every test."""
    name = f"test-{os.getpid()}"
    async with open_machine(name, runtime_dir=watch.runtime_dir, console=screen) as machine:
        yield machine


async def store_tree(machine: Machine, path: str = "/") -> dict[str, str]:
    """All nodes of a machine's store, and their values."""
    store = machine.domain0.store
    paths = [f"{path.rstrip('/')}/{child}" for child in await store.ls(path)]
    nodes = {node: value or "" for node, value in zip(paths, await store.read_many(paths), strict=True)}
    for node in paths:
        nodes |= await store_tree(machine, node)
    return nodes
