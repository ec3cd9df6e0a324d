"""Laws of the backend's mapped pages: one hypercall a batch, bounded, nothing left mapped."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike.backends.block.pages import Pages
from xenlike.backends.block.request import Transfer
from xenlike.errors import GrantDenied

BAD, READ_ONLY = 666, 777


class FakeMapping:
    contiguous = None

    def __init__(self, owner: FakeGrants, grefs: Sequence[int], readonly: bool) -> None:
        self.owner, self.grefs = owner, grefs
        views = [memoryview(owner.memory.setdefault(gref, bytearray(4096))) for gref in grefs]
        self.pages = [view.toreadonly() if readonly else view for view in views]

    def unmap(self) -> None:
        for gref in self.grefs:
            self.owner.mapped.remove(gref)
        self.grefs = ()


class FakeGrants:
    def __init__(self) -> None:
        self.memory: dict[int, bytearray] = {}
        self.mapped: list[int] = []
        self.calls = 0

    def grant(self, pfn: int, peer: int, *, readonly: bool = False) -> int:
        raise NotImplementedError

    def revoke(self, gref: int) -> None:
        raise NotImplementedError

    def map(self, domid: int, grefs: Sequence[int], *, readonly: bool = False) -> FakeMapping:
        self.calls += 1
        if BAD in grefs or (READ_ONLY in grefs and not readonly):
            raise GrantDenied(errno.EPERM, "no such grant")
        self.mapped += grefs
        return FakeMapping(self, grefs, readonly)


def transfer(*grefs: int, write: bool = False) -> Transfer:
    return Transfer(0, grefs, [(0, 4096)] * len(grefs), write)


def test_a_batch_is_mapped_by_one_call_and_kept() -> None:
    grants = FakeGrants()
    pages = Pages(grants, 1, persistent=True)
    batch = [transfer(8, 9), transfer(9, 10, write=True), transfer(8)]
    pages.attach(batch)
    assert grants.calls == 1
    assert sorted(grants.mapped) == [8, 9, 10]
    pages.release()
    pages.attach([transfer(10, 8, 9)])
    assert grants.calls == 1
    pages.attach([transfer(10, 11)])
    assert grants.calls == 2
    pages.close()
    pages.close()
    assert grants.mapped == []


def test_buffers_are_the_named_bytes_of_the_named_pages() -> None:
    grants = FakeGrants()
    pages = Pages(grants, 1, persistent=True)
    request = Transfer(0, (8, 9), [(512, 1024), (0, 4096)], write=False)
    pages.attach([request])
    assert request.buffers is not None
    request.buffers[0][:] = b"x" * 512
    request.buffers[1][:] = b"y" * 4096
    assert grants.memory[8] == bytes(512) + b"x" * 512 + bytes(3072)
    assert grants.memory[9] == b"y" * 4096


def test_without_persistence_nothing_stays_and_written_pages_may_be_read_only() -> None:
    grants = FakeGrants()
    pages = Pages(grants, 1, persistent=False)
    batch = [transfer(8), transfer(READ_ONLY, 9, write=True), transfer(10, READ_ONLY)]
    pages.attach(batch)
    assert [request.buffers is not None for request in batch] == [True, True, False]
    pages.release()
    assert grants.mapped == []
    assert len(pages) == 0


@pytest.mark.parametrize("persistent", [True, False])
def test_a_bad_grant_costs_only_the_requests_that_name_it(persistent: bool) -> None:
    grants = FakeGrants()
    pages = Pages(grants, 1, persistent=persistent)
    batch = [transfer(8, 9), transfer(10, BAD, 11), transfer(12), transfer(BAD), transfer(12, 8)]
    pages.attach(batch)
    assert [request.buffers is not None for request in batch] == [True, False, True, False, True]
    pages.close()
    assert grants.mapped == []


@given(st.lists(st.lists(st.lists(st.integers(8, 60), max_size=4), min_size=1, max_size=5), max_size=20))
def test_what_is_kept_is_bounded_and_mapped_once(batches: list[list[list[int]]]) -> None:
    grants = FakeGrants()
    pages = Pages(grants, 1, persistent=True, limit=20)
    for batch in batches:
        requests = [transfer(*grefs) for grefs in batch]
        pages.attach(requests)
        assert all(request.buffers is not None for request in requests)
        assert len(pages) <= 20
        assert len(grants.mapped) == len(set(grants.mapped)) == len(pages)
        pages.release()
    pages.close()
    assert grants.mapped == []
