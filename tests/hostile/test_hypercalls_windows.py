"""Laws of windows and grants: a peer sees what was made for it, in the mode it was made for, and nothing else."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os

import pytest

from tests.hostile.raw import PAGE, Raw, RawMachine
from xenlike._core import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, get_seals
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi.xen import DOMID_SELF

OKAY, DENIED = gt.GNTST_okay, gt.GNTST_permission_denied
READONLY = hc.XENLIKE_WINDOW_READONLY
POOL = 0x80_0000
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2


def share(granter: Raw, mapper: Raw, ref: int = 8, *, readonly: bool = False) -> tuple[int, mmap.mmap]:
    """A window of one page, granted to its peer; its frame and the granter's mapping."""
    pfn, memory = granter.window(mapper.domid, readonly=readonly)
    granter.grant(ref, mapper.domid, pfn, gt.GTF_permit_access | (gt.GTF_readonly if readonly else 0))
    return pfn, memory


# -- what may be mapped ---------------------------------------------------------------------------------------------


def test_a_granted_page_is_mapped_where_its_window_says(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    pfn, memory = granter.window(mapper.domid, 3)
    refs = [granter.grant(8 + page, mapper.domid, pfn + page) for page in (2, 0, 1)]
    operations, fds = mapper.map(granter.domid, *refs)
    assert [operation.status for operation in operations] == [OKAY] * 3
    assert [operation.dev_bus_addr & 0xFFFFFFFF for operation in operations] == [2 * PAGE, 0, PAGE]
    assert len({operation.dev_bus_addr >> 32 for operation in operations}) == 1
    assert len({operation.handle for operation in operations}) == 3
    assert len(fds) == 1
    assert os.fstat(fds[0]).st_size == 3 * PAGE
    memory[PAGE] = 77
    assert mmap.mmap(fds[0], 0)[PAGE] == 77


def test_a_descriptor_comes_with_the_first_handle_of_its_window_only(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper, 8)
    share(granter, mapper, 9)
    operations, fds = mapper.map(granter.domid, 8, 9, 8)
    assert len(fds) == 2
    assert mapper.map(granter.domid, 8, 9)[1] == []
    first = [operations[0].handle, operations[2].handle]
    assert mapper.unmap(*first) == [OKAY, OKAY]
    operations, fds = mapper.map(granter.domid, 8)
    assert fds == []
    info = xen.info(granter.domid)
    assert info is not None
    assert info.nr_mapped == 4


def test_the_descriptor_comes_again_when_the_last_handle_was_given_back(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper)
    operations, fds = mapper.map(granter.domid, 8)
    assert len(fds) == 1
    assert mapper.unmap(operations[0].handle) == [OKAY]
    assert len(mapper.map(granter.domid, 8)[1]) == 1


def test_a_reference_to_another_domain_is_refused(xen: RawMachine) -> None:
    granter, mapper, thief = xen.domain(), xen.domain(), xen.domain()
    share(granter, mapper)
    assert thief.map_status(granter.domid, 8) == gt.GNTST_general_error
    assert granter.flags(8) == gt.GTF_permit_access


def test_a_table_that_lies_about_a_windows_peer_discloses_nothing(xen: RawMachine) -> None:
    """The table is the granter's; the window's peer is not."""
    granter, peer, thief = xen.domain(), xen.domain(), xen.domain()
    pfn, _ = granter.window(peer.domid)
    granter.grant(8, thief.domid, pfn)
    assert thief.map_status(granter.domid, 8) == DENIED
    assert thief.map_status(granter.domid, 8, readonly=True) == DENIED
    assert granter.flags(8) == gt.GTF_permit_access


@pytest.mark.parametrize("frame", [0, 3, 4, POOL - 1, POOL + 1, POOL + 64, 0xFFFFFFFF])
def test_frames_outside_the_peers_window_are_refused(xen: RawMachine, frame: int) -> None:
    """Private RAM among them, and what lies just before and behind the window."""
    granter, mapper = xen.domain(), xen.domain()
    pfn, _ = granter.window(mapper.domid)
    assert pfn == POOL
    granter.grant(8, mapper.domid, frame)
    assert mapper.map_status(granter.domid, 8) == DENIED
    assert granter.flags(8) == gt.GTF_permit_access


@pytest.mark.parametrize("ref", [7, 9, 64 * 512 - 1, 64 * 512, 0x7FFFFFFF, 0xFFFFFFFF])
def test_references_that_grant_nothing_are_refused(xen: RawMachine, ref: int) -> None:
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper)
    status = mapper.map_status(granter.domid, ref)
    assert status == (gt.GNTST_bad_gntref if ref >= 64 * 512 else gt.GNTST_general_error)


