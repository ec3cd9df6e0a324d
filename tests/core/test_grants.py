"""Laws of grant entries: a busy entry cannot end, a pinned frame does not move, and only as granted."""

from __future__ import annotations

import mmap
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.core.effort import EXAMPLES
from tests.core.processes import child
from xenlike import _core
from xenlike._core import GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_WRITING

ENTRIES = 512
OKAY, GENERAL_ERROR, BAD_GNTREF = 0, -1, -3


@pytest.fixture
def table() -> bytearray:
    return bytearray(ENTRIES * 8)


def test_an_entry_has_xens_layout(table: bytearray) -> None:
    _core.gnttab_set(table, 3, 0x1234, 0xDEADBEEF, GTF_PERMIT_ACCESS | GTF_READONLY)
    assert table[24:32] == bytes.fromhex("0500 3412 efbeadde")
    assert not any(table[:24])
    assert not any(table[32:])
    assert _core.gnttab_get(table, 3) == _core.GrantEntry(5, 0x1234, 0xDEADBEEF)


def test_pin_marks_and_unpin_unmarks(table: bytearray) -> None:
    _core.gnttab_set(table, 8, 2, 77)
    assert _core.gnttab_pin(table, 8, 2, readonly=True) == (OKAY, 77)
    assert _core.gnttab_get(table, 8).flags == GTF_PERMIT_ACCESS | GTF_READING
    assert _core.gnttab_pin(table, 8, 2, readonly=False) == (OKAY, 77)
    assert _core.gnttab_get(table, 8).flags == GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING
    assert not _core.gnttab_end(table, 8)
    _core.gnttab_unpin(table, 8, GTF_WRITING)
    assert not _core.gnttab_end(table, 8)
    _core.gnttab_unpin(table, 8, GTF_READING)
    assert _core.gnttab_end(table, 8)
    assert _core.gnttab_get(table, 8).flags == 0
    assert _core.gnttab_pin(table, 8, 2, readonly=True)[0] == GENERAL_ERROR


def test_unpin_touches_no_other_flag(table: bytearray) -> None:
    _core.gnttab_set(table, 8, 2, 77, GTF_PERMIT_ACCESS | GTF_READONLY)
    _core.gnttab_unpin(table, 8, 0xFFFF)
    assert _core.gnttab_get(table, 8) == (GTF_PERMIT_ACCESS | GTF_READONLY, 2, 77)


@pytest.mark.parametrize(
    ("flags", "domid", "readonly"),
    [
        (0, 2, True),  # invalid
        (2, 2, True),  # accept_transfer
        (3, 2, True),  # transitive
        (GTF_PERMIT_ACCESS | 1 << 8, 2, True),  # sub_page
        (GTF_PERMIT_ACCESS, 3, True),  # another domain
        (GTF_PERMIT_ACCESS | GTF_READONLY, 2, False),  # may only read
    ],
)
def test_what_was_not_granted_is_refused_and_left_alone(
    table: bytearray, flags: int, domid: int, readonly: bool
) -> None:
    _core.gnttab_set(table, 8, 2, 77, flags)
    before = bytes(table)
    assert _core.gnttab_pin(table, 8, domid, readonly)[0] == GENERAL_ERROR
    assert table == before


@pytest.mark.parametrize("gref", [ENTRIES, ENTRIES + 1, 0xFFFF_FFFF, 1 << 32, -1])
def test_references_outside_the_table_touch_nothing(table: bytearray, gref: int) -> None:
    assert _core.gnttab_pin(table, gref, 2, readonly=True)[0] == BAD_GNTREF
    for attempt in (
        lambda: _core.gnttab_set(table, gref, 2, 77),
        lambda: _core.gnttab_end(table, gref),
        lambda: _core.gnttab_get(table, gref),
        lambda: _core.gnttab_unpin(table, gref, GTF_READING),
    ):
        with pytest.raises(ValueError, match="gref"):
            attempt()
    assert not any(table)


