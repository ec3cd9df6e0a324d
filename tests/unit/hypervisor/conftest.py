"""Fixtures of the hypervisor's own tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tests.unit.hypervisor.table import Table


@pytest.fixture
def table() -> Iterator[Table]:
    """An empty domain table, which must leave no descriptor."""
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    table = Table()
    yield table
    table.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
