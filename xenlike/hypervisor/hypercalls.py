"""From a message to a reply: every hypercall, by Xen's numbers.

A call is decoded, carried out at once and answered; nothing in here waits. What a domain sends is data of
a stranger: a malformed message is -EINVAL, an unknown operation -ENOSYS, and neither harms anyone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from xenlike.abi import event_channel as ev
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi import sched
from xenlike.abi.start_info import (
    XENLIKE_START_CONSOLE,
    XENLIKE_START_PRIVILEGED,
    XENLIKE_START_STORE,
    StartInfo,
)
from xenlike.abi.struct import Struct
from xenlike.abi.xen import DOMID_SELF, XEN_VERSION, XENVER_version
from xenlike.hypervisor.domain import TABLE_FRAMES, Domain
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import Port, PortState
from xenlike.hypervisor.frames import Window
from xenlike.hypervisor.hypervisor import Hypervisor

S = TypeVar("S", bound=Struct)

CALL = hc.Hypercall.__layout__.size
ENTRY = hc.MulticallEntry.__layout__.size
# A reply's descriptors must fit one message, and so must a batch of maps in the worst case.
MAX_FDS = hc.XENLIKE_MAX_FDS


@dataclass(slots=True)
class Call:
    """One hypercall under way: what came, and what goes back."""

    caller: Domain
    cmd: int
    count: int
    payload: bytes
    fds: list[int] = field(default_factory=list)
    """Descriptors that came along; whoever takes one over removes it."""
    out: bytes = b""
    out_count: int = 0
    send: list[int] = field(default_factory=list)
    """Descriptors that go back and stay the hypervisor's."""
    give: list[int] = field(default_factory=list)
    """Descriptors that go back and are closed here afterwards; sent after those in `send`."""
    silent: bool = False
    """The caller is gone: SCHEDOP_shutdown does not return."""

    def one(self, kind: type[S]) -> S:
        """Returns the one argument structure; Refused(EINVAL) when that is not what came."""
        if self.count != 1 or len(self.payload) < kind.__layout__.size:
            raise Refused(errno.EINVAL)
        return kind.unpack(self.payload)

    def many(self, kind: type[S]) -> list[S]:
        """Returns the argument structures of a batch."""
        size = kind.__layout__.size
        if len(self.payload) != self.count * size:
            raise Refused(errno.EINVAL)
        return [kind.unpack(self.payload, at) for at in range(0, len(self.payload), size)]

    def answer(self, *arguments: Struct) -> int:
        """Sends the structures back, updated."""
        self.out = b"".join([argument.pack() for argument in arguments])
        self.out_count = len(arguments)
        return 0

    def drop(self) -> None:
        """Takes the answer back; closes the descriptors that were to be given away."""
        for fd in self.give:
            os.close(fd)
        self.give, self.send, self.out, self.out_count = [], [], b"", 0

    def hand_over(self, port: Port) -> None:
        """Sends this end's descriptors of a channel."""
        if port.near is not None:
            self.give += port.near
            port.near = None


Handler = Callable[["Hypercalls", Call], int]


