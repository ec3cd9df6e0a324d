"""Laws of mapping: handles, in-use marks and descriptors are what a plain model says, whoever does what."""

from __future__ import annotations

import struct

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.hypervisor.table import Table
from xenlike.abi import grant_table as gt
from xenlike.hypervisor import grants as grants_module
from xenlike.hypervisor.domain import Domain
from xenlike.hypervisor.grants import LAST_HANDLE

REFS = (8, 9, 10)


def write_entry(domain: Domain, ref: int, peer: int, frame: int, flags: int) -> None:
    struct.pack_into("<HHI", domain.table.buffer, ref * 8, flags, peer, frame)


def entry_flags(domain: Domain, ref: int) -> int:
    return int(struct.unpack_from("<H", domain.table.buffer, ref * 8)[0])


class GrantMachine(RuleBasedStateMachine):
    """One granter with a window of three pages for each of two mappers, in either mode."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.granter, *self.mappers = (self.table.create() for _ in range(3))
        self.windows = {}
        for mapper in self.mappers:
            for readonly in (False, True):
                window = self.granter.pool.allocate(mapper.domid, len(REFS), readonly=readonly)
                window.seal()
                self.windows[mapper.domid, readonly] = window
        # What a reference grants, and which handles there are: (mapper, reference, mode, window).
        self.entries: dict[int, tuple[int, int, bool]] = {}
        self.handles: dict[tuple[int, int], tuple[int, bool, int]] = {}

    def teardown(self) -> None:
        self.table.close()

    def _busy(self, ref: int) -> bool:
        return any(handle[0] == ref for handle in self.handles.values())

    @rule(ref=st.sampled_from(REFS), peer=st.integers(0, 1), of=st.integers(0, 1), mode=st.booleans(), ro=st.booleans())
    def grant(self, ref: int, peer: int, of: int, mode: bool, ro: bool) -> None:
        """Grants a page of a window, which may be another peer's or of another mode."""
        if self._busy(ref):
            return
        window = self.windows[self.mappers[of].domid, mode]
        frame = window.pfn + REFS.index(ref)
        flags = gt.GTF_permit_access | (gt.GTF_readonly if ro else 0)
        write_entry(self.granter, ref, self.mappers[peer].domid, frame, flags)
        self.entries[ref] = (self.mappers[peer].domid, frame, ro)

    @rule(choice=st.integers(0, 1), readonly=st.booleans(), refs=st.lists(st.sampled_from([*REFS, 11]), max_size=5))
    def map(self, choice: int, readonly: bool, refs: list[int]) -> None:
        mapper = self.mappers[choice]
        flags = gt.GNTMAP_host_map | (gt.GNTMAP_readonly if readonly else 0)
        operations = [gt.GnttabMapGrantRef(flags=flags, ref=ref, dom=self.granter.domid) for ref in refs]
        descriptors = self.table.xen.grants.map(mapper, operations)
        expected: list[int] = []
        for operation in operations:
            peer, frame, ro = self.entries.get(operation.ref, (-1, 0, False))
            window = self.granter.pool.find(frame)
            if peer != mapper.domid or (ro and not readonly):
                assert operation.status == gt.GNTST_general_error
            elif window is None or window.peer != mapper.domid or (window.readonly and not readonly):
                assert operation.status == gt.GNTST_permission_denied
            else:
                assert operation.status == gt.GNTST_okay
                held = [handle for key, handle in self.handles.items() if key[0] == mapper.domid]
                if all(handle[2] != window.identity for handle in held):
                    expected.append(window.fd)
                assert operation.dev_bus_addr == window.identity << 32 | (frame - window.pfn) * 4096
                key = (mapper.domid, operation.handle)
                assert key not in self.handles
                self.handles[key] = (operation.ref, readonly, window.identity)
        assert descriptors == expected

    @precondition(lambda self: self.handles)
    @rule(choice=st.integers(0, 100), mapper=st.integers(0, 1))
    def unmap(self, choice: int, mapper: int) -> None:
        """Ends a handle, which may be another domain's."""
        _, handle = sorted(self.handles)[choice % len(self.handles)]
        caller = self.mappers[mapper]
        operation = gt.GnttabUnmapGrantRef(handle=handle)
        touched = self.table.xen.grants.unmap(caller, [operation])
        known = self.handles.pop((caller.domid, handle), None)
        assert operation.status == (gt.GNTST_okay if known else gt.GNTST_bad_handle)
        assert touched == ({self.granter.domid} if known else set())

    @precondition(lambda self: len(self.mappers) == 2)
    @rule(choice=st.integers(0, 20))
    def kill_a_mapper(self, choice: int) -> None:
        if choice:
            return
        dead = self.mappers[1]
        self.table.xen.died(dead)
        self.handles = {key: handle for key, handle in self.handles.items() if key[0] != dead.domid}
        self.mappers.append(self.table.create())
        self.mappers.remove(dead)
        for readonly in (False, True):
            window = self.granter.pool.allocate(self.mappers[1].domid, len(REFS), readonly=readonly)
            window.seal()
            self.windows[self.mappers[1].domid, readonly] = window

    @rule(offset=st.integers(0, 3))
    def handles_come_round(self, offset: int) -> None:
        for mapper in self.mappers:
            mapper.next_handle = max(1, LAST_HANDLE - offset)

    @invariant()
    def marks_and_counts_agree(self) -> None:
        for ref in REFS:
            flags = entry_flags(self.granter, ref)
            modes = [readonly for at, readonly, _ in self.handles.values() if at == ref]
            assert bool(flags & gt.GTF_reading) == bool(modes)
            assert bool(flags & gt.GTF_writing) == (False in modes)
        for window in self.granter.pool.windows.values():
            assert window.mapped == sum(handle[2] == window.identity for handle in self.handles.values())


TestGrantMachine = GrantMachine.TestCase
TestGrantMachine.settings = settings(max_examples=60, stateful_step_count=30)


def test_a_mapper_has_so_many_handles_and_no_more(table: Table, monkeypatch) -> None:
    monkeypatch.setattr(grants_module, "MAX_HANDLES", 4)
    granter, mapper = table.create(), table.create()
    window = granter.pool.allocate(mapper.domid, 1, readonly=False)
    write_entry(granter, 8, mapper.domid, window.pfn, gt.GTF_permit_access)
    operations = [gt.GnttabMapGrantRef(ref=8, dom=granter.domid) for _ in range(6)]
    table.xen.grants.map(mapper, operations)
    assert [operation.status for operation in operations] == [gt.GNTST_okay] * 4 + [gt.GNTST_no_device_space] * 2
    assert window.mapped == 4
    table.xen.grants.unmap(mapper, [gt.GnttabUnmapGrantRef(handle=operations[0].handle)])
    table.xen.grants.map(mapper, operations[:1])
    assert operations[0].status == gt.GNTST_okay
