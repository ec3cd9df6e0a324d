"""A room for every test, and the law that nothing is left in it."""

from __future__ import annotations

import pytest

from tests.faults import leftovers
from tests.faults.room import Room


@pytest.fixture
def room(tmp_path):
    made = Room(tmp_path)
    yield made
    assert not leftovers.names_below(made.runtime)
