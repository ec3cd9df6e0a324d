"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

# Speed is for benchmarks, so there is no deadline. CI looks for the same cases every time, so that a red run is
# about the change at hand; a person's runs keep looking for new ones.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell starts background jobs with Ctrl-C ignored, and programs hand that on: tests of it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).resolve().parent
MACHINES = ("drivers", "examples", "faults", "hostile", "interop", "system")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps tests that start machines in one process of `pytest -n`: each looks for what the one before left behind."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).parts[0] in MACHINES:
            item.add_marker(pytest.mark.xdist_group("machines"))
