"""What a process says about itself is what the kernel then does."""

from __future__ import annotations

import os
import resource
import select
import signal
import threading

import pytest

from tests.core.processes import child
from xenlike import _core


def status(field: str) -> str:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(line.split()[1] for line in lines if line.startswith(field + ":"))


def test_dumpable_is_what_was_set() -> None:
    def run() -> None:
        for wanted in (False, True, False):
            _core.set_dumpable(wanted)
            assert _core.get_dumpable() is wanted

    with child(run):
        pass


def test_no_new_privs_is_in_force() -> None:
    def run() -> None:
        _core.no_new_privs()
        assert status("NoNewPrivs") == "1"

    with child(run):
        pass


def test_the_parents_death_kills_the_child() -> None:
    alive_rx, alive_tx = os.pipe()
    ready_rx, ready_tx = os.pipe()

    def parent() -> None:
        if not os.fork():
            _core.set_pdeathsig(signal.SIGKILL)
            os.write(ready_tx, b"x")
            signal.pause()
        os.close(ready_tx)
        os.close(alive_tx)
        os.read(ready_rx, 1)

    with child(parent):
        os.close(alive_tx)
    # The grandchild held the last write end; it is gone when the pipe ends.
    assert select.select([alive_rx], [], [], 30)[0]
    assert os.read(alive_rx, 1) == b""
    for fd in (alive_rx, ready_rx, ready_tx):
        os.close(fd)


def test_a_subreaper_inherits_orphans() -> None:
    def run() -> None:
        _core.set_child_subreaper()
        rx, tx = os.pipe()
        if not os.fork():
            if not os.fork():
                os.read(rx, 1)
                os._exit(7)
            os._exit(0)
        os.wait()
        os.write(tx, b"x")
        _, how = os.wait()
        assert os.waitstatus_to_exitcode(how) == 7

    with child(run):
        pass


def test_membarrier_works_where_it_registers() -> None:
    def run() -> None:
        if _core.membarrier_register():
            _core.membarrier()

    with child(run):
        pass


def test_an_orphan_is_the_subreapers_from_the_start_and_a_whole_python() -> None:
    def run() -> None:
        _core.set_child_subreaper()
        rx, tx = os.pipe()
        between = os.fork()
        if not between:
            orphan = _core.fork_orphan()
            if not orphan:
                values: list[int] = []
                thread = threading.Thread(target=values.append, args=(1,))
                thread.start()
                thread.join()
                os.write(tx, f"{os.getppid()} {values}".encode())
                os._exit(7)
            os.write(tx, f"{orphan} ".encode())
            os._exit(0)
        os.waitpid(between, 0)
        orphan, how = os.wait()
        assert os.waitstatus_to_exitcode(how) == 7
        said = os.read(rx, 100).decode()
        assert str(orphan) in said
        assert f"{os.getpid()} [1]" in said

    with child(run):
        pass


def test_a_refused_fork_is_an_error() -> None:
    def run() -> None:
        if not os.getuid():
            os.setresuid(65534, 65534, 65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        with pytest.raises(BlockingIOError):
            _core.fork_orphan()

    with child(run):
        pass
