"""`sched_op`: how domains end, by their own wish or by domain 0's."""

from __future__ import annotations

import errno

from xenlike.abi import hypercall as hc
from xenlike.abi import sched
from xenlike.hypervisor.call import Call, Operations, find
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.hypervisor import Hypervisor


def shutdown(xen: Hypervisor, call: Call) -> int:
    """Ends the caller with its reason; there is no answer."""
    reason = call.one(sched.SchedShutdown).reason
    if reason > sched.SHUTDOWN_MAX:
        raise Refused(errno.EINVAL)
    if call.caller.domid == 0:
        raise Refused(errno.EPERM)
    call.silent = True
    xen.shut_down(call.caller, reason)
    return 0


def remote_shutdown(xen: Hypervisor, call: Call) -> int:
    """Ends another domain in its name; for domain 0."""
    args = call.one(sched.SchedRemoteShutdown)
    if call.caller.domid != 0:
        raise Refused(errno.EPERM)
    if args.reason > sched.SHUTDOWN_MAX:
        raise Refused(errno.EINVAL)
    xen.shut_down(find(xen, args.domain_id), args.reason)
    return 0


def nothing(xen: Hypervisor, call: Call) -> int:
    """SCHEDOP_yield and SCHEDOP_block: a process yields and blocks without us."""
    return 0


TABLE: Operations = {
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_shutdown): shutdown,
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_remote_shutdown): remote_shutdown,
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_yield): nothing,
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_block): nothing,
}
