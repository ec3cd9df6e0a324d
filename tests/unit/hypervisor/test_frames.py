"""Laws of the frame pool: windows never overlap, busy ones stay, and everything is given back."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.frames import MAX_WINDOW_PAGES, PAGE, Identities, Pool, Window, make_memory

BASE, NR_PAGES, MAX_WINDOWS = 0x80_0000, 40, 8


def refusal(call: object, *args: object, **options: object) -> int:
    """The errno with which a call is refused, 0 when it is not."""
    try:
        call(*args, **options)  # type: ignore[operator]
    except Refused as refused:
        return refused.errno
    return 0


class PoolMachine(RuleBasedStateMachine):
    """A pool against a plain list of which frame belongs to which window."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(1, BASE, NR_PAGES, MAX_WINDOWS)
        self.frames: list[int] = [0] * NR_PAGES
        self.identities: set[int] = set()

    def teardown(self) -> None:
        for window in list(self.pool.windows.values()):
            window.mapped = 0
        assert self.pool.close_idle()

    def _first_fit(self, nr_pages: int) -> int | None:
        for at in range(NR_PAGES - nr_pages + 1):
            if not any(self.frames[at : at + nr_pages]):
                return at
        return None

    @rule(nr_pages=st.integers(0, 20), readonly=st.booleans(), peer=st.integers(0, 3))
    def allocate(self, nr_pages: int, readonly: bool, peer: int) -> None:
        at = self._first_fit(nr_pages)
        expected = 0
        if nr_pages == 0:
            expected = errno.EINVAL
        elif len(self.pool.windows) == MAX_WINDOWS:
            expected = errno.ENOSPC
        elif at is None:
            expected = errno.ENOMEM
        if expected:
            assert refusal(self.pool.allocate, peer, nr_pages, readonly=readonly) == expected
            return
        assert at is not None
        window = self.pool.allocate(peer, nr_pages, readonly=readonly)
        assert (window.pfn, window.peer, window.readonly) == (BASE + at, peer, readonly)
        assert window.sealed != readonly
        assert window.identity not in self.identities
        self.identities.add(window.identity)
        self.frames[at : at + nr_pages] = [window.identity] * nr_pages

    def _pick(self, choice: int) -> Window:
        return sorted(self.pool.windows.values(), key=lambda window: window.pfn)[choice % len(self.pool.windows)]

    @precondition(lambda self: self.pool.windows)
    @rule(choice=st.integers(0, MAX_WINDOWS), change=st.sampled_from([1, -1]))
    def map(self, choice: int, change: int) -> None:
        window = self._pick(choice)
        window.mapped = max(0, window.mapped + change)

    @precondition(lambda self: self.pool.windows)
    @rule(choice=st.integers(0, MAX_WINDOWS))
    def free(self, choice: int) -> None:
        window = self._pick(choice)
        assert refusal(self.pool.free, window.pfn) == (errno.EBUSY if window.mapped else 0)
        if not window.mapped:
            assert window.fd == -1
            self.frames = [0 if frame == window.identity else frame for frame in self.frames]

    @precondition(lambda self: self.pool.windows)
    @rule(choice=st.integers(0, MAX_WINDOWS), peer=st.integers(0, 3), readonly=st.booleans())
    def replace(self, choice: int, peer: int, readonly: bool) -> None:
        old = self._pick(choice)
        if old.mapped:
            assert refusal(self.pool.replace, old.pfn, peer, readonly=readonly) == errno.EBUSY
            return
        inode = os.fstat(old.fd).st_ino
        window = self.pool.replace(old.pfn, peer, readonly=readonly)
        assert (window.pfn, window.nr_pages, window.peer) == (old.pfn, old.nr_pages, peer)
        assert old.fd == -1
        assert os.fstat(window.fd).st_ino != inode
        self.frames = [window.identity if frame == old.identity else frame for frame in self.frames]
        self.identities.add(window.identity)

    @rule(pfn=st.integers(BASE - 2, BASE + NR_PAGES + 2))
    def only_a_first_frame_names_a_window(self, pfn: int) -> None:
        if pfn not in self.pool.windows:
            assert refusal(self.pool.free, pfn) == errno.EINVAL
            assert refusal(self.pool.replace, pfn, 1, readonly=False) == errno.EINVAL

    @rule(peer=st.integers(0, 3))
    def revoke(self, peer: int) -> None:
        self.pool.revoke_peer(peer)
        assert all(window.revoked for window in self.pool.windows.values() if window.peer == peer)

    @invariant()
    def every_frame_is_found_in_its_window(self) -> None:
        for at, identity in enumerate(self.frames):
            window = self.pool.find(BASE + at)
            assert (window.identity if window is not None else 0) == identity
        assert self.pool.find(BASE - 1) is None
        assert self.pool.find(BASE + NR_PAGES) is None


