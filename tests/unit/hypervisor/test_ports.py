"""Laws of ports: the lowest free number, as Xen gives it, and no descriptor is kept that nobody needs."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import Port, PortState, PortTable, make_channel, notify


@given(st.lists(st.integers(0, 12), max_size=80))
def test_a_port_gets_the_lowest_free_number(steps: list[int]) -> None:
    """A step closes the port of that number if it is there, and makes one if it is not."""
    table = PortTable(limit=10)
    model: set[int] = set()
    for step in steps:
        if step in model:
            table.release(table.get(step))
            model.remove(step)
        elif len(model) == 10:
            with pytest.raises(Refused) as refused:
                table.allocate(PortState.UNBOUND)
            assert refused.value.errno == errno.ENOSPC
        else:
            lowest = next(number for number in range(1, 12) if number not in model)
            assert table.allocate(PortState.UNBOUND).number == lowest
            model.add(lowest)
    assert set(table.ports) == model


def test_port_zero_is_never_given_out() -> None:
    table = PortTable()
    with pytest.raises(Refused) as refused:
        table.get(0)
    assert refused.value.errno == errno.EINVAL
    assert table.allocate(PortState.UNBOUND).number == 1


def test_a_channel_carries_events_both_ways_and_a_full_one_is_pending() -> None:
    near, far = make_channel()
    for rx, tx in ((near.rx, far.tx), (far.rx, near.tx)):
        with pytest.raises(BlockingIOError):
            os.read(rx, 1)
        for _ in range(10_000):
            notify(tx)
        assert os.read(rx, 1) == b"\1"
    near.close()
    while os.read(far.rx, 1 << 16):
        pass
    notify(far.tx)
    far.close()


def test_a_released_port_closes_what_the_hypervisor_held_for_it() -> None:
    table = PortTable()
    port = table.allocate(PortState.UNBOUND)
    port.near, port.far = make_channel()
    port.virq_tx = os.dup(port.far.tx)
    assert table.descriptors == port.descriptors == 5
    held = [*port.near, *port.far, port.virq_tx]
    table.release(port)
    assert table.descriptors == 0
    for fd in held:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    port.close_descriptors()


def test_states_have_xens_numbers() -> None:
    """EVTCHNSTAT_* of event_channel.h; 3 and 5 are for hardware and virtual processors."""
    assert [int(state) for state in PortState] == [0, 1, 2, 4]
    assert Port(1, PortState.UNBOUND).descriptors == 0
