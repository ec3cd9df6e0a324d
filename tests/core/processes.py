"""A second process for a test: forked, bounded, and its failure is the test's."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HANG_GUARD_S = 60


@contextmanager
def child(run: Callable[[], None]) -> Iterator[int]:
    """Runs `run` in a fork while the body runs here; then waits for it, and fails if it failed."""
    report_rx, report_tx = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(report_rx)
        status = 1
        try:
            signal.alarm(HANG_GUARD_S)
            run()
            status = 0
        except BaseException:
            os.write(report_tx, traceback.format_exc().encode()[-4000:])
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(report_tx)
    try:
        yield pid
        assert select.select([report_rx], [], [], HANG_GUARD_S)[0], "the other process hangs"
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        report = os.read(report_rx, 4000).decode()
        os.close(report_rx)
        if report:
            sys.stderr.write(f"the other process had failed:\n{report}")
        raise
    report = os.read(report_rx, 4000).decode()
    os.close(report_rx)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"the other process failed:\n{report}"
