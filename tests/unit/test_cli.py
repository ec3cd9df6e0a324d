"""The command line: what it prints, what it asks a machine for, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.fake_machine import FakeMachine, served
from xenlike.cli import status
from xenlike.cli.app import app
from xenlike.errors import ConfigError, MachineError, NoSuchMachine
from xenlike.toolstack.devices import Disk

COMMANDS = [
    *("demo", "doctor", "up", "down", "list", "console", "shutdown", "destroy"),
    *("block-attach", "block-detach", "xenstored", "bench"),
]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "run"
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(root))
    monkeypatch.delenv("XENLIKE_MACHINE", raising=False)
    return root


@pytest.fixture
def machine(root: Path) -> Iterator[FakeMachine]:
    with served("lab", root) as machine:
        yield machine


def run(*words: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, words, input=input)


# --- help ---


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"xenlike {command}" in result.output.replace("root", "xenlike") or command in result.output


def test_no_command_shows_the_help_and_is_wrong_usage() -> None:
    assert run().exit_code == 2
    assert run("no-such-command").exit_code == 2
    assert run("up").exit_code == 2
    assert run("shutdown", "a", "--reason", "because").exit_code == 2


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert run("--version").output.strip() == f"xenlike {version('xenlike')}"


def test_help_loads_neither_trio_nor_the_core() -> None:
    """Completion and `--help` answer at once only as long as nothing heavy is imported for them."""
    code = (
        "import sys\nsys.argv = ['xenlike', '--version']\nimport xenlike.cli\n"
        "try:\n    xenlike.cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'trio', 'msgspec', 'numpy', 'xenlike._core', 'xenlike.toolstack.machine'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# --- which machine ---


def test_without_a_machine_the_status_says_so() -> None:
    result = run("list")
    assert (result.exit_code, result.output) == (0, "no machine is running\n")
    assert json.loads(run("list", "--json").output) == []
    for words in (["-m", "lab", "list"], ["down"], ["destroy", "guest"], ["-m", "lab", "console", "guest"]):
        result = run(*words)
        assert result.exit_code == 3, result.output
        assert "xenlike: no machine" in result.output


def test_the_only_machine_need_not_be_named(machine: FakeMachine) -> None:
    assert run("destroy", "guest").exit_code == 0
    assert machine.guest.destroyed


def test_of_several_machines_one_must_be_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served("lab", root) as lab, served("other", root) as other:
        result = run("destroy", "guest")
        assert result.exit_code == 2
        assert "lab, other" in result.output
        assert run("-m", "other", "destroy", "guest").exit_code == 0
        assert (lab.guest.destroyed, other.guest.destroyed) == (False, True)
        monkeypatch.setenv("XENLIKE_MACHINE", "lab")
        assert run("destroy", "guest").exit_code == 0
        assert lab.guest.destroyed
        monkeypatch.delenv("XENLIKE_MACHINE")
        names = [line.split()[0] for line in run("list").output.splitlines()]
        assert names == ["machine", "lab", "other"]


# --- domains ---


def test_list_is_a_table_or_json(machine: FakeMachine) -> None:
    table = run("list").output
    assert "guest" in table
    assert "64M" in table
    [domain] = json.loads(run("list", "--json").output)
    assert domain["machine"] == "lab"
    assert (domain["name"], domain["domid"], domain["memory"]) == ("guest", 3, 64 << 20)


def test_shutdown_says_how_it_ended(machine: FakeMachine) -> None:
    assert run("shutdown", "guest").output == "guest: poweroff\n"
    assert json.loads(run("shutdown", "3", "--reason", "reboot", "--json").output)["reason"] == "reboot"
    late = run("shutdown", "guest", "--timeout", "0")
    assert late.exit_code == 1
    assert "did not shut down" in late.output


def test_a_domain_that_is_not_there_is_status_3(machine: FakeMachine) -> None:
    for command in (["shutdown", "nobody"], ["destroy", "nobody"], ["console", "nobody"]):
        result = run(*command)
        assert result.exit_code == 3
        assert "no domain 'nobody'; there are: guest" in result.output


def test_the_console_shows_what_was_said(machine: FakeMachine) -> None:
    machine.log.feed("guest", b"hello\n")
    assert run("console", "guest", "--no-follow").output == "hello\n"


def test_down_returns_when_the_machine_is_gone(machine: FakeMachine, root: Path) -> None:
    assert run("down").exit_code == 0
    assert not (root / "lab").exists()


# --- disks ---


def test_a_disk_is_attached_with_its_path_made_absolute(
    machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(4096))
    monkeypatch.chdir(tmp_path)
    assert run("block-attach", "guest", "disk.img,raw,xvdb,ro,backend=storage").exit_code == 0
    assert machine.attached == [("guest", Disk(f"{tmp_path}/disk.img", "raw", "xvdb", "ro", "storage"))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["block-attach", "guest", "none.img,raw,xvdb"], "does not exist"),
        (["block-attach", "guest", "/dev/null,raw,xvdb"], "neither a file nor a block device"),
        (["block-attach", "guest", "x,raw,yda"], "'yda'"),
        (["block-detach", "guest", "yda"], "'yda'"),
    ],
)
def test_a_bad_disk_is_wrong_usage(machine: FakeMachine, words: list[str], expected: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert expected in result.output
    assert not machine.attached


def test_a_disk_that_is_not_there_is_status_3(machine: FakeMachine) -> None:
    result = run("block-detach", "guest", "xvdq")
    assert result.exit_code == 3
    assert "has no xvdq" in result.output


# --- machine files ---


def test_a_bad_machine_file_is_wrong_usage_and_starts_nothing(tmp_path: Path, root: Path) -> None:
    (tmp_path / "lab.toml").write_text('[[domain]]\nname = "a"\nentri = "x:y"\n')
    for words in (["up"], ["up", "-d"], ["up", "--check"]):
        result = run(*words, str(tmp_path / "lab.toml"))
        assert result.exit_code == 2
        assert f"xenlike: {tmp_path}/lab.toml:3: domain[0].entri: unknown key; did you mean 'entry'?" in result.output
    assert not root.exists()


def test_a_good_machine_file_can_be_checked_alone(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('[[domain]]\nname = "a"\nbackends = ["echo"]\n')
    result = run("-m", "other", "up", "--check", str(tmp_path / "lab.toml"))
    assert result.exit_code == 0
    assert "machine 'other' with 1 domain(s) is good" in result.output


# --- tools ---


def test_the_doctor_answers_people_and_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    from xenlike.toolstack import doctor

    result = run("doctor")
    assert result.exit_code == 0
    assert "This host can run machines." in result.output
    report = json.loads(run("doctor", "--json").output)
    assert report["ready"] is True
    assert {"name", "state", "value", "purpose", "required"} == set(report["findings"][0])
    lacking = doctor.Finding("pidfd", "missing", "ENOSYS", "seeing deaths", required=True)
    monkeypatch.setattr(doctor, "examine", lambda: [lacking])
    result = run("doctor")
    assert result.exit_code == 1
    assert "This host cannot run machines: pidfd." in result.output


# --- exit status ---


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigError("x"), 2),
        (NoSuchMachine("x"), 3),
        (MachineError("x"), 1),
        (OSError(28, "x"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), None),
    ],
)
def test_every_error_has_its_status(error: BaseException, expected: int | None) -> None:
    assert status.status_of(error) == expected
    group = BaseExceptionGroup("", [BaseExceptionGroup("", [error])])
    assert status.status_of(status.single(group)) == expected


def test_ctrl_c_hides_what_else_it_stopped_but_never_a_bug() -> None:
    both = BaseExceptionGroup("", [KeyboardInterrupt(), MachineError("x")])
    assert isinstance(status.single(both), KeyboardInterrupt)
    bug = BaseExceptionGroup("", [KeyboardInterrupt(), ZeroDivisionError()])
    assert status.single(bug) is bug
