"""`xenlike_op`: what has no counterpart in Xen, birth and grantable memory."""

from __future__ import annotations

import errno
import os

from xenlike import _core
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi.start_info import (
    XENLIKE_START_CONSOLE,
    XENLIKE_START_PRIVILEGED,
    XENLIKE_START_STORE,
    StartInfo,
)
from xenlike.abi.xen import DOMID_INVALID, DOMID_SELF
from xenlike.hypervisor.call import Call, Operations, about
from xenlike.hypervisor.domain import NR_REFS, TABLE_FRAMES
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import Port
from xenlike.hypervisor.frames import Window
from xenlike.hypervisor.hypervisor import Hypervisor


def bootstrap(xen: Hypervisor, call: Call) -> int:
    """Tells a new domain where everything is, once."""
    domain = call.caller
    if domain.bootstrapped:
        raise Refused(errno.EEXIST)
    flags = 0
    descriptors = [domain.ram_fd, domain.table_fd]
    ports: list[Port] = []
    for flag, pfn, number in (
        (XENLIKE_START_STORE, domain.store_pfn, domain.store_port),
        (XENLIKE_START_CONSOLE, domain.console_pfn, domain.console_port),
    ):
        if number:
            flags |= flag
            # It may have given them back before it ever asked.
            descriptors.append(domain.pool.starting_at(pfn).fd)
            ports.append(domain.ports.get(number))
    if domain.flags & hc.XENLIKE_CREATE_PRIVILEGED:
        flags |= XENLIKE_START_PRIVILEGED
    domain.bootstrapped = True
    call.send = descriptors
    for port in ports:
        call.hand_over(port)
    info = StartInfo(
        flags=flags,
        domid=domain.domid,
        store_domid=domain.store_domid,
        console_domid=domain.console_domid,
        hypervisor_pid=os.getpid(),
        nr_pages=domain.nr_pages,
        pool_pages=domain.pool.nr_pages,
        nr_grant_frames=TABLE_FRAMES,
        store_gref=gt.GNTTAB_RESERVED_XENSTORE,
        store_port=domain.store_port,
        store_pfn=domain.store_pfn,
        console_gref=gt.GNTTAB_RESERVED_CONSOLE,
        console_port=domain.console_port,
        console_pfn=domain.console_pfn,
        name=domain.name,
    )
    os.pwrite(domain.ram_fd, info.pack(), 0)
    return call.answer(info)


def get_config(xen: Hypervisor, call: Call) -> int:
    """Passes on the toolstack's words, and the resource channel, once."""
    config, result = call.caller.config, 0
    if isinstance(config, int):
        call.send.append(config)
        result |= hc.XENLIKE_CONFIG_MEMFD
    else:
        call.out, call.out_count = config, len(config)
    if call.caller.resource_fd >= 0:
        # One reader only: it is handed over, not shared.
        call.give.append(call.caller.resource_fd)
        call.caller.resource_fd = -1
        result |= hc.XENLIKE_CONFIG_RESOURCE
    return result


def _granted(call: Call, args: hc.AllocWindow | hc.ReplaceWindow, window: Window) -> int:
    args.window = window.identity
    call.send = [window.fd]
    return call.answer(args)


def _peer(xen: Hypervisor, call: Call, domid: int) -> int:
    peer = call.caller.domid if domid == DOMID_SELF else domid
    target = xen.domains.get(peer)
    if target is None or not target.alive:
        raise Refused(errno.ESRCH)
    return peer


def alloc_window(xen: Hypervisor, call: Call) -> int:
    """Makes grantable memory for one peer and mode."""
    args = call.one(hc.AllocWindow)
    readonly = bool(args.flags & hc.XENLIKE_WINDOW_READONLY)
    window = call.caller.pool.allocate(_peer(xen, call, args.peer), args.nr_pages, readonly=readonly)
    args.pfn = window.pfn
    return _granted(call, args, window)


def replace_window(xen: Hypervisor, call: Call) -> int:
    """Puts fresh memory for another peer at the frames of a window."""
    args = call.one(hc.ReplaceWindow)
    readonly = bool(args.flags & hc.XENLIKE_WINDOW_READONLY)
    peer = _peer(xen, call, args.peer)
    return _granted(call, args, call.caller.pool.replace(args.pfn, peer, readonly=readonly))


def free_window(xen: Hypervisor, call: Call) -> int:
    """Takes a window back that nobody maps."""
    call.caller.pool.free(call.one(hc.FreeWindow).pfn)
    return 0


def seal_window(xen: Hypervisor, call: Call) -> int:
    """Lets the peer of a read-only window map it from now on."""
    call.caller.pool.starting_at(call.one(hc.SealWindow).pfn).seal()
    return 0


def recorder(xen: Hypervisor, call: Call) -> int:
    """Hands out a domain's recorder; it is made when somebody first asks for it."""
    domid = call.one(hc.RecorderOp).domid
    domain = call.caller if domid == DOMID_SELF else xen.domains.get(domid)
    if domain is not call.caller and not call.caller.flags & hc.XENLIKE_CREATE_PRIVILEGED:
        raise Refused(errno.EPERM)
    if domain is None:
        raise Refused(errno.ESRCH)
    call.send = [domain.recorder()]
    return 0


def grant_status(xen: Hypervisor, call: Call) -> int:
    """Tells how one reference stands. What the granter wrote is passed on as it is; nothing is decided by it."""
    args = call.one(hc.GrantStatus)
    domain = about(xen, call, args.domid)
    if args.ref >= NR_REFS or domain.table_fd < 0:
        raise Refused(errno.EINVAL)
    args.flags, args.peer, args.frame = _core.gnttab_get(domain.table.buffer, args.ref)
    window = domain.pool.find(args.frame)
    args.window_peer = DOMID_INVALID if window is None else window.peer
    pins = domain.pins.get(args.ref)
    args.nr_mapped = 0 if pins is None else pins.readers + pins.writers
    return call.answer(args)


def publish(xen: Hypervisor, call: Call) -> int:
    """Publishes statistics now, and for a while; for domain 0."""
    if call.caller.domid != 0:
        raise Refused(errno.EPERM)
    args = call.one(hc.Publish)
    if xen.publisher is None:
        raise Refused(errno.ENODEV)
    args.sequence = xen.publisher.ask(args.period_ms, args.lease_ms)
    return call.answer(args)


TABLE: Operations = {
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_BOOTSTRAP): bootstrap,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_ALLOC_WINDOW): alloc_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_FREE_WINDOW): free_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_REPLACE_WINDOW): replace_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_SEAL_WINDOW): seal_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GET_CONFIG): get_config,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_RECORDER): recorder,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_PUBLISH): publish,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GRANT_STATUS): grant_status,
}