TestPoolMachine = PoolMachine.TestCase


def test_burial_closes_what_is_idle_and_keeps_what_is_mapped() -> None:
    pool = Pool(1, BASE, NR_PAGES, MAX_WINDOWS)
    idle, busy = pool.allocate(2, 1, readonly=False), pool.allocate(2, 1, readonly=True)
    busy.mapped = 1
    assert not pool.close_idle()
    assert (idle.fd, busy.fd >= 0) == (-1, True)
    busy.mapped = 0
    assert pool.close_idle()
    assert busy.fd == -1


def test_a_window_has_at_most_the_pages_that_an_offset_can_name() -> None:
    pool = Pool(1, BASE, MAX_WINDOW_PAGES + 1, MAX_WINDOWS)
    assert refusal(pool.allocate, 0, MAX_WINDOW_PAGES + 1, readonly=False) == errno.EINVAL
    window = pool.allocate(0, MAX_WINDOW_PAGES, readonly=False)
    assert (window.nr_pages * PAGE - PAGE) >> 32 == 0
    pool.free(window.pfn)


@pytest.mark.parametrize("readonly", [False, True])
def test_the_hypervisor_writes_a_window_before_and_after_its_seal(readonly: bool) -> None:
    pool = Pool(1, BASE, NR_PAGES, MAX_WINDOWS)
    window = pool.allocate(2, 2, readonly=readonly)
    owner = mmap.mmap(window.fd, 2 * PAGE)
    window.write(PAGE, b"one")
    window.seal()
    window.seal()
    window.write(PAGE + 3, b"two")
    assert owner[PAGE : PAGE + 6] == window.read(PAGE, 6) == b"onetwo"
    owner.close()
    pool.free(window.pfn)


def test_a_seal_that_fails_leaves_no_mapping() -> None:
    pool = Pool(1, BASE, NR_PAGES, MAX_WINDOWS)
    window = pool.allocate(2, 2, readonly=True)
    fcntl.fcntl(window.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    for _ in range(3):
        assert refusal(window.seal) == errno.EPERM
    inode = os.fstat(window.fd).st_ino
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if int(line.split()[4]) == inode]
    pool.free(window.pfn)


def test_memory_is_zero_and_cannot_change_its_size() -> None:
    fd = make_memory("test", 2 * PAGE)
    try:
        assert os.pread(fd, 2 * PAGE, 0) == bytes(2 * PAGE)
        for size in (PAGE, 3 * PAGE):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
    finally:
        os.close(fd)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0xFFFF_FFF0, 0xFFFF_FFFF))
def test_numbers_of_windows_are_unique_and_wrap_at_32_bits(ends: list[int], last: int) -> None:
    """One in ten steps gives a number back, the others take one."""
    identities = Identities(last)
    live: list[int] = []
    for end in ends:
        if end == 0 and live:
            identities.give_back(live.pop(0))
        else:
            identity = identities.take()
            assert 1 <= identity <= 0xFFFF_FFFF
            assert identity not in live
            live.append(identity)
