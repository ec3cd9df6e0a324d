"""ThreadSanitizer finds no race between two ends, and finds one when any acquire or release is weakened.

What the sanitizer can see and what not is told in `two_threads.c`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.abi.c_compiler import need
from tests.core.effort import SANITIZED

CORE = Path(__file__).resolve().parents[2] / "xenlike" / "_core"
SOURCES = ["xl_ring.c", "xl_recorder.c", "xl_stream.c", "xl_event.c", "xl_process.c"]
ENTRIES = 2000

pytestmark = pytest.mark.skipif(SANITIZED in os.environ, reason="two sanitizers do not go together")

#: Every ordered access that plain data depends on: file, function, which of those in it, order.
ORDERED = [
    ("xl_ring_inline.h", "xl_ring_look", 0, "acquire"),
    ("xl_ring_inline.h", "xl_ring_look_at_tags", 0, "acquire"),
    ("xl_ring_inline.h", "xl_ring_publish", 0, "release"),
    ("xl_ring_inline.h", "xl_ring_publish", 1, "release"),
    ("xl_ring_inline.h", "xl_ring_taken", 0, "release"),
    ("xl_stream.c", "indices", 0, "acquire"),
    ("xl_stream.c", "indices", 1, "acquire"),
    ("xl_stream.c", "xl_stream_write", 0, "release"),
    ("xl_stream.c", "xl_stream_read", 0, "release"),
    ("xl_stream.c", "xl_word_get", 0, "acquire"),
]
#: Those that order only atomic words, and are used while the peer waits for something else, such as a node.
OF_WORDS = [
    ("xl_ring.c", "xl_ring_create", 0, "release"),
    ("xl_ring.c", "xl_ring_attach", 0, "acquire"),
    ("xl_stream.c", "xl_stream_reset", 0, "release"),
]

FUNCTION = re.compile(r"^[a-z][\w \t*]*?\b(?P<name>\w+)\([^;{]*\)\n\{\n(?P<body>.*?)^\}", re.MULTILINE | re.DOTALL)
ORDER = re.compile(r"memory_order_(acquire|release)\b")


def build(folder: Path, core: Path = CORE) -> Path:
    compiler = shutil.which("gcc") or ""
    need("gcc", bool(compiler))
    runtime = subprocess.run([compiler, "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True)
    need("libtsan of gcc", os.path.isabs(runtime.stdout.strip()))
    program = folder / "two_threads"
    # no-builtin: a memset that the compiler writes out in place is not instrumented.
    flags = "-std=gnu11 -O1 -g -Wall -Werror -Wno-tsan -fsanitize=thread -fno-builtin -fno-strict-aliasing -pthread"
    sources = [Path(__file__).with_name("two_threads.c"), *(core / name for name in SOURCES)]
    subprocess.run([compiler, *flags.split(), f"-I{core}", "-o", program, *sources], check=True)
    return program


def run(program: Path, entries: int) -> subprocess.CompletedProcess[str]:
    # On some kernels mappings are where TSan expects them only without randomization; some containers forbid that.
    fixed = ["setarch", "-R"]
    if subprocess.run([*fixed, "true"], capture_output=True, check=False).returncode:
        fixed = []
    return subprocess.run(
        [*fixed, program, str(entries)],
        capture_output=True,
        text=True,
        env=os.environ | {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66"},
        check=False,
    )


def accesses(name: str) -> list[tuple[str, str, int, str]]:
    """Returns all accesses of a file that have an order, in the form of the tables above."""
    found = []
    for function in FUNCTION.finditer((CORE / name).read_text(encoding="utf-8")):
        orders = ORDER.findall(function["body"])
        found += [(name, function["name"], place, order) for place, order in enumerate(orders)]
    return found


def weaken(text: str, function: str, place: int) -> str:
    """Returns the text with one access made relaxed."""
    body = next(found for found in FUNCTION.finditer(text) if found["name"] == function)
    order = list(ORDER.finditer(body["body"]))[place]
    at = body.start("body")
    return text[: at + order.start()] + "memory_order_relaxed" + text[at + order.end() :]


def test_every_ordered_access_is_known_here() -> None:
    for name in ("xl_ring.c", "xl_ring_inline.h", "xl_stream.c"):
        found = accesses(name)
        assert len(found) == len(ORDER.findall((CORE / name).read_text(encoding="utf-8")))
        assert sorted(found) == sorted(each for each in ORDERED + OF_WORDS if each[0] == name)


def test_two_ends_do_not_race(tmp_path: Path) -> None:
    ran = run(build(tmp_path), ENTRIES)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "done\n"


@pytest.mark.parametrize(("name", "function", "place", "order"), ORDERED)
def test_a_weaker_access_is_a_race(name: str, function: str, place: int, order: str, tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.mkdir()
    for path in [*CORE.glob("*.c"), *CORE.glob("*.h")]:
        text = path.read_text(encoding="utf-8")
        (core / path.name).write_text(weaken(text, function, place) if path.name == name else text, encoding="utf-8")
    ran = run(build(tmp_path, core), ENTRIES)
    assert "data race" in ran.stderr, ran.stderr
    assert ran.returncode == 66
