"""Laws of `xenlike dev`: it shows what the store says, reloads on save, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner

from tests.system.conftest import GUARD_S, Watch
from xenlike.cli import status
from xenlike.cli.app import app
from xenlike.cli.dev_display import described
from xenlike.cli.dev_session import Session, Wish
from xenlike.cli.new_driver_files import make_package
from xenlike.toolstack.follower import NodeChange
from xenlike.toolstack.paths import machine_names

pytestmark = pytest.mark.system


class Record:
    """A display that remembers, and waits for words."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = trio.Event()

    def _add(self, text: str) -> None:
        self.lines.append(text)
        self._more.set()
        self._more = trio.Event()

    def begin(self, number: int, title: str) -> None:
        self._add(f"begin {number}")

    def changed(self, change: NodeChange) -> None:
        self._add(f"{change.kind} {described(change)}")

    def said(self, domain: str, data: bytes) -> None:
        self._add(f"{domain} | {data.decode()}")

    def counted(self, done: int, failed: int) -> None:
        self._add(f"counted {done > 0} {failed > 0}")

    def error(self, text: str) -> None:
        self._add(f"error {text}")

    def note(self, text: str) -> None:
        self._add(f"note {text}")

    async def wait_for(self, *words: str) -> str:
        """Waits for a line that has all of these words, and forgets it and what came before."""
        with trio.fail_after(GUARD_S):
            while True:
                for number, line in enumerate(self.lines):
                    if all(word in line for word in words):
                        del self.lines[: number + 1]
                        return line
                await self._more.wait()


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime_dir: Path) -> Iterator[Path]:
    """A driver of one's own, and everything that `dev` changes in a process put back."""
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(runtime_dir))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield make_package(tmp_path, "dice", batch=False, c=False)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "dice":
            del sys.modules[name]


def edit(file: Path, old: str, new: str) -> None:
    """Saves a file as many editors do: beside it, and renamed."""
    text = file.read_text()
    assert old in text
    beside = file.with_suffix(".new")
    beside.write_text(text.replace(old, new))
    beside.rename(file)


async def test_the_handshake_is_told_in_its_order(watch: Watch, package: Path, record: Record) -> None:
    assert await Session(Wish(str(package), once=True), record).run()
    front = [line.removeprefix("frontend ") for line in record.lines if line.startswith("frontend ")]
    back = [line.removeprefix("backend ") for line in record.lines if line.startswith("backend ")]
    assert back.index("max-size = 4096") < back.index("InitWait") < back.index("Connected")
    assert front.index("Initialised") < front.index("Connected")
    assert any(line.startswith("ring-ref = ") for line in front[: front.index("Initialised")])
    assert record.lines.index("counted True False") > 0
    assert "it works" in record.lines[-1]


@pytest.mark.parametrize("type", ["echo", "vbd"])
async def test_drivers_that_come_along_are_shown_too(watch: Watch, package: Path, record: Record, type: str) -> None:
    assert await Session(Wish(type, once=True), record).run()


async def test_a_save_starts_both_halves_anew_and_a_broken_one_keeps_them_down(
    watch: Watch, package: Path, record: Record
) -> None:
    backend = package / "dice" / "backend.py"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Wish(str(package)), record).run)
        await record.wait_for("counted True False")
        edit(backend, "request.size > DICEIF_MAX_SIZE", "request.size >= 0")
        await record.wait_for("begin 2")
        await record.wait_for("error RequestFailed", "frontend.py, line")
        edit(backend, "async def handle(", "async def handle((")
        await record.wait_for("frontend is gone")
        line = await record.wait_for("error", "SyntaxError")
        assert "backend.py, line" in line
        await record.wait_for("both halves are down")
        assert machine_names(watch.runtime_dir) == []
        assert len(watch.launched) == 2
        edit(backend, "async def handle((", "async def handle(")
        await record.wait_for("begin 3")
        edit(backend, "request.size >= 0", "request.size > DICEIF_MAX_SIZE")
        await record.wait_for("begin 4")
        await record.wait_for("counted True False")
        nursery.cancel_scope.cancel()


async def test_saves_in_the_middle_of_a_start_are_no_harm(watch: Watch, package: Path) -> None:
    class Hasty(Record):
        def begin(self, number: int, title: str) -> None:
            super().begin(number, title)
            if number < 4:
                session._save(set())

    session = Session(Wish(str(package), once=True), Hasty())
    assert await session.run()
    assert len(watch.launched) == 4


