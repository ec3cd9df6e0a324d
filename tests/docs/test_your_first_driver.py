"""The tutorial works when it is followed to the letter, from an empty folder to its last line."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.abi.c_compiler import HEADERS, need
from tests.docs.literate import Reader, missing, plain, steps_of

PAGE = Path(__file__).parents[2] / "docs" / "your-first-driver.md"


@pytest.fixture
def environment(tmp_path: Path, runtime_dir: Path) -> dict[str, str]:
    """An interpreter of one's own, in which to install; it has what ours has."""
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    # With their own .pth files, by which xenlike itself may be installed.
    ours = [folder for folder in site.getsitepackages() if Path(folder).is_dir()]
    (packages / "ours.pth").write_text("".join(f"import site; site.addsitedir({folder!r})\n" for folder in ours))
    for name, module in (("xenlike", "xenlike.cli"), ("pytest", "pytest"), ("pip", "pip")):
        script = home / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {home}/bin/python -m {module} "$@"\n')
        script.chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "XENLIKE_RUNTIME_DIR": str(runtime_dir),
        "COLUMNS": "130",
    }


@pytest.mark.system
@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_followed_to_the_last_line(tmp_path: Path, environment: dict[str, str], runtime_dir: Path) -> None:
    need("cc", shutil.which("cc") is not None)
    need("make", shutil.which("make") is not None)
    need("/usr/include/xen (Debian: libxen-dev)", HEADERS.is_dir())
    folder = tmp_path / "empty"
    folder.mkdir()
    reader = Reader(folder, environment)
    try:
        for step in steps_of(PAGE.read_text()):
            reader.follow(step)
        assert list(runtime_dir.rglob("*")) == [], "a machine was left behind"
    finally:
        # Nothing but what this test started: they have a runtime folder of their own.
        if runtime_dir.exists():
            for machine in runtime_dir.iterdir():
                down = [sys.executable, "-m", "xenlike.cli", "-m", machine.name, "down"]
                subprocess.run(down, env=environment, check=False)


def test_it_has_commands_and_files() -> None:
    steps = steps_of(PAGE.read_text())
    assert any(step.command.startswith("xenlike new-driver") for step in steps)
    for command in ("dev", "trace", "why", "bench"):
        assert any(f"xenlike {command} " in f"{step.command} " for step in steps), command
    assert {"hwrng/protocol.py", "hwrng/frontend.py", "hwrng/backend.py"} <= {step.file for step in steps}


# --- the reader itself ---


def test_what_is_expected_must_be_printed_in_its_order() -> None:
    assert missing(["a 1", "...", "b"], "a 22\nc\nb\n") is None
    assert missing(["b", "a"], "a\nb\n") == "a"
    assert missing(["a"], "") == "a"
    assert plain("  64 ms  backend │ 1,234.5 µs") == "# ms backend # µs"


def test_a_page_is_its_files_and_its_commands() -> None:
    page = "text\n```console\n$ one\nout\n$ two\n```\n```\n$ not run\n```\n```python\n# a/b.py\nx = 1\n```\n"
    one, two, file = steps_of(page)
    assert (one.command, one.expected, two.command, two.expected) == ("one", ["out"], "two", [])
    assert (file.file, file.text) == ("a/b.py", "# a/b.py\nx = 1\n")
    with pytest.raises(AssertionError, match="does not say which file"):
        steps_of("```python\nx = 1\n```\n")


def test_a_command_that_fails_fails_the_reader(tmp_path: Path) -> None:
    reader = Reader(tmp_path, dict(os.environ))
    [fails, as_said, prints] = steps_of("```console\n$ false\n$ false\n(exit status 1)\n$ echo a\nb\n```\n")
    reader.follow(as_said)
    with pytest.raises(AssertionError, match="exit status 1 of line 2"):
        reader.follow(fails)
    with pytest.raises(AssertionError, match="not printed: 'b'"):
        reader.follow(prints)
