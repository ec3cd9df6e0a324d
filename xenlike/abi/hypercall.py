"""Hypercalls: messages on a domain's own `SOCK_SEQPACKET` socket, one each way, at most 4096 bytes.

    domain                                            hypervisor
    Hypercall {tag, op, cmd, count}
    count argument structures                  ->
                                               <-     HypercallReply {tag, ret, count, nr_fds}
                                                      the same structures, updated
                                                      nr_fds descriptors (SCM_RIGHTS, at most 253)

`op` and `cmd` are Xen's numbers, the structures Xen's, with pointers replaced by inline data; `ret` is
0 or a negative errno. Batched grant operations give a status per structure, and 0. Who the caller is
follows from the socket alone.
"""

from __future__ import annotations

from typing import Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import char64, domid_t, evtchn_port_t, s32, u16, u32, u64

HYPERVISOR_memory_op: Final = 12
HYPERVISOR_multicall: Final = 13
HYPERVISOR_xen_version: Final = 17
HYPERVISOR_console_io: Final = 18
HYPERVISOR_grant_table_op: Final = 20
HYPERVISOR_sched_op: Final = 29
HYPERVISOR_event_channel_op: Final = 32
HYPERVISOR_domctl: Final = 36
HYPERVISOR_xenlike_op: Final = 48
"""Xen's `__HYPERVISOR_arch_0`, which x86 leaves free in our world."""

XENLIKE_MESSAGE_MAX: Final = 4096
XENLIKE_MAX_FDS: Final = 253

XENLIKE_BOOTSTRAP: Final = 0
"""`xenlike_start_info` out; descriptors ram, grant_table, store_window, console_window, store_rx,
store_tx, console_rx, console_tx, without those of a store or console that the flags say is not there."""
XENLIKE_ALLOC_WINDOW: Final = 1
XENLIKE_FREE_WINDOW: Final = 2
XENLIKE_REPLACE_WINDOW: Final = 3
XENLIKE_SEAL_WINDOW: Final = 4
XENLIKE_EVTCHN_CARRIER: Final = 5
XENLIKE_GET_CONFIG: Final = 6
"""Bytes out, `count` of them, when at most `XENLIKE_CONFIG_INLINE_MAX`; else a memfd comes first."""

XENLIKE_RECORDER: Final = 7
"""`xenlike_recorder_op` in; the descriptor of a domain's recorder, see `xenlike.abi.recorder`."""

XENLIKE_GRANT_STATUS: Final = 8
"""`xenlike_grant_status` in and out: how one reference stands, for tools; oneself's, or as domain 0 anybody's."""
XENLIKE_PUBLISH: Final = 9
"""`xenlike_publish` in and out, from domain 0: publish statistics now, and for a while; see
`xenlike.abi.statistics`."""

XENLIKE_CONFIG_INLINE_MAX: Final = 4000
XENLIKE_CONFIG_MEMFD: Final = 1
"""`ret` of `XENLIKE_GET_CONFIG`: the first descriptor is a memfd with the configuration."""
XENLIKE_CONFIG_RESOURCE: Final = 2
"""`ret` of `XENLIKE_GET_CONFIG`: the last descriptor is the resource channel."""

XENLIKE_WINDOW_READONLY: Final = 1
"""The peer may only read."""

XEN_DOMCTL_createdomain: Final = 1
XEN_DOMCTL_destroydomain: Final = 2
XEN_DOMCTL_unpausedomain: Final = 4
XEN_DOMCTL_getdomaininfo: Final = 5

XENLIKE_CREATE_PRIVILEGED: Final = 1
XENLIKE_CREATE_STORE_SERVER: Final = 2
"""Its identity is kept for its successor."""
XENLIKE_CREATE_FORK: Final = 4
"""The zygote forks it."""
XENLIKE_CREATE_ADOPT: Final = 8
"""A process that already runs gets the socket."""
XENLIKE_CREATE_FIXED_DOMID: Final = 16
XENLIKE_CREATE_RESOURCE: Final = 32
"""A descriptor comes along: the domain's end of its resource channel."""
XENLIKE_CREATE_STDIO: Final = 64
"""The last descriptor that comes along takes a forked domain's output on descriptors 1 and 2."""
XENLIKE_CREATE_PAUSED: Final = 128
"""Its process is forked by `XEN_DOMCTL_unpausedomain`, when its creator has mapped its console."""
XENLIKE_CONFIG_IN_FD: Final = 0xFFFF_FFFF
"""`config_length` when the configuration is the first descriptor, a memfd."""

XENLIKE_DOMAIN_BUILDING: Final = 0
XENLIKE_DOMAIN_RUNNING: Final = 1
XENLIKE_DOMAIN_SHUTDOWN: Final = 2
XENLIKE_DOMAIN_DYING: Final = 3
"""Dead, but a peer still maps its pages: a zombie, whose domid is not used again."""
XENLIKE_DOMAIN_DEAD: Final = 4

XENLIKE_EXIT_UNKNOWN: Final = -255


class Hypercall(Struct, c="xenlike_hypercall"):
    """Head of a call."""

    tag: u32 = field("the caller's, echoed in the reply")
    op: u16 = field("number of the hypercall")
    cmd: u16 = field("sub-operation")
    count: u32 = field("argument structures that follow, or bytes where they are bytes")
    reserved: u32 = field("0")


class HypercallReply(Struct, c="xenlike_hypercall_reply"):
    """Head of a reply."""

    tag: u32 = field("of the call")
    ret: s32 = field("0 or more, or a negative errno")
    count: u32 = field("structures that follow")
    nr_fds: u32 = field("descriptors that come with it")


