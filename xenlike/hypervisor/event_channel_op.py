"""`event_channel_op`, and the renewal of a channel's descriptors."""

from __future__ import annotations

import errno

from xenlike.abi import event_channel as ev
from xenlike.abi import hypercall as hc
from xenlike.abi.xen import DOMID_SELF
from xenlike.hypervisor.call import Call, Operations, about
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import PortState
from xenlike.hypervisor.hypervisor import Hypervisor


def alloc_unbound(xen: Hypervisor, call: Call) -> int:
    """Makes a port for one remote domain to bind to; answers with the near descriptors."""
    args = call.one(ev.EvtchnAllocUnbound)
    if args.dom not in (DOMID_SELF, call.caller.domid):
        # Descriptors go to the caller alone, so it cannot make a port for another domain.
        raise Refused(errno.EPERM)
    remote = call.caller.domid if args.remote_dom == DOMID_SELF else args.remote_dom
    port = xen.alloc_unbound(call.caller, remote)
    call.hand_over(port)
    args.port = port.number
    return call.answer(args)


def bind_interdomain(xen: Hypervisor, call: Call) -> int:
    """Joins a new port to a remote one that waits for the caller."""
    args = call.one(ev.EvtchnBindInterdomain)
    remote = call.caller.domid if args.remote_dom == DOMID_SELF else args.remote_dom
    port = xen.bind_interdomain(call.caller, remote, args.remote_port)
    call.hand_over(port)
    args.local_port = port.number
    return call.answer(args)


def bind_virq(xen: Hypervisor, call: Call) -> int:
    """Binds VIRQ_DOM_EXC; answers with the descriptor to wait on."""
    args = call.one(ev.EvtchnBindVirq)
    if args.vcpu != 0:
        raise Refused(errno.ENOENT)
    port, rx = xen.bind_virq(call.caller, args.virq)
    call.give.append(rx)
    args.port = port.number
    return call.answer(args)


def close(xen: Hypervisor, call: Call) -> int:
    """Closes a port of the caller."""
    ports = call.caller.ports
    xen.close_port(call.caller, ports.get(call.one(ev.EvtchnClose).port))
    return 0


def send(xen: Hypervisor, call: Call) -> int:
    """Checks the port only: an event is a byte that its owner writes to the port's descriptor."""
    port = call.caller.ports.get(call.one(ev.EvtchnSend).port)
    if port.state not in (PortState.INTERDOMAIN, PortState.UNBOUND):
        raise Refused(errno.EINVAL)
    return -errno.EOPNOTSUPP


def status(xen: Hypervisor, call: Call) -> int:
    """Says what a port is bound to."""
    args = call.one(ev.EvtchnStatus)
    domain = about(xen, call, args.dom)
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


def reset(xen: Hypervisor, call: Call) -> int:
    """Closes all ports of a domain."""
    domain = about(xen, call, call.one(ev.EvtchnReset).dom)
    for port in list(domain.ports.ports.values()):
        xen.close_port(domain, port)
    return 0


def carrier(xen: Hypervisor, call: Call) -> int:
    """Fresh descriptors for a port whose peer died, also when its successor has bound already."""
    port = call.caller.ports.get(call.one(hc.EvtchnCarrier).port)
    if port.near is None:
        if port.state != PortState.UNBOUND or not port.broken:
            raise Refused(errno.EBUSY)
        xen.renew(call.caller, port)
    call.hand_over(port)
    return 0


TABLE: Operations = {
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_alloc_unbound): alloc_unbound,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_interdomain): bind_interdomain,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_virq): bind_virq,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_close): close,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_send): send,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_status): status,
    (hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_reset): reset,
    (hc.HYPERVISOR_xenlike_op, hc.XENLIKE_EVTCHN_CARRIER): carrier,
}