async def test_a_new_message_is_taken_by_both_halves(watch: Watch, package: Path, record: Record) -> None:
    """The protocol belongs to both: nothing of the one before may be left in either process, or in ours."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Wish(str(package)), record).run)
        await record.wait_for("backend max-size = 4096")
        await record.wait_for("counted True False")
        edit(package / "dice" / "protocol.py", "IF_MAX_SIZE: Final = 4096", "IF_MAX_SIZE: Final = 512")
        await record.wait_for("backend max-size = 512")
        await record.wait_for("counted True False")
        nursery.cancel_scope.cancel()


async def test_a_driver_domain_that_is_killed_comes_back(watch: Watch, package: Path, record: Record) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Wish(str(package)), record).run)
        await record.wait_for("counted True False")
        environment = {**os.environ, "XENLIKE_RUNTIME_DIR": str(watch.runtime_dir)}
        command = [sys.executable, "-m", "xenlike.cli", "-m", "dev-dice", "shutdown", "driver", "--reason", "reboot"]
        await trio.run_process(command, env=environment, capture_stdout=True)
        await record.wait_for("backend is gone")
        await record.wait_for("frontend Connected")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("zlib.crc32(bytes", "zlib.crc33(bytes", "AttributeError: module 'zlib' has no attribute 'crc33'"),
        ("status=DICEIF_RSP_OKAY", "status=1", "the backend refused"),
        ('{"max-size": DICEIF_MAX_SIZE}', '{"max-size": 1 << 20}', "max-size"),
    ],
)
async def test_once_ends_at_the_first_fault(
    watch: Watch, package: Path, record: Record, old: str, new: str, said: str
) -> None:
    edit(package / "dice" / "backend.py", old, new)
    assert not await Session(Wish(str(package), once=True), record).run()
    assert any(said in line and ("error" in line) for line in record.lines), record.lines
    assert "it does not work" in record.lines[-1]


async def test_who_is_waited_for_is_told(watch: Watch, package: Path, record: Record) -> None:
    edit(
        package / "dice" / "backend.py",
        "        if request.size > DICEIF_MAX_SIZE:",
        "        import trio\n        await trio.sleep_forever()\n        if request.size > DICEIF_MAX_SIZE:",
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Wish(str(package)), record).run)
        assert "backend d2 has taken 1 request and has not answered" in await record.wait_for("nothing for 3 s")
        nursery.cancel_scope.cancel()


def told(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["dev", *words])
    return result.exit_code, result.output


def test_the_command_prints_lines_where_there_is_no_terminal(watch: Watch, package: Path) -> None:
    code, output = told(str(package), "--once")
    assert code == 0, output
    lines = output.splitlines()
    assert lines[0] == "dice: CRC-32 of granted pages. (machine dev-dice)"
    assert all(" ms " in line for line in lines[1:])
    assert "it works" in lines[-1]


def test_a_driver_that_does_not_import_is_a_sentence(watch: Watch, package: Path) -> None:
    edit(package / "dice" / "frontend.py", "import zlib\n", "import zlib\nimport no_such_module\n")
    code, output = told(str(package))
    assert code == status.USAGE
    assert output.startswith("xenlike: the frontend of 'dice' cannot be imported: ")
    assert "frontend.py, line 11: ModuleNotFoundError: No module named 'no_such_module'" in output
    assert watch.launched == []
    assert told("no-such-type")[0] == status.USAGE


def test_a_driver_without_an_exercise_only_connects(watch: Watch, package: Path) -> None:
    edit(package / "dice" / "protocol.py", '    exercise="dice.frontend:exercise",\n', "")
    code, output = told(str(package), "--once")
    assert code == 0, output
    assert "names no `exercise`, so the guest only connects" in output
    assert "both ends are connected" in output.splitlines()[-1]


def test_for_a_while_is_counted_from_the_start_of_both_halves(watch: Watch, package: Path) -> None:
    code, output = told(str(package), "--for", "0")
    assert code == status.FAILED
    assert "it does not work: 0 operations" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_and_leaves_nothing(package: Path, runtime_dir: Path, number: int) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "xenlike.cli", "dev", str(package)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        _read_until(process.stdout.readline, "1 operation, 0 failed")
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == status.INTERRUPTED, rest
    assert "Traceback" not in rest
    assert list(runtime_dir.rglob("*")) == []


def _read_until(readline: Callable[[], str], words: str) -> None:
    while line := readline():
        if words in line:
            return
    raise AssertionError(f"it ended without {words!r}")