class MulticallEntry(Struct, c="xenlike_multicall_entry"):
    """One call of a batch: followed by `length` bytes of arguments, at no padding."""

    op: u16 = field("number of the hypercall")
    cmd: u16 = field("sub-operation")
    count: u32 = field("argument structures")
    length: u32 = field("bytes that follow this head")
    ret: s32 = field("out: 0 or more, or a negative errno")


class AllocWindow(Struct, c="xenlike_alloc_window"):
    """Makes grantable memory for one peer; its descriptor comes with the reply."""

    peer: domid_t = field("the one domain to which its pages can be granted")
    flags: u16 = field("XENLIKE_WINDOW_*")
    nr_pages: u32 = field("size", unit="pages")
    pfn: u64 = field("out: its first page")
    window: u64 = field("out: its number, machine-wide")


class FreeWindow(Struct, c="xenlike_free_window"):
    """Gives a window back; EBUSY while a page of it is mapped."""

    pfn: u64 = field("its first page")


class ReplaceWindow(Struct, c="xenlike_replace_window"):
    """Puts fresh memory for another peer behind the same pfns; EBUSY while a page is mapped."""

    peer: domid_t = field("the new peer")
    flags: u16 = field("XENLIKE_WINDOW_*")
    pad: u32 = field()
    pfn: u64 = field("its first page")
    window: u64 = field("out: its new number")


class SealWindow(Struct, c="xenlike_seal_window"):
    """Says that a read-only window is mapped writable by its owner: sealed now, and mappable."""

    pfn: u64 = field("its first page")


class EvtchnCarrier(Struct, c="xenlike_evtchn_carrier"):
    """Asks for fresh descriptors, rx and tx, for an unbound port whose peer died."""

    port: evtchn_port_t = field()
    pad: u32 = field()


class RecorderOp(Struct, c="xenlike_recorder_op"):
    """Asks for the caller's own recorder (DOMID_SELF), or, as domain 0, for anybody's."""

    domid: domid_t = field("whose")
    pad: u16 = field()


class GrantStatus(Struct, c="xenlike_grant_status"):
    """Asks how a reference of a domain's grant table stands."""

    domid: domid_t = field("whose table; DOMID_SELF, or as domain 0 anybody's")
    flags: u16 = field("out: the entry's GTF_*; 0: not granted")
    ref: u32 = field("the reference")
    peer: domid_t = field("out: whom the entry lets map it")
    window_peer: domid_t = field("out: whom the memory behind its frame is for; DOMID_INVALID: there is none")
    frame: u32 = field("out: the entry's frame")
    nr_mapped: u32 = field("out: how often it is mapped now")


class Publish(Struct, c="xenlike_publish"):
    """Asks for a snapshot of the statistics at once, and for others until the lease ends."""

    period_ms: u32 = field("between two of them; 0: only this one")
    lease_ms: u32 = field("for how long; of several leases the one with the shortest period counts")
    sequence: u64 = field("out: the snapshot with this number, or a later one, is newer than this call")


class CreateDomain(Struct, c="xenlike_domctl_createdomain"):
    """Makes a domain.

    Followed by `config_length` bytes of configuration, or the configuration is the first
    descriptor and `config_length` is `XENLIKE_CONFIG_IN_FD`.
    """

    domid: domid_t = field("out; in with XENLIKE_CREATE_FIXED_DOMID")
    flags: u16 = field("XENLIKE_CREATE_*")
    max_windows: u32 = field("windows the domain may have")
    nr_pages: u64 = field("private RAM", unit="pages")
    pool_pages: u64 = field("grantable memory at most", unit="pages")
    store_domid: domid_t = field("who serves its store ring; DOMID_INVALID: it has none")
    console_domid: domid_t = field("who serves its console ring; DOMID_INVALID: it has none")
    config_length: u32 = field("of the configuration", unit="B")
    name: char64 = field("its name")
    store_port: evtchn_port_t = field("out: its port of the store channel")
    console_port: evtchn_port_t = field("out: its port of the console channel")


class DestroyDomain(Struct, c="xenlike_domctl_destroydomain"):
    """Ends a domain by a signal."""

    domid: domid_t = field()
    pad: u16 = field()
    signal: u32 = field("9 unless asked otherwise")


class UnpauseDomain(Struct, c="xenlike_domctl_unpausedomain"):
    """Starts a domain that was created paused."""

    domid: domid_t = field()
    pad: u16 = field()


class GetDomainInfo(Struct, c="xenlike_domctl_getdomaininfo"):
    """Asks for one domain's state."""

    domid: domid_t = field("whose")
    state: u16 = field("out: XENLIKE_DOMAIN_*")
    flags: u16 = field("out: XENLIKE_CREATE_*")
    was_shut_down: u16 = field("out: 1 when it ended by SCHEDOP_shutdown, so that the reason counts")
    pid: u32 = field("out")
    shutdown_reason: u32 = field("out: SHUTDOWN_*")
    exit_code: s32 = field("out: exit status, -N for signal N, or XENLIKE_EXIT_UNKNOWN")
    nr_ports: u32 = field("out: event channels")
    nr_windows: u32 = field("out: windows")
    nr_mapped: u32 = field("out: its pages mapped by others")
    nr_pages: u64 = field("out: private RAM", unit="pages")
    pool_pages: u64 = field("out: grantable memory at most", unit="pages")
    name: char64 = field("out")
