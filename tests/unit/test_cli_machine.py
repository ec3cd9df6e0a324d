"""The command with real machines: up, down and all between; the demo; and that an interrupt leaves nothing behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from xenlike.cli.running import orderly_end
from xenlike.toolstack.doctor import find_tool
from xenlike.toolstack.paths import segment_machines

pytestmark = pytest.mark.system
TIMEOUT_S = 60

MACHINE = """
[machine]
name = "lab"

[[domain]]
name = "storage"
backends = ["vbd"]

[[domain]]
name = "guest"
entry = "guest.py:main"
args = ["{job}"]
"""

GUEST = """
import trio

async def main(domain, job):
    print("started", flush=True)
    if job == "crash":
        raise RuntimeError("as asked")
    if job == "wait":
        await trio.sleep_forever()
    if job == "disk":
        disk = await domain.disk("xvdb")
        print("disk", disk.size, disk.readonly, flush=True)
        await trio.sleep_forever()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("XENLIKE_MACHINE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guest.py").write_text(GUEST)
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    return tmp_path


def machine_file(folder: Path, job: str) -> str:
    (folder / "lab.toml").write_text(MACHINE.format(job=job))
    return str(folder / "lab.toml")


def xenlike(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xenlike.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)


def domains() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(xenlike("list", "--json").stdout)
    return listed


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xenlike.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)


def descendants(pid: int) -> dict[int, int]:
    """Returns all processes below one, as pidfds by pid."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: os.pidfd_open(child) for child in found - {pid}}


def assert_nothing_is_left(folder: Path, processes: dict[int, int] | None = None) -> None:
    """A reaper may need a moment after its machine."""
    for pid, pidfd in (processes or {}).items():
        with open(pidfd, "rb"):
            assert select.select([pidfd], [], [], 2)[0], f"process {pid} is left"
    assert not list((folder / "run").glob("*"))
    assert segment_machines(folder / "run") == []


def test_up_ends_with_its_guests(folder: Path) -> None:
    done = xenlike("up", machine_file(folder, "return"))
    assert (done.returncode, done.stdout) == (0, "guest | started\n"), done.stderr
    assert_nothing_is_left(folder)


def test_a_crash_of_a_guest_is_status_1_with_its_traceback(folder: Path) -> None:
    done = xenlike("up", machine_file(folder, "crash"))
    assert done.returncode == 1
    assert "guest | RuntimeError: as asked" in done.stdout
    assert "guest ended: crash" in done.stderr
    assert_nothing_is_left(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_up_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with start("up", machine_file(folder, "wait")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "guest | started\n"
        processes = descendants(process.pid)
        assert len(processes) >= 4  # hypervisor and reaper, two domains
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (130, "")
    assert_nothing_is_left(folder, processes)


def test_a_detached_machine_lives_until_down(folder: Path) -> None:
    done = xenlike("up", "-d", machine_file(folder, "disk"))
    assert done.returncode == 0, done.stderr
    try:
        [toolstack] = {domain["pid"] for domain in domains() if domain["domid"] == 0}
        processes = {toolstack: os.pidfd_open(toolstack), **descendants(toolstack)}
        again = xenlike("up", "-d", str(folder / "lab.toml"))
        assert again.returncode == 1
        assert "running already" in again.stderr
        done = xenlike("block-attach", "guest", "disk.img,raw,xvdb,ro,backend=storage")
        assert done.returncode == 0, done.stderr
        with start("-m", "lab", "console", "guest") as console:
            assert console.stdout is not None
            assert console.stdout.readline() == "started\n"
            assert console.stdout.readline() == "disk 1048576 True\n"
            console.terminate()
            console.communicate(timeout=TIMEOUT_S)
        [guest] = [domain for domain in domains() if domain["name"] == "guest"]
        assert guest["devices"] == ["xvdb"]
        twice = xenlike("block-attach", "guest", "disk.img,raw,xvdb,ro,backend=storage")
        assert twice.returncode == 2
        assert xenlike("block-detach", "guest", "xvdb").returncode == 0
        assert xenlike("block-detach", "guest", "xvdb").returncode == 3
        assert xenlike("shutdown", "guest").stdout == "guest: poweroff\n"
        assert [domain["name"] for domain in domains()] == ["Domain-0", "xenstored", "storage"]
    finally:
        down = xenlike("down")
    assert down.returncode == 0, down.stderr
    assert_nothing_is_left(folder, processes)


def test_a_detached_machine_that_cannot_start_says_why(folder: Path) -> None:
    (folder / "lab.toml").write_text('[[domain]]\nname = "a"\nbackends = ["echo"]\nmemory = "1000000G"\n')
    done = xenlike("up", "-d", str(folder / "lab.toml"))
    assert done.returncode in (1, 2)
    assert "memory" in done.stderr
    assert_nothing_is_left(folder)


needs_e2fsprogs = pytest.mark.skipif(
    find_tool("mke2fs") is None or find_tool("e2fsck") is None, reason="needs mke2fs and e2fsck (Debian: e2fsprogs)"
)


@needs_e2fsprogs
def test_the_demo_does_its_job(folder: Path) -> None:
    done = xenlike("demo", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["good"]
    assert (found["files"], found["files_different"]) == (150, [])
    assert found["recovery_ms"] > 0
    assert found["requests"] > 150
    assert [domain["name"] for domain in found["domains"]] == ["Domain-0", "xenstored", "storage", "guest"]
    assert_nothing_is_left(folder)


@needs_e2fsprogs
def test_the_demo_takes_files_of_ones_own(folder: Path) -> None:
    (folder / "own").mkdir()
    (folder / "own" / "a file").write_bytes(os.urandom(70_000))
    found = json.loads(xenlike("demo", "--json", "--from", "own").stdout)
    assert (found["good"], found["files"], found["bytes_written"]) == (True, 1, 70_000)


@needs_e2fsprogs
def test_an_interrupt_of_the_demo_leaves_nothing(folder: Path) -> None:
    before = set(Path("/dev/shm").glob("xenlike-demo-*"))
    with start("demo") as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("frontend"):
            assert line
        processes = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert set(Path("/dev/shm").glob("xenlike-demo-*")) <= before
    assert_nothing_is_left(folder, processes)


def test_sigterm_does_not_end_what_trio_protects_in_its_middle() -> None:
    steps = []

    @trio.lowlevel.enable_ki_protection
    def protected() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append("went on")

    async def main() -> None:
        protected()
        await trio.sleep(60)

    with pytest.raises(KeyboardInterrupt), orderly_end():
        trio.run(main)
    assert steps == ["went on"]
