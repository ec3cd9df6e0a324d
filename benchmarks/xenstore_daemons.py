"""The store daemons that are measured: ours, a process of its own with a log, and Xen's where the host can run it.

Xen's is started by the rig of the tests in `tests/interop/xenstore`, which is there in a checkout.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

DESCRIPTORS = 4096
"""More than the connections of a thousand domains."""
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon.

    Attributes:
        name: for people.
        path: its socket.
        pid: its process.
    """

    name: str
    path: Path
    pid: int

    def memory_kib(self) -> int:
        """Returns its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@contextmanager
def apart(*daemons: Daemon) -> Iterator[str]:
    """Keeps this process on one CPU and daemons on another, where there are two; yields a word on it.

    Left alone, the kernel puts a client now beside its daemon and now on the same CPU, which makes more of a difference
    than which daemon it is.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        yield "clients and daemons share the one CPU"
        return
    for pid, cpu in [(0, allowed[0]), *((daemon.pid, allowed[1]) for daemon in daemons)]:
        os.sched_setaffinity(pid, {cpu})
    try:
        yield f"clients are kept on CPU {allowed[0]}, daemons on CPU {allowed[1]}"
    finally:
        for pid in (0, *(daemon.pid for daemon in daemons)):
            os.sched_setaffinity(pid, allowed)


def folder() -> tempfile.TemporaryDirectory[str]:
    """Makes a folder for sockets, logs and data bases: in memory where the host has such a place."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="xenlike-bench-", dir=memory if os.access(memory, os.W_OK) else None)


@contextmanager
def our_daemon() -> Iterator[Daemon]:
    """Runs ours. It writes its log, as it does in a machine, from which the next one would go on."""
    with folder() as place:
        path = Path(place) / "socket"
        command = [sys.executable, "-m", "xenlike.xenstored", "-v", "--socket", str(path), "--log", f"{place}/log"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                said = process.stderr.readline()
                if "ready" not in said:
                    raise RuntimeError(f"xenstored does not start: {said}{process.stderr.read()}")
                _raise_limit(process.pid)
                yield Daemon("xenlike", path, process.pid)
            finally:
                process.terminate()
                process.stderr.read()


@contextmanager
def xens_daemon() -> Iterator[Daemon | None]:
    """Runs Xen's; yields None where that cannot be done."""
    with ExitStack() as stack:
        try:
            if str(_ROOT) not in sys.path:
                sys.path.append(str(_ROOT))
                stack.callback(sys.path.remove, str(_ROOT))
            rig: Any = import_module("tests.interop.xenstore.oracle")
        except ImportError:
            rig = None
        oracle = None
        if rig is not None:
            place = stack.enter_context(folder())
            try:
                oracle = rig.Oracle(Path(place))
            except BaseException as error:
                # What pytest skips or fails with, and nothing else.
                if type(error).__module__ != "_pytest.outcomes" and type(error).__name__ not in {"Skipped", "Failed"}:
                    raise
        if oracle is None:
            yield None
            return
        stack.callback(oracle.close)
        _raise_limit(oracle._process.pid)
        yield Daemon("Xen's", oracle.socket_path, oracle._process.pid)


def _raise_limit(pid: int) -> None:
    """Lets this process and a daemon have as many descriptors as the measurement needs, as far as they may."""
    for who in (0, pid):
        soft, hard = resource.prlimit(who, resource.RLIMIT_NOFILE)
        wanted = min(DESCRIPTORS, hard) if hard != resource.RLIM_INFINITY else DESCRIPTORS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.prlimit(who, resource.RLIMIT_NOFILE, (wanted, hard))
