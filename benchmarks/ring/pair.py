"""Two processes, each pinned to a CPU of its own, and the time that passes while they do something together.

Both are children, so that whatever a peer leaves in a process (threads, signal handlers, open files) is gone with it.
They die with this process, and this process ends them however the run ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NoReturn

from xenlike import _core
from xenlike.errors import MachineError

GUARD_S = 60
"""A run that has not ended by then never will."""

Side = Callable[[int], "list[int] | int | None"]
"""Carries so many messages, or times that many round trips; may be called again. What it returns is handed on."""

Opener = Callable[[], Side]
"""Makes a side, in the process that it will be in."""

Ends = AbstractContextManager[tuple[Opener, Opener]]
"""Makes what both share, before there are two processes: yields the near and the far end's opener."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has brought.

    Attributes:
        ns: from the near side's start until both were done.
        near, far: what the sides returned.
    """

    ns: int
    near: list[int] = field(default_factory=list)
    far: list[int] = field(default_factory=list)


def two_cpus() -> tuple[int, int]:
    """Returns the CPUs that the two processes are pinned to.

    Raises:
        MachineError: there is only one; two processes that poll would measure the scheduler.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise MachineError(
            f"two pinned processes need two CPUs, and this one may use only CPU {allowed[0]}: "
            "run it without taskset, or give the container another CPU"
        )
    return allowed[0], allowed[1]


def run(name: str, ends: Ends, count: int, cpus: tuple[int, int], warm_up: int = 0) -> Outcome:
    """Has two processes do `count` of something together, after a warm-up that does not count.

    Args:
        name: for messages.
        ends: what they share; opened and closed here.
        count: what both sides are told.
        cpus: of the near and of the far side; the same one twice is fine if the sides sleep.
        warm_up: what both sides are told first.

    Raises:
        MachineError: a side failed, or did not end in `GUARD_S`.
    """
    with ends as (near, far):
        gate = os.pipe2(os.O_CLOEXEC)
        children: list[_Child] = []
        try:
            try:
                for opener, cpu in ((far, cpus[1]), (near, cpus[0])):
                    children.append(_Child(opener, cpu, gate, (warm_up, count), first=opener is near))
            finally:
                os.close(gate[0])
                os.close(gate[1])
            reports = _reports(name, children)
        finally:
            for child in children:
                child.end()
    (_, far_end, far_said), (start, near_end, near_said) = reports
    return Outcome(max(far_end, near_end) - start, near_said, far_said)


class _Child:
    def __init__(
        self, opener: Opener, cpu: int, gate: tuple[int, int], counts: tuple[int, int], *, first: bool
    ) -> None:
        self.rx, tx = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            _live(opener, cpu, gate, counts, first, tx, parent)
        os.close(tx)
        self.said = b""
        self.done = False

    def listen(self) -> None:
        """Reads some of what it says."""
        part = os.read(self.rx, 1 << 16)
        self.said += part
        self.done = not part

    def end(self) -> None:
        """Ends and reaps it."""
        os.close(self.rx)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _reports(name: str, children: list[_Child]) -> list[tuple[int, int, list[int]]]:
    """Waits for what all have to say: start, end, and what the side returned."""
    while waiting := {child.rx: child for child in children if not child.done}:
        for fd in select.select(list(waiting), [], [])[0]:
            child = waiting[fd]
            child.listen()
            # The other one may wait for ever for one that failed.
            if child.done and not child.said.startswith(b"["):
                why = json.loads(child.said or b"null")
                raise MachineError(f"{name}: {why or f'a process ended, or did not within {GUARD_S} s'}")
    return [json.loads(child.said) for child in children]


def _live(
    opener: Opener, cpu: int, gate: tuple[int, int], counts: tuple[int, int], first: bool, tx: int, parent: int
) -> NoReturn:
    """The life of a child: it reports, and never returns."""
    said: object = None
    try:
        _core.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GUARD_S)
        os.sched_setaffinity(0, {cpu})
        # The far one is ready first: it listens before anything is sent, and the near one starts what is timed.
        if first:
            os.read(gate[0], 1)
        side = opener()
        if not first:
            os.write(gate[1], b"1")
        warm_up, count = counts
        if warm_up:
            side(warm_up)
        if first:
            os.read(gate[0], 1)
        else:
            os.write(gate[1], b"2")
        start = time.monotonic_ns()
        returned = side(count)
        end = time.monotonic_ns()
        said = [start, end, returned if isinstance(returned, list) else [returned or 0]]
    except KeyboardInterrupt:
        said = "interrupted"
    except BaseException:
        said = traceback.format_exc()
    finally:
        try:
            _write_all(tx, json.dumps(said).encode())
            os.close(tx)
            # A peer's threads may still be sending what this side has put. The parent ends it.
            signal.pause()
        finally:
            os._exit(0)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