class Hypercalls:
    """Carries out the calls of all domains on one hypervisor."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._xen = hypervisor

    def handle(self, caller: Domain, message: bytes, fds: list[int]) -> tuple[bytes, Call] | None:
        """Answers one message.

        Args:
            caller: whose socket it came from.
            message: at most 4096 bytes.
            fds: descriptors that came with it (from privileged domains only).

        Returns:
            The reply and its call, whose `send` and `give` go along; None when there is nobody to answer.
        """
        if len(message) < CALL:
            return hc.HypercallReply(ret=-errno.EINVAL).pack(), Call(caller, 0, 0, b"")
        head = hc.Hypercall.unpack(message)
        call = Call(caller, head.cmd, head.count, message[CALL:], fds)
        result = self._dispatch(head.op, call)
        if call.silent:
            call.drop()
            return None
        reply = hc.HypercallReply(head.tag, result, call.out_count, len(call.send) + len(call.give))
        return reply.pack() + call.out, call

    def _dispatch(self, op: int, call: Call) -> int:
        handler = OPERATIONS.get((op, call.cmd))
        if handler is None:
            return -errno.ENOSYS
        if op == hc.HYPERVISOR_domctl and not _may_domctl(call):
            return -errno.EPERM
        try:
            return handler(self, call)
        except Refused as refused:
            result = refused.errno
        except OSError as error:
            # The host refused; whatever the caller did to bring that about is its own loss.
            result = error.errno or errno.EIO
        except ValueError:
            # A number that does not fit its field: the caller's arguments made it.
            result = errno.EINVAL
        call.drop()
        return -result

    # -- xen_version, multicall --------------------------------------------------------------------

    def version(self, call: Call) -> int:
        return XEN_VERSION[0] << 16 | XEN_VERSION[1]

    def multicall(self, call: Call) -> int:
        """Carries out several calls in order; each has its own result. None of them may be a batch."""
        out: list[bytes] = []
        done = 0
        for entry, body in _entries(call):
            inner = Call(call.caller, entry.cmd, entry.count, body)
            if entry.op in (hc.HYPERVISOR_multicall, hc.HYPERVISOR_domctl):
                entry.ret = -errno.ENOSYS
            else:
                entry.ret = self._dispatch(entry.op, inner)
            # In the order in which they belong to the entries: those that stay come as duplicates.
            try:
                call.give += [os.dup(fd) for fd in inner.send]
            finally:
                call.give += inner.give
            call.silent |= inner.silent
            entry.count, entry.length = inner.out_count, len(inner.out)
            out += [entry.pack(), inner.out]
            done += 1
            if call.silent:
                break
        call.out, call.out_count = b"".join(out), done
        if len(call.out) + hc.HypercallReply.__layout__.size > hc.XENLIKE_MESSAGE_MAX or len(call.give) > MAX_FDS:
            raise Refused(errno.E2BIG)
        return 0

    # -- sched_op ----------------------------------------------------------------------------------

    def shutdown(self, call: Call) -> int:
        reason = call.one(sched.SchedShutdown).reason
        if reason > sched.SHUTDOWN_MAX:
            raise Refused(errno.EINVAL)
        if call.caller.domid == 0:
            raise Refused(errno.EPERM)
        call.silent = True
        self._xen.shut_down(call.caller, reason)
        return 0

    def remote_shutdown(self, call: Call) -> int:
        args = call.one(sched.SchedRemoteShutdown)
        if call.caller.domid != 0:
            raise Refused(errno.EPERM)
        if args.reason > sched.SHUTDOWN_MAX:
            raise Refused(errno.EINVAL)
        self._xen.shut_down(self._domain(args.domain_id), args.reason)
        return 0

    def nothing(self, call: Call) -> int:
        """SCHEDOP_yield and SCHEDOP_block: a process yields and blocks without us."""
        return 0

    # -- event_channel_op --------------------------------------------------------------------------

    def _self(self, domid: int, caller: Domain) -> Domain:
        """Whom a call is about: oneself, or for domain 0 anyone."""
        if domid in (DOMID_SELF, caller.domid):
            return caller
        if caller.domid != 0:
            raise Refused(errno.EPERM)
        return self._domain(domid)

    def _domain(self, domid: int) -> Domain:
        domain = self._xen.domains.get(domid)
        if domain is None:
            raise Refused(errno.ESRCH)
        return domain

    def alloc_unbound(self, call: Call) -> int:
        args = call.one(ev.EvtchnAllocUnbound)
        if args.dom not in (DOMID_SELF, call.caller.domid):
            # Descriptors go to the caller alone, so it cannot make a port for another domain.
            raise Refused(errno.EPERM)
        remote = call.caller.domid if args.remote_dom == DOMID_SELF else args.remote_dom
        port = self._xen.alloc_unbound(call.caller, remote)
        call.hand_over(port)
        args.port = port.number
        return call.answer(args)

    def bind_interdomain(self, call: Call) -> int:
        args = call.one(ev.EvtchnBindInterdomain)
        remote = call.caller.domid if args.remote_dom == DOMID_SELF else args.remote_dom
        port = self._xen.bind_interdomain(call.caller, remote, args.remote_port)
        call.hand_over(port)
        args.local_port = port.number
        return call.answer(args)

    def bind_virq(self, call: Call) -> int:
        args = call.one(ev.EvtchnBindVirq)
        if args.vcpu != 0:
            raise Refused(errno.ENOENT)
        port, rx = self._xen.bind_virq(call.caller, args.virq)
        call.give.append(rx)
        args.port = port.number
        return call.answer(args)

    def close(self, call: Call) -> int:
        ports = call.caller.ports
        self._xen.close_port(call.caller, ports.get(call.one(ev.EvtchnClose).port))
        return 0

    def send(self, call: Call) -> int:
        """Checks the port only: an event is a byte that its owner writes to the port's descriptor."""
        port = call.caller.ports.get(call.one(ev.EvtchnSend).port)
        if port.state not in (PortState.INTERDOMAIN, PortState.UNBOUND):
            raise Refused(errno.EINVAL)
        return -errno.EOPNOTSUPP

    def status(self, call: Call) -> int:
        args = call.one(ev.EvtchnStatus)
        domain = self._self(args.dom, call.caller)
        port = domain.ports.ports.get(args.port)
        if args.port == 0 or args.port > ev.EVTCHN_FIFO_NR_CHANNELS:
            raise Refused(errno.EINVAL)
        args.vcpu = 0
        if port is None:
            args.status = PortState.CLOSED
            return call.answer(args)
        args.status = port.state
        if port.state == PortState.UNBOUND:
            args.u = ev.EvtchnStatusDetail(unbound=ev.EvtchnStatusUnbound(port.remote_domid))
        elif port.state == PortState.INTERDOMAIN:
            pair = ev.EvtchnStatusInterdomain(port.remote_domid, port.remote_port)
            args.u = ev.EvtchnStatusDetail(interdomain=pair)
        else:
            args.u = ev.EvtchnStatusDetail(virq=port.virq)
        return call.answer(args)

    def reset(self, call: Call) -> int:
        domain = self._self(call.one(ev.EvtchnReset).dom, call.caller)
        for port in list(domain.ports.ports.values()):
            self._xen.close_port(domain, port)
        return 0

    def carrier(self, call: Call) -> int:
        """Fresh descriptors for a port whose peer died, also when its successor has bound already."""
        port = call.caller.ports.get(call.one(hc.EvtchnCarrier).port)
        if port.near is None:
            if port.state != PortState.UNBOUND or not port.broken:
                raise Refused(errno.EBUSY)
            self._xen.renew(call.caller, port)
        call.hand_over(port)
        return 0

    # -- grant_table_op ----------------------------------------------------------------------------

    def map(self, call: Call) -> int:
        operations = call.many(gt.GnttabMapGrantRef)
        call.send = self._xen.grants.map(call.caller, operations)
        return call.answer(*operations)

    def unmap(self, call: Call) -> int:
        operations = call.many(gt.GnttabUnmapGrantRef)
        self._xen.bury_zombies(self._xen.grants.unmap(call.caller, operations))
        return call.answer(*operations)

    def copy(self, call: Call) -> int:
        operations = call.many(gt.GnttabCopy)
        self._xen.grants.copy(call.caller, operations)
        return call.answer(*operations)

    def query_size(self, call: Call) -> int:
        args = call.one(gt.GnttabQuerySize)
        self._self(args.dom, call.caller)
        args.nr_frames = args.max_nr_frames = TABLE_FRAMES
        args.status = gt.GNTST_okay
        return call.answer(args)

    def set_version(self, call: Call) -> int:
        args = call.one(gt.GnttabSetVersion)
        if args.version != 1:
            # Xen answers with the version in force.
            args.version = 1
            call.answer(args)
            return -errno.EINVAL
        return call.answer(args)

    def get_version(self, call: Call) -> int:
        args = call.one(gt.GnttabGetVersion)
        self._self(args.dom, call.caller)
        args.version = 1
        return call.answer(args)

    # -- xenlike_op --------------------------------------------------------------------------------

    def bootstrap(self, call: Call) -> int:
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

    def _granted(self, call: Call, args: hc.AllocWindow | hc.ReplaceWindow, window: Window) -> int:
        args.window = window.identity
        call.send = [window.fd]
        return call.answer(args)

    def _peer(self, call: Call, domid: int) -> int:
        peer = call.caller.domid if domid == DOMID_SELF else domid
        target = self._xen.domains.get(peer)
        if target is None or not target.alive:
            raise Refused(errno.ESRCH)
        return peer

    def alloc_window(self, call: Call) -> int:
        args = call.one(hc.AllocWindow)
        readonly = bool(args.flags & hc.XENLIKE_WINDOW_READONLY)
        window = call.caller.pool.allocate(self._peer(call, args.peer), args.nr_pages, readonly=readonly)
        args.pfn = window.pfn
        return self._granted(call, args, window)

    def replace_window(self, call: Call) -> int:
        args = call.one(hc.ReplaceWindow)
        readonly = bool(args.flags & hc.XENLIKE_WINDOW_READONLY)
        peer = self._peer(call, args.peer)
        return self._granted(call, args, call.caller.pool.replace(args.pfn, peer, readonly=readonly))

    def free_window(self, call: Call) -> int:
        call.caller.pool.free(call.one(hc.FreeWindow).pfn)
        return 0

    def seal_window(self, call: Call) -> int:
        call.caller.pool.starting_at(call.one(hc.SealWindow).pfn).seal()
        return 0

    def get_config(self, call: Call) -> int:
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

    # -- domctl (domain 0) -------------------------------------------------------------------------

    def create_domain(self, call: Call) -> int:
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
        if isinstance(config, bytes) and (
            len(config) != args.config_length or len(config) > hc.XENLIKE_CONFIG_INLINE_MAX
        ):
            raise Refused(errno.EINVAL)
        resource_fd = next(given) if wanted[1] else -1
        stdio_fd = next(given) if wanted[2] else -1
        _, theirs = self._xen.create(args, config, resource_fd=resource_fd, stdio_fd=stdio_fd)
        call.fds.clear()
        if theirs is not None:
            call.give.append(theirs.detach())
        return call.answer(args)

    def destroy_domain(self, call: Call) -> int:
        domain = self._domain(call.one(hc.DestroyDomain).domid)
        if domain.domid == 0:
            raise Refused(errno.EINVAL)
        self._xen.destroy(domain)
        return 0

    def domain_info(self, call: Call) -> int:
        """The first domain at or after the number asked for, as Xen's getdomaininfo."""
        args = call.one(hc.GetDomainInfo)
        at_or_after = [domid for domid in self._xen.domains if domid >= args.domid]
        if not at_or_after:
            raise Refused(errno.ESRCH)
        domain = self._xen.domains[min(at_or_after)]
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


