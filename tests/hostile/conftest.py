"""A hypervisor for hostile domains, which every test must leave as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.raw import RawMachine
from xenlike.toolstack.paths import SHM


@pytest.fixture(scope="module")
def _running() -> Iterator[list[RawMachine]]:
    """At most one machine: starting one takes a third of a second, and dirt is what the tests look for."""
    machines: list[RawMachine] = []
    yield machines
    for machine in machines:
        machine.close()


@pytest.fixture
def xen(_running: list[RawMachine]) -> Iterator[RawMachine]:
    """A hypervisor without guests. Afterwards it must live, hold no domain and no descriptor more."""
    if _running and (_running[0].expendable or not _running[0].running):
        _running.pop().close()
    if not _running:
        _running.append(RawMachine())
        # The death interrupt's pipe, and a first birth's leavings, belong to the machine.
        machine = _running[0]
        machine.domain()
        machine.clear()
        # So does the segment of its statistics, which is made when it is first written.
        machine.publish()
        while not (SHM / machine.segment[1:]).exists():
            assert machine.running
    machine = _running[0]
    before = machine.descriptors()
    yield machine
    assert machine.running, "the hypervisor is dead"
    machine.clear()
    if not machine.expendable:
        assert machine.descriptors() == before, "the hypervisor has kept descriptors"