@pytest.mark.parametrize(
    "flags", [gt.GTF_accept_transfer, gt.GTF_transitive, gt.GTF_permit_access | gt.GTF_sub_page, 0xFFFF, 0]
)
def test_entries_of_another_kind_are_refused(xen: RawMachine, flags: int) -> None:
    granter, mapper = xen.domain(), xen.domain()
    pfn, _ = share(granter, mapper)
    granter.grant(8, mapper.domid, pfn, flags)
    assert mapper.map_status(granter.domid, 8) != OKAY
    assert granter.flags(8) == flags


@pytest.mark.parametrize("domid", [0x7FF4, 30000, 0xFFFF])
def test_nobody_is_a_bad_domain(xen: RawMachine, domid: int) -> None:
    assert xen.domain().map_status(domid, 8) == gt.GNTST_bad_domain


def test_a_batch_goes_on_after_one_that_fails(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper)
    operations, fds = mapper.map(granter.domid, 9, 8, 0xFFFFFFFF, 8)
    statuses = [operation.status for operation in operations]
    assert statuses == [gt.GNTST_general_error, OKAY, gt.GNTST_bad_gntref, OKAY]
    assert len(fds) == 1


def test_a_domain_maps_its_own_grants(xen: RawMachine) -> None:
    domain = xen.domain()
    share(domain, domain)
    assert domain.map_status(DOMID_SELF, 8) == OKAY
    assert domain.map_status(domain.domid, 8) == OKAY


# -- handles --------------------------------------------------------------------------------------------------------


def test_bogus_and_foreign_handles_unmap_nothing(xen: RawMachine) -> None:
    granter, mapper, thief = xen.domain(), xen.domain(), xen.domain()
    share(granter, mapper)
    handle = mapper.map(granter.domid, 8)[0][0].handle
    assert thief.unmap(handle, 0, 0xFFFFFFFF) == [gt.GNTST_bad_handle] * 3
    assert granter.unmap(handle) == [gt.GNTST_bad_handle]
    assert granter.flags(8) & gt.GTF_reading


