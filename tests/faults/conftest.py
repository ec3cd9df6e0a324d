"""A room for every test, and the law that nothing is left in it."""

from __future__ import annotations

import pytest

from tests.faults import leftovers
from tests.faults.room import Room


@pytest.fixture
async def room(tmp_path):
    before = leftovers.names_below(leftovers.SHARED_MEMORY)
    made = Room(tmp_path)
    yield made
    assert not leftovers.names_below(made.runtime)
    # Others may use the same folder, but not these names.
    new = set(leftovers.names_below(leftovers.SHARED_MEMORY)) - set(before)
    assert not [name for name in new if "xenlike" in name]
