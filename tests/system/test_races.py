"""The C contestants run for real, a moment each: every entry is compared at both ends, and nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.abi.c_compiler import need
from xenlike.benchmarks.ring.native import plots, results, thrash
from xenlike.benchmarks.ring.native.programs import CONTESTANTS, RTE_RING, XEN, Contestant, Programs
from xenlike.benchmarks.ring.native.races import Mode, Race, Wait
from xenlike.errors import MachineError

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two pinned processes need two CPUs"),
]

CPUS = (min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    need("gcc", bool(shutil.which("gcc")))
    made = Programs(tmp_path_factory.mktemp("contestants"))
    list(made.make([(who, entry) for who in CONTESTANTS for entry in (8, 112)]))
    return made


FORMS: list[tuple[Contestant, Mode, Wait]] = [
    (who, mode, wait)
    for who in CONTESTANTS
    for mode in ("reqrsp", "roundtrip", "oneway")
    for wait in ("poll", "adaptive", "sleep")
    if mode in who.modes and (mode != "oneway" or wait == "poll")
]


@pytest.mark.parametrize(("who", "mode", "wait"), FORMS, ids=lambda part: getattr(part, "name", part))
def test_no_contestant_loses_or_changes_an_entry(programs: Programs, who: Contestant, mode: Mode, wait: Wait) -> None:
    why = programs.missing(who, 8)
    if who is RTE_RING and why:
        pytest.skip(why)  # 200 packages are more than a test run should install
    need(who.name, not why)
    for entry, batch in ((8, 1), (112, 8)):
        sample = results.run(programs, Race(who, mode, entry, 32, batch, wait), CPUS, 0.002)
        assert sample.rate > 0
        if wait == "poll":
            assert sample.counts["sleeps"] == sample.counts["notifications"] == 0
        if wait == "sleep":
            assert sample.counts["sleeps"] > 0


def test_a_wrong_entry_is_noticed(programs: Programs, tmp_path: Path) -> None:
    """Breaks what one side writes; the other must say so."""
    folder = tmp_path / "native"
    shutil.copytree(Path(results.__file__).parent, folder)
    text = (folder / "race.h").read_text()
    writes = "entry->words[word] = content(sequence, word);"
    assert writes in text
    (folder / "race.h").write_text(text.replace(writes, "entry->words[word] = content(sequence, word) & ~1ull;"))
    broken = Contestant("broken", str(folder / "xl.c"), XEN.modes, XEN.flags, XEN.links)
    made = Programs(tmp_path)
    list(made.make([(broken, 64)]))
    with pytest.raises(MachineError, match="lost or changed"):
        results.run(made, Race(broken, "oneway"), CPUS, 0.002)


def test_the_experiment_explains_and_draws_what_it_measured(tmp_path: Path) -> None:
    need("gcc", bool(shutil.which("gcc")))
    found = thrash.measure(1, 0.001)
    thrash.show(found)
    path = tmp_path / "thrash.json"
    thrash.write_json(found, path)
    written = json.loads(path.read_text())
    assert len(written["rows"]) == 32
    assert all(row["median"] > 0 for row in written["rows"])
    assert "there and back" in written["explanation"]
    plots.plot_thrash(found, tmp_path / "thrash.png")
    assert (tmp_path / "thrash.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_it_leaves_no_process(tmp_path: Path) -> None:
    need("gcc", bool(shutil.which("gcc")))
    mark = f"XENLIKE_TEST_{os.getpid()}"
    script = (
        "from xenlike.benchmarks.ring.native import programs, races, results, thrash\n"
        "real = results.run\n"
        "def run(*arguments):\n"
        "    print('running', flush=True)\n"
        "    return real(*arguments[:3], 30)\n"
        "results.run = run\n"
        "thrash.measure(1, 30)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {mark: "1"},
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    os.killpg(child.pid, signal.SIGINT)
    child.wait(20)
    child.stdout.close()
    assert child.returncode != 0
    assert not marked(mark)


def marked(mark: str) -> list[str]:
    """Returns the processes that have the variable in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"{mark}=".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found
