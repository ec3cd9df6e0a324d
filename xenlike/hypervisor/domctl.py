"""`domctl`: making, starting, ending and looking at domains; for domain 0."""

from __future__ import annotations

import errno

from xenlike.abi import hypercall as hc
from xenlike.hypervisor.call import Call, Operations, find
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.hypervisor import Hypervisor


def create_domain(xen: Hypervisor, call: Call) -> int:
    """Builds a domain; `hypervisor.Hypervisor.create` does the work."""
    if len(call.payload) < hc.CreateDomain.__layout__.size:
        raise Refused(errno.EINVAL)
    args = hc.CreateDomain.unpack(call.payload)
    wanted = [
        args.config_length == hc.XENLIKE_CONFIG_IN_FD,
        bool(args.flags & hc.XENLIKE_CREATE_RESOURCE),
        bool(args.flags & hc.XENLIKE_CREATE_STDIO),
    ]
    if len(call.fds) != sum(wanted):
        raise Refused(errno.EINVAL)
    inline = call.payload[hc.CreateDomain.__layout__.size :]
    given = iter(call.fds)
    config: bytes | int = next(given) if wanted[0] else inline
    if isinstance(config, bytes) and (len(config) != args.config_length or len(config) > hc.XENLIKE_CONFIG_INLINE_MAX):
        raise Refused(errno.EINVAL)
    resource_fd = next(given) if wanted[1] else -1
    stdio_fd = next(given) if wanted[2] else -1
    _, theirs = xen.create(args, config, resource_fd=resource_fd, stdio_fd=stdio_fd)
    call.fds.clear()
    if theirs is not None:
        call.give.append(theirs.detach())
    return call.answer(args)


def unpause_domain(xen: Hypervisor, call: Call) -> int:
    """Has the process of a domain forked that was created paused."""
    xen.unpause(find(xen, call.one(hc.UnpauseDomain).domid))
    return 0


def destroy_domain(xen: Hypervisor, call: Call) -> int:
    """Ends a domain at once, or forgets a dead one."""
    domain = find(xen, call.one(hc.DestroyDomain).domid)
    if domain.domid == 0:
        raise Refused(errno.EINVAL)
    xen.destroy(domain)
    return 0


def domain_info(xen: Hypervisor, call: Call) -> int:
    """The first domain at or after the number asked for, as Xen's getdomaininfo."""
    args = call.one(hc.GetDomainInfo)
    at_or_after = [domid for domid in xen.domains if domid >= args.domid]
    if not at_or_after:
        raise Refused(errno.ESRCH)
    domain = xen.domains[min(at_or_after)]
    reason = domain.shutdown_reason
    info = hc.GetDomainInfo(
        domid=domain.domid,
        state=domain.state,
        flags=domain.flags,
        was_shut_down=int(domain.was_shut_down),
        pid=domain.pid,
        shutdown_reason=reason,
        exit_code=domain.exit_code,
        nr_ports=len(domain.ports.ports),
        nr_windows=len(domain.pool.windows),
        nr_mapped=sum(window.mapped for window in domain.pool.windows.values()),
        nr_pages=domain.nr_pages,
        pool_pages=domain.pool.nr_pages,
        name=domain.name,
    )
    return call.answer(info)


TABLE: Operations = {
    (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_createdomain): create_domain,
    (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_destroydomain): destroy_domain,
    (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_unpausedomain): unpause_domain,
    (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_getdomaininfo): domain_info,
}
