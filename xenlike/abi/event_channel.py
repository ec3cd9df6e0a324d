"""Event channels: operations, states and the two bitmap and FIFO forms (Xen's `event_channel.h`)."""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, Union, field
from xenlike.abi.types import Array, domid_t, evtchn_port_t, u8, u32, u64

EVTCHNOP_bind_interdomain: Final = 0
EVTCHNOP_bind_virq: Final = 1
EVTCHNOP_bind_pirq: Final = 2
EVTCHNOP_close: Final = 3
EVTCHNOP_send: Final = 4
EVTCHNOP_status: Final = 5
EVTCHNOP_alloc_unbound: Final = 6
EVTCHNOP_bind_ipi: Final = 7
EVTCHNOP_bind_vcpu: Final = 8
EVTCHNOP_unmask: Final = 9
EVTCHNOP_reset: Final = 10
EVTCHNOP_init_control: Final = 11
EVTCHNOP_expand_array: Final = 12
EVTCHNOP_set_priority: Final = 13

EVTCHNSTAT_closed: Final = 0
EVTCHNSTAT_unbound: Final = 1
EVTCHNSTAT_interdomain: Final = 2
EVTCHNSTAT_pirq: Final = 3
EVTCHNSTAT_virq: Final = 4
EVTCHNSTAT_ipi: Final = 5

EVTCHN_2L_NR_CHANNELS: Final = 8 * 8 * 64

EVTCHN_FIFO_PRIORITY_MAX: Final = 0
EVTCHN_FIFO_PRIORITY_DEFAULT: Final = 7
EVTCHN_FIFO_PRIORITY_MIN: Final = 15
EVTCHN_FIFO_MAX_QUEUES: Final = EVTCHN_FIFO_PRIORITY_MIN + 1
EVTCHN_FIFO_PENDING: Final = 31
EVTCHN_FIFO_MASKED: Final = 30
EVTCHN_FIFO_LINKED: Final = 29
EVTCHN_FIFO_BUSY: Final = 28
EVTCHN_FIFO_LINK_BITS: Final = 17
EVTCHN_FIFO_LINK_MASK: Final = (1 << EVTCHN_FIFO_LINK_BITS) - 1
EVTCHN_FIFO_NR_CHANNELS: Final = 1 << EVTCHN_FIFO_LINK_BITS


class EvtchnAllocUnbound(Struct, c="evtchn_alloc_unbound"):
    """Makes a port to which `remote_dom` may bind."""

    dom: domid_t = field("DOMID_SELF unless privileged")
    remote_dom: domid_t = field("who may bind")
    port: evtchn_port_t = field("out")


class EvtchnBindInterdomain(Struct, c="evtchn_bind_interdomain"):
    """Binds to a port that another domain made for the caller."""

    remote_dom: domid_t = field("the other domain")
    remote_port: evtchn_port_t = field("its port")
    local_port: evtchn_port_t = field("out")


class EvtchnBindVirq(Struct, c="evtchn_bind_virq"):
    """Binds a port to a virtual interrupt."""

    virq: u32 = field("VIRQ_*")
    vcpu: u32 = field("0")
    port: evtchn_port_t = field("out")


class EvtchnBindPirq(Struct, c="evtchn_bind_pirq"):
    """Hardware interrupts; not used by xenlike."""

    pirq: u32 = field()
    flags: u32 = field()
    port: evtchn_port_t = field("out")


class EvtchnBindIpi(Struct, c="evtchn_bind_ipi"):
    """Interrupts between virtual CPUs; not used by xenlike."""

    vcpu: u32 = field()
    port: evtchn_port_t = field("out")


class EvtchnClose(Struct, c="evtchn_close"):
    """Closes a port; the other end becomes unbound."""

    port: evtchn_port_t = field()


class EvtchnSend(Struct, c="evtchn_send"):
    """Notifies the other end; in xenlike a byte written to the port's descriptor does that."""

    port: evtchn_port_t = field()


class EvtchnStatusUnbound(Struct, c="evtchn_status_unbound", anonymous=True):
    """Anonymous in Xen's header."""

    dom: domid_t = field("who may bind")


class EvtchnStatusInterdomain(Struct, c="evtchn_status_interdomain", anonymous=True):
    """Anonymous in Xen's header."""

    dom: domid_t = field("the other end")
    port: evtchn_port_t = field("its port")


class EvtchnStatusDetail(Union, c="evtchn_status_detail", anonymous=True):
    """Anonymous in Xen's header."""

    unbound: EvtchnStatusUnbound = field("EVTCHNSTAT_unbound")
    interdomain: EvtchnStatusInterdomain = field("EVTCHNSTAT_interdomain")
    pirq: u32 = field("EVTCHNSTAT_pirq")
    virq: u32 = field("EVTCHNSTAT_virq")


class EvtchnStatus(Struct, c="evtchn_status"):
    """Asks what a port is bound to."""

    dom: domid_t = field("DOMID_SELF unless privileged")
    port: evtchn_port_t = field()
    status: u32 = field("out: EVTCHNSTAT_*")
    vcpu: u32 = field("out: 0")
    u: EvtchnStatusDetail = field("out: by status")


class EvtchnBindVcpu(Struct, c="evtchn_bind_vcpu"):
    """Says which virtual CPU a port notifies; not used by xenlike."""

    port: evtchn_port_t = field()
    vcpu: u32 = field()


class EvtchnUnmask(Struct, c="evtchn_unmask"):
    """Masking belongs to the guest in xenlike; not used."""

    port: evtchn_port_t = field()


class EvtchnReset(Struct, c="evtchn_reset"):
    """Closes all ports of a domain."""

    dom: domid_t = field("DOMID_SELF unless privileged")


class EvtchnInitControl(Struct, c="evtchn_init_control"):
    """FIFO form; not used by xenlike."""

    control_gfn: u64 = field()
    offset: u32 = field()
    vcpu: u32 = field()
    link_bits: u8 = field("out")
    _pad: Annotated[tuple[int, ...], Array(u8, 7)] = ()


class EvtchnExpandArray(Struct, c="evtchn_expand_array"):
    """FIFO form; not used by xenlike."""

    array_gfn: u64 = field()


class EvtchnSetPriority(Struct, c="evtchn_set_priority"):
    """FIFO form; not used by xenlike."""

    port: evtchn_port_t = field()
    priority: u32 = field()


class EvtchnOpArgument(Union, c="evtchn_op_argument", anonymous=True):
    """Anonymous in Xen's header."""

    alloc_unbound: EvtchnAllocUnbound = field()
    bind_interdomain: EvtchnBindInterdomain = field()
    bind_virq: EvtchnBindVirq = field()
    bind_pirq: EvtchnBindPirq = field()
    bind_ipi: EvtchnBindIpi = field()
    close: EvtchnClose = field()
    send: EvtchnSend = field()
    status: EvtchnStatus = field()
    bind_vcpu: EvtchnBindVcpu = field()
    unmask: EvtchnUnmask = field()


class EvtchnOp(Struct, c="evtchn_op"):
    """Argument of the old compatibility hypercall."""

    cmd: u32 = field("EVTCHNOP_*")
    u: EvtchnOpArgument = field()


class EvtchnFifoControlBlock(Struct, c="evtchn_fifo_control_block"):
    """FIFO form, one per virtual CPU."""

    ready: u32 = field()
    _rsvd: u32 = field()
    head: Annotated[tuple[int, ...], Array(u32, EVTCHN_FIFO_MAX_QUEUES)] = ()
