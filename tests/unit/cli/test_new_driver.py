"""Laws of `xenlike new-driver` and `xenlike header`: what they make is clean, and what they refuse leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.abi.c_compiler import HEADERS, compile_and_run, need
from xenlike.cli import status
from xenlike.cli.app import app
from xenlike.xenbus.registry import driver_types, load_driver

ROOT = Path(__file__).parents[3]
LONGEST = "abcdefghij_abcdefghij_abcdefghi"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a module path to be restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def made(folder: Path, name: str, *options: str) -> Path:
    result = run("new-driver", name, *options)
    assert result.exit_code == 0, result.output
    return folder / name


def tree(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


# --- what is made ---


def test_it_says_what_it_made_and_leaves_nothing_else(folder: Path) -> None:
    result = run("new-driver", "dice", "--c", "--batch")
    assert result.exit_code == 0
    assert {line.strip() for line in result.output.splitlines() if line.startswith("  ")} == tree(folder)
    assert os.listdir(folder) == ["dice"]
    assert "dice" not in sys.modules
    assert "Now: cd dice; pytest; xenlike dev ." in result.output


@pytest.mark.parametrize("name", ["x", "dice", "my_device", LONGEST])
@pytest.mark.parametrize("options", [[], ["--batch"], ["--c", "--batch"]])
def test_no_marker_is_left_and_ruff_has_no_complaint(folder: Path, name: str, options: list[str]) -> None:
    """Whatever the name's length: the formatter would have every line as it is."""
    package = made(folder, name, *options)
    for file in tree(package):
        assert "NAME" not in file
        text = (package / file).read_text()
        assert not any(marker in text for marker in ("@name@", "@Name@", "@NAME@")), file
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
        result = subprocess.run(ruff, cwd=package, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_mypy_strict_has_no_complaint(folder: Path) -> None:
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    for name, options in (("dice", ["--c"]), ("fast", ["--batch"])):
        package = made(folder, name, *options)
        assert "strict = true" in (package / "pyproject.toml").read_text()
        command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(folder / "cache")]
        result = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def test_its_modes_are_those_of_any_new_folder(folder: Path) -> None:
    """It is made as a private folder and renamed; that must not show."""
    (folder / "any").mkdir()
    assert made(folder, "dice").stat().st_mode == (folder / "any").stat().st_mode


# --- what is refused ---


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my-dice", "such as my_dice"),
        ("9lives", "no Python identifier"),
        ("", "no Python identifier"),
        ("../dice", "no Python identifier"),
        ("class", "a word of Python itself"),
        ("Dice", "lower-case letters"),
        ("d" * 32, "up to 31"),
        ("_dice", "a letter first"),
        ("echo", "a driver named 'echo' already"),
        ("vbd", "a driver named 'vbd' already"),
        ("random", "the name of a Python module"),
        ("trio", "the name of a Python module"),
        ("tests", "another part of the package"),
        ("c", "another part of the package"),
        ("device", "another part of the package"),
        ("guest", "another part of the package"),
    ],
)
def test_a_name_that_is_none_is_refused(folder: Path, name: str, why: str) -> None:
    result = run("new-driver", name)
    assert result.exit_code == status.USAGE
    assert result.output.startswith("xenlike: ")
    assert why in result.output
    assert len(result.output.splitlines()) == 1
    assert os.listdir(folder) == []


@pytest.mark.parametrize("kind", ["file", "empty folder", "folder", "broken link"])
def test_what_exists_is_not_touched(folder: Path, kind: str) -> None:
    path = folder / "dice"
    match kind:
        case "file":
            path.write_text("mine")
        case "broken link":
            path.symlink_to("nowhere")
        case _:
            path.mkdir()
            if kind == "folder":
                (path / "mine").touch()
    before = tree(folder)
    result = run("new-driver", "dice")
    assert result.exit_code == status.USAGE
    assert "exists already" in result.output
    assert tree(folder) == before
    assert os.listdir(folder) == ["dice"]


def test_where_it_may_not_write_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **words: object) -> str:
        raise PermissionError(13, "Permission denied", str(folder))

    # Not by the folder's mode: root may write everywhere.
    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    result = run("new-driver", "dice")
    assert result.exit_code == status.FAILED
    assert result.output == f"xenlike: {folder}/dice cannot be made: Permission denied\n"


def test_a_full_disk_in_the_middle_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def full(self: Path, *args: object, **words: object) -> int:
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(28, "No space left on device")
        return written(self, *args, **words)  # type: ignore[arg-type]

    written = Path.write_text
    monkeypatch.setattr(Path, "write_text", full)
    result = run("new-driver", "dice")
    assert (result.exit_code, count) == (status.FAILED, 5)
    assert "No space left" in result.output
    assert os.listdir(folder) == []


# --- header ---


