"""What a domain is told at birth: the answer to `XENLIKE_BOOTSTRAP`, also in its page 0.

The memory of pfn `p` lies at `guest_base + p * 4096`, for private RAM (`0 .. nr_pages`) and for the
grant pool (`pool_base_pfn .. pool_base_pfn + pool_pages`) alike, so pointers survive a restore.
"""

from __future__ import annotations

from typing import Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import char64, domid_t, evtchn_port_t, gref_t, u32, u64

XENLIKE_START_MAGIC: Final = int.from_bytes(b"xenlike1", "little")
XENLIKE_START_VERSION: Final = 1

XENLIKE_START_STORE: Final = 1
"""The domain has a store ring."""
XENLIKE_START_CONSOLE: Final = 2
"""The domain has a console ring."""
XENLIKE_START_PRIVILEGED: Final = 4
"""The domain may use domctl and act for others, as domain 0."""

XENLIKE_GUEST_BASE: Final = 0x1000_0000_0000
XENLIKE_POOL_BASE_PFN: Final = 0x80_0000


class StartInfo(Struct, c="xenlike_start_info"):
    """Identity, memory layout, and how to reach the store and the console."""

    magic: u64 = field('"xenlike1" in memory order', default=XENLIKE_START_MAGIC)
    version: u32 = field("XENLIKE_START_VERSION", default=XENLIKE_START_VERSION)
    flags: u32 = field("XENLIKE_START_*")
    domid: domid_t = field("the domain's own")
    store_domid: domid_t = field("who serves the store ring")
    console_domid: domid_t = field("who serves the console ring")
    parent_domid: domid_t = field("who created the domain")
    hypervisor_pid: u32 = field("for the parent-death check")
    pad: u32 = field()
    guest_base: u64 = field("suggested virtual address of pfn 0", default=XENLIKE_GUEST_BASE)
    nr_pages: u64 = field("pages of private RAM")
    pool_base_pfn: u64 = field("first pfn of the grant pool", default=XENLIKE_POOL_BASE_PFN)
    pool_pages: u64 = field("pages the pool can have")
    nr_grant_frames: u32 = field("pages of the grant table")
    store_gref: gref_t = field("1, as in Xen")
    store_port: evtchn_port_t = field("event channel of the store ring")
    pad2: u32 = field()
    store_pfn: u64 = field("page of the store ring")
    console_gref: gref_t = field("0, as in Xen")
    console_port: evtchn_port_t = field("event channel of the console ring")
    console_pfn: u64 = field("page of the console ring")
    features: u64 = field("none defined")
    name: char64 = field("the domain's name")