def test_a_handle_ends_once(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    pfn, _ = share(granter, mapper)
    handles = [operation.handle for operation in mapper.map(granter.domid, 8, 8)[0]]
    assert mapper.unmap(handles[0], handles[0]) == [OKAY, gt.GNTST_bad_handle]
    assert mapper.unmap(handles[0]) == [gt.GNTST_bad_handle]
    assert granter.free(pfn) == -errno.EBUSY
    assert mapper.unmap(handles[1]) == [OKAY]
    assert granter.free(pfn) == 0


def test_a_reference_is_in_use_until_its_last_handle_ends(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper)
    write = mapper.map(granter.domid, 8)[0][0].handle
    read = mapper.map(granter.domid, 8, readonly=True)[0][0].handle
    assert granter.flags(8) == gt.GTF_permit_access | gt.GTF_reading | gt.GTF_writing
    mapper.unmap(write)
    assert granter.flags(8) == gt.GTF_permit_access | gt.GTF_reading
    mapper.unmap(read)
    assert granter.flags(8) == gt.GTF_permit_access


def test_an_entry_that_its_granter_wipes_while_mapped_confuses_nobody(xen: RawMachine) -> None:
    """It hurts itself: the window stays busy, and unmapping still works."""
    granter, mapper = xen.domain(), xen.domain()
    pfn, _ = share(granter, mapper)
    handle = mapper.map(granter.domid, 8)[0][0].handle
    granter.grant(8, 0, 0, 0)
    assert granter.free(pfn) == -errno.EBUSY
    granter.grant(8, mapper.domid, 0xFFFFFFFF)
    assert mapper.unmap(handle) == [OKAY]
    assert granter.free(pfn) == 0


# -- busy windows ---------------------------------------------------------------------------------------------------


def test_a_mapped_window_is_neither_freed_nor_replaced(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    pfn, memory = share(granter, mapper)
    memory[:4] = b"mine"
    operations, fds = mapper.map(granter.domid, 8)
    assert granter.free(pfn) == -errno.EBUSY
    assert granter.replace(pfn, mapper.domid) == (-errno.EBUSY, [])
    assert granter.replace(pfn, 0) == (-errno.EBUSY, [])
    assert mmap.mmap(fds[0], 0)[:4] == b"mine"
    mapper.unmap(operations[0].handle)
    assert granter.replace(pfn, mapper.domid)[0] == 0
    assert granter.free(pfn) == 0
    assert granter.free(pfn) == -errno.EINVAL


@pytest.mark.parametrize("how", ["replace", "free"])
def test_a_window_is_never_rebound_to_another_peer(xen: RawMachine, how: str) -> None:
    """One that says it unmapped, and did not, sees nothing of what the next peer gets."""
    granter, liar, successor = xen.domain(), xen.domain(), xen.domain()
    pfn, memory = share(granter, liar)
    operations, fds = liar.map(granter.domid, 8)
    kept = mmap.mmap(fds[0], 0)
    kept[:6] = memory[:6] = b"public"
    liar.unmap(operations[0].handle)
    if how == "replace":
        ret, (fd,) = granter.replace(pfn, successor.domid)
        assert ret == 0
        fresh = mmap.mmap(fd, 0)
    else:
        assert granter.free(pfn) == 0
        again, fresh = granter.window(successor.domid)
        assert again == pfn
    assert fresh[:] == bytes(PAGE)
    granter.grant(8, successor.domid, pfn)
    operations, fds = successor.map(granter.domid, 8)
    assert operations[0].status == OKAY
    fresh[:6] = b"secret"
    kept[6:] = b"x" * (PAGE - 6)
    assert kept[:6] == b"public"
    assert mmap.mmap(fds[0], 0)[:8] == b"secret\0\0"
    assert liar.map_status(granter.domid, 8) == gt.GNTST_general_error


def test_windows_of_different_peers_are_different_memory(xen: RawMachine) -> None:
    granter, one, other = xen.domain(), xen.domain(), xen.domain()
    share(granter, one, 8)
    share(granter, other, 9)
    (mine,), (ours,) = one.map(granter.domid, 8)[1], other.map(granter.domid, 9)[1]
    assert os.fstat(mine).st_ino != os.fstat(ours).st_ino
    assert os.fstat(mine).st_size == os.fstat(ours).st_size == PAGE


def test_what_a_window_is_not(xen: RawMachine) -> None:
    domain = xen.domain()
    pfn, _ = domain.window(0, 2)
    for bogus in (0, pfn + 1, pfn + 2, pfn - 1, 0xFFFFFFFFFFFFFFFF):
        assert domain.free(bogus) == -errno.EINVAL
        assert domain.replace(bogus, 0)[0] == -errno.EINVAL
        assert domain.seal(bogus) == -errno.EINVAL
    stranger = xen.domain()
    assert stranger.free(pfn) == -errno.EINVAL


@pytest.mark.parametrize("peer", [30000, 0x7FF4, 0xFFFF])
def test_windows_are_for_domains_that_live(xen: RawMachine, peer: int) -> None:
    domain = xen.domain()
    assert domain.alloc(peer) == -errno.ESRCH
    pfn, _ = domain.window(0)
    assert domain.replace(pfn, peer)[0] == -errno.ESRCH


def test_a_windows_size_can_never_change(xen: RawMachine) -> None:
    """A peer that could shrink it would kill whoever touches it."""
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper)
    (fd,) = mapper.map(granter.domid, 8)[1]
    for size in (0, PAGE // 2, 2 * PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    for seal in (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE):
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)


# -- read-only windows ----------------------------------------------------------------------------------------------


def test_a_read_only_window_cannot_be_written_by_its_peer_in_any_way(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    _, memory = share(granter, mapper, readonly=True)
    memory[:4] = b"safe"
    assert mapper.map_status(granter.domid, 8) == gt.GNTST_general_error
    operations, (fd,) = mapper.map(granter.domid, 8, readonly=True)
    assert operations[0].status == OKAY
    assert granter.flags(8) == gt.GTF_permit_access | gt.GTF_readonly | gt.GTF_reading

    with pytest.raises(PermissionError):
        mmap.mmap(fd, 0)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"evil", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    reopened = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    mapper.fds.append(reopened)
    with pytest.raises(PermissionError):
        mmap.mmap(reopened, 0)
    with pytest.raises(PermissionError):
        os.pwrite(reopened, b"evil", 0)
    libc = ctypes.CDLL(None, use_errno=True)
    for mode in (0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE):
        assert libc.fallocate(reopened, mode, ctypes.c_long(0), ctypes.c_long(2 * PAGE)) == -1
    seen = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    assert seen[:4] == b"safe"
    # What the granter writes is seen, of course.
    memory[:4] = b"next"
    assert seen[:4] == b"next"
    # A private copy is the peer's own affair.
    private = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE)
    private[:4] = b"evil"
    assert memory[:4] == b"next"
    assert get_seals(fd) & F_SEAL_FUTURE_WRITE


def test_a_read_only_mapping_cannot_be_made_writable(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper, readonly=True)
    (fd,) = mapper.map(granter.domid, 8, readonly=True)[1]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    address = libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    try:
        assert libc.mprotect(address, PAGE, mmap.PROT_READ | mmap.PROT_WRITE) == -1
        assert ctypes.get_errno() == errno.EACCES
    finally:
        libc.munmap(address, PAGE)


def test_a_read_only_window_is_not_mappable_before_its_granter_sealed_it(xen: RawMachine) -> None:
    """Until then nothing stops a writable mapping, so nobody else gets the descriptor."""
    granter, mapper = xen.domain(), xen.domain()
    pfn, memory = granter.window(mapper.domid, readonly=True, seal=False)
    granter.grant(8, mapper.domid, pfn, gt.GTF_permit_access | gt.GTF_readonly)
    assert mapper.map_status(granter.domid, 8, readonly=True) == DENIED
    assert granter.seal(pfn) == 0
    assert mapper.map_status(granter.domid, 8, readonly=True) == OKAY
    assert granter.seal(pfn) == 0
    memory[:4] = b"open"


def test_the_granter_itself_cannot_map_a_sealed_window_writable_again(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    granter.window(mapper.domid, readonly=True)
    with pytest.raises(PermissionError):
        mmap.mmap(granter.fds[-1], 0)


def test_a_writable_grant_of_a_read_only_window_grants_reading_only(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    pfn, _ = granter.window(mapper.domid, readonly=True)
    granter.grant(8, mapper.domid, pfn)
    assert mapper.map_status(granter.domid, 8) == DENIED
    assert mapper.map_status(granter.domid, 8, readonly=True) == OKAY


@pytest.mark.parametrize("seal", [F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, fcntl.F_SEAL_SEAL])
def test_a_granter_that_seals_first_gets_a_window_that_serves_nobody(xen: RawMachine, seal: int) -> None:
    granter, mapper = xen.domain(), xen.domain()
    ret, argument, (fd,) = granter.ask(
        hc.HYPERVISOR_xenlike_op, hc.XENLIKE_ALLOC_WINDOW, hc.AllocWindow(mapper.domid, READONLY, 1)
    )
    assert ret == 0
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
    granter.grant(8, mapper.domid, argument.pfn, gt.GTF_permit_access | gt.GTF_readonly)
    for _ in range(2):
        assert granter.seal(argument.pfn) == -errno.EPERM
        assert mapper.map_status(granter.domid, 8, readonly=True) == DENIED
    assert granter.free(argument.pfn) == 0


# -- memory that the hypervisor writes too --------------------------------------------------------------------------


def test_ram_and_grant_table_take_no_seal_and_no_size(xen: RawMachine) -> None:
    domain = xen.domain()
    _, (ram, table) = domain.bootstrap()
    for fd in (ram, table):
        for seal in (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE):
            with pytest.raises(PermissionError):
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)


def test_a_domain_is_born_once(xen: RawMachine) -> None:
    domain = xen.domain()
    domain.bootstrap()
    assert domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_BOOTSTRAP, count=0)[1:] == (-errno.EEXIST, 0, b"", [])


def test_a_domain_that_frees_its_ring_page_before_its_birth_has_none(xen: RawMachine) -> None:
    domain = xen.domain(console=0)
    assert domain.free(POOL) == 0
    assert domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_BOOTSTRAP, count=0).ret == -errno.EINVAL
    assert domain.alive()


