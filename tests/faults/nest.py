"""A process in which others are started, killed, and looked for afterwards: `python -m tests.faults.nest`.

It is a warm interpreter that forks for each case, and a subreaper, so that whatever a case leaves behind becomes its
child. Cases come as JSON objects, one a line, and are answered the same way.

    {"do": "caller", "root": "/run/dir", "image": ["/disk.img", 17], "acts": 31, "spin": 0}
    {"do": "command", "root": "/run/dir", "argv": ["demo", "--quick"], "lines": 3, "folder": "/for/images"}
                                        ->  {"error": null, "acts": 217, "status": 130, "output": "..."}

A `caller` is a program with a machine of its own. It is killed by its own hand after so many *acts* (audit events:
files, sockets, processes, hypercalls), or after its guest has said so many `lines`; with neither it lives to its end.
A `command` is `xenlike`, whose process group gets SIGINT when it has printed so many lines, as by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

import xenlike.cli.app
import xenlike.cli.demonstration.report
import xenlike.cli.running
import xenlike.xenbus.service
from tests.faults import leftovers
from tests.faults.programs import die
from xenlike import _core
from xenlike.toolstack import machine as toolstack
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.launch import Launched, launch
from xenlike.toolstack.machine import run_machine

Case = dict[str, Any]
HANG_GUARD_S = 30
NAME = "nest"


def main() -> None:
    _core.set_child_subreaper(True)
    for line in sys.stdin:
        case = json.loads(line)
        answer = {"caller": run_caller, "command": run_command}[case["do"]](case)
        print(json.dumps(answer), flush=True)


def fork(function: Callable[[], object], stdout: int = 2) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        signal.alarm(HANG_GUARD_S)
        os.dup2(stdout, 1)
        status = int(function() or 0)  # type: ignore[call-overload]
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(status)


def what_is_left(root: str, since: float, *, but_names: bool = False) -> str | None:
    """Says what is left although the time is over; nothing if all is well."""

    def processes() -> list[leftovers.Process]:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        return leftovers.descendants(os.getpid())

    left = leftovers.nothing_sync(processes, since)
    if left is None and not but_names:
        left = leftovers.nothing_sync(lambda: leftovers.names_below(Path(root)), since)
    if left is not None:
        for entry in leftovers.descendants(os.getpid()):
            os.kill(entry.pid, signal.SIGKILL)
    return left


# Callers.


def run_caller(case: Case) -> Case:
    acts_rx, acts_tx = os.pipe()
    pid = fork(lambda: call(case, acts_tx))
    os.close(acts_tx)
    _, status = os.waitpid(pid, 0)
    since = time.monotonic()
    said = os.read(acts_rx, 100).split()
    os.close(acts_rx)
    expected = 0 if case.get("acts") is None and case.get("lines") is None else signal.SIGKILL
    answer: Case = {"error": None, "acts": next((int(word) for word in said if word.isdigit()), 0)}
    # Before there is a reaper, and where it was killed too, names are left to the next start.
    allowed = case.get("reaper", False) or b"reaper" not in said
    if status != expected:
        answer["error"] = f"it ended with {status}, not {expected}"
    elif left := what_is_left(case["root"], since, but_names=allowed):
        answer["error"] = left
    elif leftovers.names_below(Path(case["root"])):
        answer["error"] = clean_up(case)
    return answer


def clean_up(case: Case) -> str | None:
    """Starts a machine of another name, and sees that this has removed what was left."""

    async def start_and_end() -> None:
        async with run_machine("next", case["root"], lambda *_: None):
            left = [name for name in leftovers.names_below(Path(case["root"])) if not name.startswith("next")]
            assert not left, f"the next start has left {left}"

    _, status = os.waitpid(fork(lambda: trio.run(start_and_end)), 0)
    return f"the next start failed with {status}" if status else what_is_left(case["root"], time.monotonic())


def call(case: Case, acts_tx: int) -> None:
    """Is the caller, in a process of its own."""
    acts = 0

    def count(event: str, _: object) -> None:
        nonlocal acts
        acts += 1
        if acts == case.get("acts"):
            die(case.get("spin", 0))

    lines = 0
    launched: list[Launched] = []

    def hear(_: str, data: bytes) -> None:
        nonlocal lines
        lines += data.count(b"\n")
        if case.get("lines") is not None and lines >= case["lines"]:
            if case.get("reaper"):
                os.kill(launched[0].reaper.pid, signal.SIGKILL)
            die(case.get("spin", 0))

    def launch_and_note(*args: Any) -> Launched:
        launched.append(launch(*args))
        os.write(acts_tx, b"reaper ")
        return launched[0]

    # Whoever is killed after this has a reaper.
    vars(toolstack)["launch"] = launch_and_note
    path, seed = case["image"]

    async def run() -> None:
        async with run_machine(NAME, case["root"], hear) as machine:
            await machine.spawn("storage", backends=["vbd"], memory="8M")
            disk = Disk(path, backend="storage")
            guest = await machine.spawn(
                "guest", "tests.faults.programs:brief", devices=[disk], args=[seed, "guest", 100], memory="8M"
            )
            assert (await guest.wait()).ok

    sys.addaudithook(count)
    trio.run(run)
    os.write(acts_tx, b"%d" % acts)


# Commands.


def run_command(case: Case) -> Case:
    output_rx, output_tx = os.pipe()
    pid = fork(lambda: command(case), output_tx)
    os.close(output_tx)
    output, interrupted = "", False
    since = time.monotonic()
    with open(output_rx, errors="replace") as lines:
        while line := lines.readline():
            output += line
            if output.count("\n") == case["lines"]:
                os.killpg(pid, signal.SIGINT)
                interrupted = True
    _, status = os.waitpid(pid, 0)
    since = time.monotonic()
    left = what_is_left(case["root"], since)
    if left is None and (names := leftovers.names_below(Path(case["folder"]))):
        left = f"in its folder there is still {names}"
    if not interrupted:
        left = left or "it printed fewer lines"
    return {"error": left, "status": os.waitstatus_to_exitcode(status), "output": output}


def command(case: Case) -> None:
    """Is the command, in a process of its own."""
    os.environ["XENLIKE_RUNTIME_DIR"] = case["root"]
    xenlike.cli.demonstration.image.work_folder = lambda: Path(case["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["xenlike", *case["argv"]]
    xenlike.cli.main()


if __name__ == "__main__":
    main()
