"""`grant_table_op`: decoding and answering; the work is in `grants.py`."""

from __future__ import annotations

import errno

from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.hypervisor.call import Call, Operations, about
from xenlike.hypervisor.domain import TABLE_FRAMES
from xenlike.hypervisor.hypervisor import Hypervisor


def map(xen: Hypervisor, call: Call) -> int:
    """Maps pages; answers with the descriptors of windows that are new to the caller."""
    operations = call.many(gt.GnttabMapGrantRef)
    call.send = xen.grants.map(call.caller, operations)
    return call.answer(*operations)


def unmap(xen: Hypervisor, call: Call) -> int:
    """Ends handles; a zombie may be able to go then."""
    operations = call.many(gt.GnttabUnmapGrantRef)
    xen.bury_zombies(xen.grants.unmap(call.caller, operations))
    return call.answer(*operations)


def copy(xen: Hypervisor, call: Call) -> int:
    """Copies between pages."""
    operations = call.many(gt.GnttabCopy)
    xen.grants.copy(call.caller, operations)
    return call.answer(*operations)


def query_size(xen: Hypervisor, call: Call) -> int:
    """Says how many pages a grant table has."""
    args = call.one(gt.GnttabQuerySize)
    about(xen, call, args.dom)
    args.nr_frames = args.max_nr_frames = TABLE_FRAMES
    args.status = gt.GNTST_okay
    return call.answer(args)


def set_version(xen: Hypervisor, call: Call) -> int:
    """Agrees to version 1, and to no other."""
    args = call.one(gt.GnttabSetVersion)
    if args.version != 1:
        # Xen answers with the version in force.
        args.version = 1
        call.answer(args)
        return -errno.EINVAL
    return call.answer(args)


def get_version(xen: Hypervisor, call: Call) -> int:
    """Says which version of entries is in use."""
    args = call.one(gt.GnttabGetVersion)
    about(xen, call, args.dom)
    args.version = 1
    return call.answer(args)


TABLE: Operations = {
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_map_grant_ref): map,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_unmap_grant_ref): unmap,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_copy): copy,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_query_size): query_size,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_set_version): set_version,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_get_version): get_version,
}