def test_a_domain_that_resets_its_ports_before_its_birth_has_none(xen: RawMachine) -> None:
    domain = xen.domain(console=0)
    assert domain.call(hc.HYPERVISOR_event_channel_op, 10, DOMID_SELF.to_bytes(2, "little")).ret == 0
    assert domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_BOOTSTRAP, count=0).ret == -errno.EINVAL
    assert domain.alive()


# -- copy -----------------------------------------------------------------------------------------------------------


def frame(number: int, offset: int = 0) -> gt.GnttabCopyPtr:
    return gt.GnttabCopyPtr(gt.GnttabCopyAddress(gmfn=number), DOMID_SELF, offset)


def reference(domain: Raw, ref: int, offset: int = 0) -> gt.GnttabCopyPtr:
    return gt.GnttabCopyPtr(gt.GnttabCopyAddress(ref=ref), domain.domid, offset)


def copy(domain: Raw, source: gt.GnttabCopyPtr, dest: gt.GnttabCopyPtr, length: int, flags: int) -> int:
    operations, fds = domain.batch(gt.GNTTABOP_copy, [gt.GnttabCopy(source, dest, length, flags)])
    assert fds == []
    return int(operations[0].status)


SOURCE, DEST = gt.GNTCOPY_source_gref, gt.GNTCOPY_dest_gref


