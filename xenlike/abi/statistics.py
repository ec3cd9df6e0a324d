"""A machine's published statistics: a named POSIX shared-memory segment that only the hypervisor writes.

    StatisticsHead
    StatisticsDomain        of the domain with the smallest number
    nr_queues x 248 bytes   its queues: RecorderQueue up to, and without, `addresses`
    StatisticsDomain        of the next
    ...

Writers use pwrite and readers pread; nobody maps it. POSIX shared memory takes no seals, and domains run as the
user who owns it: one that shrinks the segment would kill with SIGBUS whoever has it mapped, and with pread merely
shows itself to have done so. A snapshot is whole when the head's `crc` is that of what follows it; a reader that
caught a half-written one reads again. What queues say is each domain's own word, numbers and names alike.
"""

from __future__ import annotations

from typing import Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import char64, domid_t, u16, u32, u64

XENLIKE_STATISTICS_MAGIC: Final = int.from_bytes(b"XLST", "little")
XENLIKE_STATISTICS_VERSION: Final = 1
XENLIKE_STATISTICS_BYTES_MAX: Final = 64 << 20
"""No snapshot is longer."""
XENLIKE_STATISTICS_CRC_FROM: Final = 16
"""Where in the head begins what `crc` is of."""
XENLIKE_STATISTICS_QUEUE_BYTES: Final = 248


class StatisticsHead(Struct, c="xenlike_statistics"):
    """The snapshot's beginning."""

    magic: u32 = field('"XLST" in memory order')
    version: u32 = field("XENLIKE_STATISTICS_VERSION")
    length: u32 = field("of the snapshot, with this head", unit="B")
    crc: u32 = field("CRC-32 (IEEE 802.3) of the `length - 16` bytes that follow")
    sequence: u64 = field("snapshots so far")
    ns: u64 = field("when its collection ended, by CLOCK_MONOTONIC", unit="ns")
    cpu_ns: u64 = field("processor time of the hypervisor itself", unit="ns")
    hypervisor_pid: u32 = field()
    period_ms: u32 = field("0 while nobody asks for more than births and deaths")
    nr_domains: u32 = field("StatisticsDomain that follow, each with its queues")
    pad: u32 = field()


class StatisticsDomain(Struct, c="xenlike_statistics_domain"):
    """One domain, as the hypervisor knows it."""

    domid: domid_t = field()
    state: u16 = field("XENLIKE_DOMAIN_*")
    flags: u16 = field("XENLIKE_CREATE_*")
    nr_queues: u16 = field("queues that follow: rings that it says it has in use")
    pid: u32 = field("0: a process that was not started here, or none any more")
    nr_ports: u32 = field("event channels")
    nr_windows: u32 = field("windows")
    nr_mapped: u32 = field("its pages that others map", unit="pages")
    nr_handles: u32 = field("others' pages that it maps", unit="pages")
    pad: u32 = field()
    cpu_ns: u64 = field("processor time of its process; 0 where that is not known", unit="ns")
    nr_pages: u64 = field("private RAM", unit="pages")
    ram_pages: u64 = field("of that, touched so far", unit="pages")
    pool_pages: u64 = field("grantable memory at most", unit="pages")
    window_pages: u64 = field("of that, in windows", unit="pages")
    records: u64 = field("events of its trace so far: its own word")
    name: char64 = field()