@given(st.integers(-(2**40), 2**40), st.integers(-(2**20), 2**20), st.integers(-(2**20), 2**20))
def test_set_refuses_what_does_not_fit(frame: int, domid: int, flags: int) -> None:
    table = bytearray(16)
    fits = 0 <= frame < 2**32 and 0 <= domid < 2**16 and 0 <= flags < 2**16
    if fits:
        _core.gnttab_set(table, 1, domid, frame, flags)
        assert _core.gnttab_get(table, 1) == (flags, domid, frame)
    else:
        with pytest.raises(ValueError, match="out of range"):
            _core.gnttab_set(table, 1, domid, frame, flags)


class GrantMachine(RuleBasedStateMachine):
    """One entry against a model with the pin marks of a hypervisor that counts mappings."""

    def __init__(self) -> None:
        super().__init__()
        self.table = bytearray(64)
        self.flags = self.domid = self.frame = 0

    @rule(domid=st.integers(0, 3), frame=st.integers(0, 2**32 - 1), readonly=st.booleans())
    def set(self, domid: int, frame: int, readonly: bool) -> None:
        if self.flags:
            return
        self.flags = GTF_PERMIT_ACCESS | (GTF_READONLY if readonly else 0)
        self.domid, self.frame = domid, frame
        _core.gnttab_set(self.table, 5, domid, frame, self.flags)

    @rule(domid=st.integers(0, 3), readonly=st.booleans())
    def pin(self, domid: int, readonly: bool) -> None:
        allowed = (
            self.flags & 3 == GTF_PERMIT_ACCESS and domid == self.domid and (readonly or not self.flags & GTF_READONLY)
        )
        status, frame = _core.gnttab_pin(self.table, 5, domid, readonly)
        assert status == (OKAY if allowed else GENERAL_ERROR)
        if allowed:
            assert frame == self.frame
            self.flags |= GTF_READING | (0 if readonly else GTF_WRITING)

    @rule(flags=st.sampled_from([GTF_READING, GTF_WRITING, GTF_READING | GTF_WRITING]))
    def unpin(self, flags: int) -> None:
        _core.gnttab_unpin(self.table, 5, flags)
        self.flags &= ~flags

    @rule()
    def end(self) -> None:
        free = not self.flags & (GTF_READING | GTF_WRITING)
        assert _core.gnttab_end(self.table, 5) == free
        if free:
            self.flags = 0

    @invariant()
    def entry_is_as_modelled(self) -> None:
        assert _core.gnttab_get(self.table, 5) == (self.flags, self.domid, self.frame)


TestGrantMachine = GrantMachine.TestCase
TestGrantMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=30)


def test_a_pinned_frame_does_not_move_while_the_granter_tries_to_end_it() -> None:
    """A granter ends and grants anew as fast as it can; whoever holds a pin sees one frame only."""
    wanted = 100 * EXAMPLES
    table = mmap.mmap(-1, mmap.PAGESIZE)
    rx, tx = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def granter() -> None:
        frame = 0
        while True:
            frame += 1
            _core.gnttab_set(table, 9, 1, frame)
            while not _core.gnttab_end(table, 9):
                os.sched_yield()
            if not frame % 64:
                try:
                    os.read(rx, 1)
                except BlockingIOError:
                    continue
                return

    pins = 0
    with child(granter):
        try:
            while pins < wanted:
                status, frame = _core.gnttab_pin(table, 9, 1, readonly=False)
                if status != OKAY:
                    os.sched_yield()
                    continue
                pins += 1
                first, second = _core.gnttab_get(table, 9), _core.gnttab_get(table, 9)
                expected = (GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING, 1, frame)
                assert first == second == expected
                _core.gnttab_unpin(table, 9, GTF_READING | GTF_WRITING)
        finally:
            _core.gnttab_unpin(table, 9, GTF_READING | GTF_WRITING)
            os.write(tx, b"x")
    os.close(rx)
    os.close(tx)


def test_a_table_in_mapped_memory_works_like_one_in_private_memory() -> None:
    table = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
    _core.gnttab_set(table, 8, 2, 77)
    assert _core.gnttab_pin(table, 8, 2, readonly=False) == (OKAY, 77)
    with pytest.raises(ValueError, match="aligned"):
        _core.gnttab_set(table[4:], 8, 2, 77)