def test_copies_go_between_references_and_own_frames(xen: RawMachine) -> None:
    granter, copier = xen.domain(), xen.domain()
    ram = mmap.mmap(copier.bootstrap()[1][0], 0)
    _, writable = share(granter, copier, 8)
    _, readable = share(granter, copier, 9, readonly=True)
    readable[100:105] = b"hello"
    assert copy(copier, reference(granter, 9, 100), frame(1, 7), 5, SOURCE) == OKAY
    assert ram[PAGE + 7 : PAGE + 12] == b"hello"
    assert copy(copier, frame(1, 7), reference(granter, 8), 5, DEST) == OKAY
    assert writable[:5] == b"hello"
    assert copy(copier, reference(granter, 9, 100), reference(granter, 8, 10), 3, SOURCE | DEST) == OKAY
    assert writable[10:15] == b"hel\0\0"
    assert granter.flags(8) == gt.GTF_permit_access
    assert granter.flags(9) == gt.GTF_permit_access | gt.GTF_readonly


def test_the_owner_of_a_read_only_window_may_have_it_written(xen: RawMachine) -> None:
    """The hypervisor's own mapping is older than the seal."""
    domain = xen.domain()
    ram = mmap.mmap(domain.bootstrap()[1][0], 0)
    pfn, memory = domain.window(0, readonly=True)
    ram[PAGE : PAGE + 5] = b"hello"
    assert copy(domain, frame(1), frame(pfn, 8), 5, 0) == OKAY
    assert memory[8:13] == b"hello"