def test_a_header_is_of_a_type_a_reference_or_a_folder(folder: Path) -> None:
    package = made(folder, "dice")
    texts = {run("header", name).output for name in ("dice", str(package), f"{package}/dice/protocol.py:DRIVER")}
    assert len(texts) == 1
    assert run("header", "echo").output == run("header", "xenlike.io.echo:DRIVER").output
    sys.modules.pop("dice", None)
    sys.modules.pop("dice.protocol", None)


BESIDE_XENS = """
#include <stdint.h>
#include <stdio.h>
#include <xen/xen.h>
#define xen_mb()
#define xen_rmb()
#define xen_wmb()
#include <xen/io/ring.h>
"""


@pytest.mark.parametrize("type", driver_types())
def test_a_header_compiles_alone_and_declares_the_ring_beside_xens(folder: Path, type: str) -> None:
    """Sizes and offsets are asserted in it; here it is the compiler that looks."""
    need("/usr/include/xen (Debian: libxen-dev)", HEADERS.is_dir())
    path = folder / f"{type}.h"
    assert run("header", type, "-o", str(path)).exit_code == 0
    protocol = load_driver(type).protocol
    tag, upper = protocol.name, protocol.name.upper()
    main = f'#include "{path}"\nint main(void) {{ return {upper}_RING_SLOTS == 0; }}\n'
    compile_and_run(main, folder, "-Wpedantic")
    sizes = f'printf("%zu %d", sizeof(union {tag}_sring_entry), (int)__CONST_RING_SIZE({tag}, 4096));'
    beside = f'{BESIDE_XENS}#include "{path}"\nint main(void) {{ {sizes} return 0; }}\n'
    entry, slots = compile_and_run(beside, folder, "-D__XEN_TOOLS__").split()
    assert int(entry) == protocol.entry_size
    assert f"#define {f'{upper}_RING_SLOTS':<36} {slots} " in path.read_text()


def test_a_header_has_the_modules_constants_and_its_nodes() -> None:
    text = run("header", "vbd").output
    for words in ("#define BLKIF_OP_INDIRECT ", "(-2)", "struct blkif_request_segment {", '"vbd"', "sector-size"):
        assert words in text


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nothing", "no driver for devices of type 'nothing'"),
        ("no/folder", "there is no folder no/folder"),
        ("empty", "no driver for devices of type 'empty'"),
        ("./empty", "has no pyproject.toml"),
        ("bare", "has no entry point"),
        ("two", "has several drivers"),
        ("torn", "torn/pyproject.toml cannot be read"),
        ("bad.py", "say which driver in it"),
        ("bad.py:DRIVER", "bad.py, line 2: SyntaxError: "),
        ("raises.py:DRIVER", "raises.py, line 3: ZeroDivisionError: division by zero"),
        ("quits.py:DRIVER", "quits.py, line 1: SystemExit: 3"),
        ("large.py:DRIVER", "a message of 5000 bytes does not fit into a ring of one page of 4096"),
        ("xenlike.io.echo:ECHO", "is no xenlike Driver"),
        ("xenlike.io.echo:NOTHING", "has no 'NOTHING'"),
        ("no.such.module:DRIVER", "there is no module 'no'"),
    ],
)
def test_a_driver_that_cannot_be_had_is_a_sentence(folder: Path, name: str, why: str) -> None:
    for directory in ("empty", "bare", "two", "torn"):
        (folder / directory).mkdir()
    (folder / "bare" / "pyproject.toml").write_text("[project]\nname = 'bare'\n")
    (folder / "two" / "pyproject.toml").write_text('[project.entry-points."xenlike.drivers"]\na = "x:A"\nb = "x:B"\n')
    (folder / "torn" / "pyproject.toml").write_text("[project\n")
    (folder / "bad.py").write_text("x = 1\nclass :\n")
    (folder / "raises.py").write_text("import json\n\njson.loads('1') / 0\n")
    (folder / "quits.py").write_text("raise SystemExit(3)\n")
    (folder / "large.py").write_text(
        "from typing import Annotated\nfrom xenlike.xenbus import Bytes, Driver, Protocol, Struct, u64\n"
        "class Large(Struct):\n    id: u64 = 0\n    data: Annotated[bytes, Bytes(4992)] = b''\n"
        "DRIVER = Driver('large', Protocol('large', Large, Large), '', '')\n"
    )
    result = run("header", name)
    assert result.exit_code == status.USAGE, result.output
    assert why in result.output
    assert len(result.output.splitlines()) == 1


def test_a_file_that_cannot_be_written_is_a_sentence(folder: Path) -> None:
    result = run("header", "echo", "-o", "no/such/folder.h")
    assert result.exit_code == status.FAILED
    assert result.output == "xenlike: no/such/folder.h cannot be written: No such file or directory\n"