def _entries(call: Call) -> list[tuple[hc.MulticallEntry, bytes]]:
    """Takes a multicall apart before any of it is done; Refused(EINVAL) when it is not what it says."""
    entries: list[tuple[hc.MulticallEntry, bytes]] = []
    payload, at = call.payload, 0
    while at < len(payload) and len(entries) < call.count:
        if len(payload) < at + ENTRY:
            raise Refused(errno.EINVAL)
        entry = hc.MulticallEntry.unpack(payload, at)
        body = payload[at + ENTRY : at + ENTRY + entry.length]
        at += ENTRY + entry.length
        entries.append((entry, body))
    if at != len(payload) or len(entries) != call.count:
        raise Refused(errno.EINVAL)
    return entries


def _may_domctl(call: Call) -> bool:
    """Domain 0 may do all; a privileged server may look at the domains it serves."""
    privileged = bool(call.caller.flags & hc.XENLIKE_CREATE_PRIVILEGED)
    return call.caller.domid == 0 or (privileged and call.cmd == hc.XEN_DOMCTL_getdomaininfo)


OPERATIONS: dict[tuple[int, int], Handler] = {
    (hc.HYPERVISOR_xen_version, XENVER_version): Hypercalls.version,
    (hc.HYPERVISOR_multicall, 0): Hypercalls.multicall,
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_yield): Hypercalls.nothing,
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_block): Hypercalls.nothing,
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_shutdown): Hypercalls.shutdown,
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_remote_shutdown): Hypercalls.remote_shutdown,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_alloc_unbound): Hypercalls.alloc_unbound,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_interdomain): Hypercalls.bind_interdomain,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_virq): Hypercalls.bind_virq,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_close): Hypercalls.close,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_send): Hypercalls.send,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_status): Hypercalls.status,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_reset): Hypercalls.reset,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_map_grant_ref): Hypercalls.map,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_unmap_grant_ref): Hypercalls.unmap,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_copy): Hypercalls.copy,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_query_size): Hypercalls.query_size,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_set_version): Hypercalls.set_version,
    (hc.HYPERVISOR_grant_table_op, gt.GNTTABOP_get_version): Hypercalls.get_version,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_BOOTSTRAP): Hypercalls.bootstrap,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_ALLOC_WINDOW): Hypercalls.alloc_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_FREE_WINDOW): Hypercalls.free_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_REPLACE_WINDOW): Hypercalls.replace_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_SEAL_WINDOW): Hypercalls.seal_window,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_EVTCHN_CARRIER): Hypercalls.carrier,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GET_CONFIG): Hypercalls.get_config,
    (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_createdomain): Hypercalls.create_domain,
    (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_destroydomain): Hypercalls.destroy_domain,
    (hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_getdomaininfo): Hypercalls.domain_info,
}