def test_a_copy_writes_nothing_that_could_not_be_mapped_writable(xen: RawMachine) -> None:
    granter, copier, thief = xen.domain(), xen.domain(), xen.domain()
    pfn, sealed = share(granter, copier, 8, readonly=True)
    assert copy(copier, frame(0), reference(granter, 8), 8, DEST) == gt.GNTST_general_error
    granter.grant(8, copier.domid, pfn)
    assert copy(copier, frame(0), reference(granter, 8), 8, DEST) == DENIED
    assert sealed[:] == bytes(PAGE)
    _, private = share(granter, copier, 9)
    assert copy(thief, frame(0), reference(granter, 9), 8, DEST) == gt.GNTST_general_error
    assert copy(thief, reference(granter, 9), frame(1), 8, SOURCE) == gt.GNTST_general_error
    assert private[:] == bytes(PAGE)


def test_frames_of_others_cannot_be_named_by_number(xen: RawMachine) -> None:
    victim, thief = xen.domain(), xen.domain()
    foreign = gt.GnttabCopyPtr(gt.GnttabCopyAddress(gmfn=0), victim.domid, 0)
    assert copy(thief, foreign, frame(1), 8, 0) == DENIED
    assert copy(thief, frame(1), foreign, 8, 0) == DENIED


@pytest.mark.parametrize(
    ("source", "dest", "length"), [(PAGE, 0, 1), (0, PAGE, 1), (1, 0, PAGE), (0, 1, PAGE), (65535, 65535, 65535)]
)
def test_a_copy_does_not_leave_its_page(xen: RawMachine, source: int, dest: int, length: int) -> None:
    domain = xen.domain()
    assert copy(domain, frame(1, source), frame(2, dest), length, 0) == gt.GNTST_bad_copy_arg


@pytest.mark.parametrize("number", [4, POOL, POOL + 63, 0xFFFFFFFFFFFFFFFF])
def test_a_copy_touches_no_frame_that_is_not_there(xen: RawMachine, number: int) -> None:
    domain = xen.domain()
    assert copy(domain, frame(number), frame(1), 8, 0) == gt.GNTST_general_error
    assert copy(domain, frame(1), frame(number), 8, 0) == gt.GNTST_general_error


def test_a_descriptor_that_its_holder_made_append_only_costs_the_holder_its_copies(xen: RawMachine) -> None:
    """Flags of a descriptor belong to all who hold it, the hypervisor too."""
    domain = xen.domain()
    ram = domain.bootstrap()[1][0]
    fcntl.fcntl(ram, fcntl.F_SETFL, os.O_APPEND)
    assert copy(domain, frame(1), frame(2), 8, 0) == gt.GNTST_general_error
    assert domain.alive()


def test_a_message_copies_a_megabyte_at_most(xen: RawMachine) -> None:
    domain = xen.domain()
    operation = gt.GnttabCopy(frame(1), frame(2), PAGE, 0)
    most = (4096 - 16) // len(operation.pack())
    assert most * 65535 > 1 << 20
    operation.len = 65535
    reply = domain.call(hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_copy, operation.pack() * most, most)
    assert reply[1:] == (-errno.E2BIG, 0, b"", [])
