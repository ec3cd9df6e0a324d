"""Laws of XENLIKE_GRANT_STATUS: domain 0 sees how a reference stands, others their own, and nobody is believed."""

from __future__ import annotations

import errno

import pytest

from tests.hostile.raw import Raw, RawMachine
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi.xen import DOMID_INVALID, DOMID_SELF
from xenlike.hypervisor.domain import NR_REFS

REF = 8


def status(asker: Raw, ref: int = REF, domid: int = DOMID_SELF) -> tuple[int, hc.GrantStatus]:
    argument = hc.GrantStatus(domid=domid, ref=ref)
    ret, argument, fds = asker.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GRANT_STATUS, argument)
    assert fds == []
    return ret, argument


def share(granter: Raw, mapper: Raw) -> int:
    pfn, _ = granter.window(mapper.domid)
    granter.grant(REF, mapper.domid, pfn)
    return pfn


def test_a_reference_tells_who_may_map_it_and_how_often_it_is_mapped(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    pfn = share(granter, mapper)
    for asker, domid in ((xen.dom0, granter.domid), (granter, DOMID_SELF), (granter, granter.domid)):
        ret, told = status(asker, domid=domid)
        assert ret == 0
        assert (told.flags, told.peer, told.window_peer) == (gt.GTF_permit_access, mapper.domid, mapper.domid)
        assert (told.frame, told.nr_mapped) == (pfn, 0)
    handles = [mapper.map(granter.domid, REF, readonly=readonly)[0][0].handle for readonly in (False, True)]
    told = status(xen.dom0, domid=granter.domid)[1]
    assert told.flags == gt.GTF_permit_access | gt.GTF_reading | gt.GTF_writing
    assert told.nr_mapped == 2
    mapper.unmap(*handles)
    assert status(xen.dom0, domid=granter.domid)[1].nr_mapped == 0


def test_a_reference_that_grants_nothing_says_so(xen: RawMachine) -> None:
    told = status(xen.domain(), 40)[1]
    assert (told.flags, told.nr_mapped, told.window_peer) == (0, 0, DOMID_INVALID)


def test_a_frame_that_is_in_no_window_is_told_apart_from_one_for_somebody_else(xen: RawMachine) -> None:
    granter, mapper, other = xen.domain(), xen.domain(), xen.domain()
    pfn = share(granter, other)
    granter.grant(REF, mapper.domid, pfn)
    told = status(xen.dom0, domid=granter.domid)[1]
    assert (told.peer, told.window_peer) == (mapper.domid, other.domid)
    granter.grant(REF, mapper.domid, 0xFFFF_FFFF)
    told = status(xen.dom0, domid=granter.domid)[1]
    assert (told.frame, told.window_peer) == (0xFFFF_FFFF, DOMID_INVALID)


def test_only_domain_0_sees_others(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    share(granter, mapper)
    assert status(mapper, domid=granter.domid)[0] == -errno.EPERM
    assert status(mapper, domid=0)[0] == -errno.EPERM
    assert status(xen.dom0, domid=30000)[0] == -errno.ESRCH


@pytest.mark.parametrize("ref", [NR_REFS, NR_REFS + 1, 0xFFFF_FFFF])
def test_references_outside_of_the_table_are_refused(xen: RawMachine, ref: int) -> None:
    domain = xen.domain()
    assert status(domain, ref)[0] == -errno.EINVAL
    assert status(xen.dom0, ref, domain.domid)[0] == -errno.EINVAL


def test_a_message_of_another_size_is_refused(xen: RawMachine) -> None:
    domain = xen.domain()
    for payload, count in ((b"", 1), (bytes(3), 1), (hc.GrantStatus().pack() * 2, 2), (b"", 0)):
        reply = domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GRANT_STATUS, payload, count)
        assert reply.ret == -errno.EINVAL
