"""What all tests share."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

# Speed is for benchmarks, so there is no deadline. CI looks for the same cases every time, so that a red run is
# about the change at hand; a person's runs keep looking for new ones.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell starts background jobs with Ctrl-C ignored, and programs hand that on: tests of it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

MACHINES = ("docs", "drivers", "examples", "faults", "hostile", "interop", "system")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Under `pytest -n` one process runs all that starts machines, since each of those looks for leftovers.

    The others take the rest, file by file.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "machines" if file.split("/")[1] in MACHINES else file

    return Scheduler(config, log)
