"""Collects the statistics of all domains and publishes them, a domain a turn of the loop.

Counters are copied out of the domains' recorders as they lie there, and not looked at: what a domain writes there
is for readers to judge, and costs the hypervisor the same whatever it is.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from xenlike.abi import recorder as rec
from xenlike.abi import statistics as st
from xenlike.hypervisor.frames import PAGE
from xenlike.hypervisor.schedule import Schedule
from xenlike.hypervisor.segment import Segment

if TYPE_CHECKING:
    from xenlike.hypervisor.domain import Domain
    from xenlike.hypervisor.hypervisor import Hypervisor

NS_PER_MS = 1_000_000
HEAD = st.StatisticsHead.__layout__.size
PLACE = rec.RecorderQueue.__layout__.size
PLACES = range(rec.XENLIKE_RECORDER_QUEUES_AT, rec.XENLIKE_RECORDER_RECORDS_AT, PLACE)
IN_USE = rec.RecorderQueue.__layout__.fields["in_use"].offset
PROD = rec.RecorderHead.__layout__.fields["prod"].offset
UNUSED = bytes(4)


class Publisher:
    """Publishes one machine's statistics.

    Args:
        xen: whose domains.
        segment: where.
        dom0_pid: the process behind domain 0.
        clock: in ns; CLOCK_MONOTONIC, which readers have too.
        used: processor time of this process in ns. What a collection costs is told by this one: a busy host may
            have anybody wait in the midst of it, and that is no reason to publish less.
    """

    def __init__(
        self,
        xen: Hypervisor,
        segment: Segment,
        dom0_pid: int,
        clock: Callable[[], int] = time.monotonic_ns,
        used: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self._xen = xen
        self._segment = segment
        self._dom0_pid = dom0_pid
        self._clock = clock
        self._used = used
        self._schedule = Schedule()
        self._generation = 0
        self._sequence = 0
        # Domids that the collection under way has not come to, the smallest last; None between two.
        self._left: list[int] | None = None
        self._parts: list[bytes] = []
        self._nr_domains = 0
        self._length = 0
        self._cost = 0

    def ask(self, period_ms: int, lease_ms: int) -> int:
        """Wants a snapshot now, and others in a period until the lease ends; see `Schedule`.

        Returns:
            The number of the first snapshot that is wholly newer than this call.
        """
        self._schedule.ask(self._clock(), period_ms * NS_PER_MS, lease_ms * NS_PER_MS)
        return self._sequence + (1 if self._left is None else 2)

    def wait_s(self) -> float | None:
        """For how long the loop may sleep: None for ever."""
        if self._left is not None:
            return 0.0
        now = self._clock()
        due = self._schedule.due(now)
        return None if due is None else max(0.0, (due - now) / 1e9)

    def turn(self) -> None:
        """Does a bounded piece of what is due: one domain, and after the last one the writing."""
        now = self._clock()
        if self._generation != self._xen.generation:
            self._generation = self._xen.generation
            self._schedule.changed(now)
        if self._left is None:
            due = self._schedule.due(now)
            if due is None or due > now:
                return
            self._schedule.began(now)
            self._left = sorted(self._xen.domains, reverse=True)
            self._parts, self._nr_domains, self._length, self._cost = [], 0, HEAD, 0
        begin = self._used()
        if self._left and (domain := self._xen.domains.get(self._left.pop())) is not None:
            self._add(domain)
        if not self._left:
            self._left = None
            self._publish(self._clock())
        self._cost += self._used() - begin
        if self._left is None:
            self._schedule.ended(self._clock(), self._cost)

    def close(self) -> None:
        """Removes the segment."""
        self._segment.remove()

    def _add(self, domain: Domain) -> None:
        queues, records = _queues(domain)
        record = self._describe(domain, records)
        room = st.XENLIKE_STATISTICS_BYTES_MAX - self._length - len(record.pack())
        if sum(map(len, queues)) > room:
            queues = []
        record.nr_queues = len(queues)
        part = b"".join([record.pack(), *queues])
        self._parts.append(part)
        self._length += len(part)
        self._nr_domains += 1

    def _describe(self, domain: Domain, records: int) -> st.StatisticsDomain:
        pid = domain.pid if domain.pidfd >= 0 else 0
        if domain.domid == 0:
            pid = self._dom0_pid
        windows = domain.pool.windows.values()
        return st.StatisticsDomain(
            domid=domain.domid,
            state=domain.state,
            flags=domain.flags,
            pid=pid,
            nr_ports=len(domain.ports.ports),
            nr_windows=len(windows),
            nr_mapped=sum([window.mapped for window in windows]),
            nr_handles=len(domain.mappings),
            cpu_ns=cpu_ns(pid) if pid else 0,
            nr_pages=domain.nr_pages,
            ram_pages=os.fstat(domain.ram_fd).st_blocks * 512 // PAGE if domain.ram_fd >= 0 else 0,
            pool_pages=domain.pool.nr_pages,
            window_pages=sum([window.nr_pages for window in windows]),
            records=records,
            name=domain.name,
        )

    def _publish(self, now: int) -> None:
        self._sequence += 1
        head = st.StatisticsHead(
            magic=st.XENLIKE_STATISTICS_MAGIC,
            version=st.XENLIKE_STATISTICS_VERSION,
            length=self._length,
            sequence=self._sequence,
            ns=now,
            cpu_ns=time.process_time_ns(),
            hypervisor_pid=os.getpid(),
            period_ms=self._schedule.period(now) // NS_PER_MS,
            nr_domains=self._nr_domains,
        )
        snapshot = bytearray(b"".join([head.pack(), *self._parts]))
        self._parts = []
        head.crc = zlib.crc32(memoryview(snapshot)[st.XENLIKE_STATISTICS_CRC_FROM :])
        snapshot[:HEAD] = head.pack()
        self._segment.write(bytes(snapshot))


def _queues(domain: Domain) -> tuple[list[bytes], int]:
    """Copies the queues that a domain says it has in use; and how many events it says it has traced."""
    if domain.recorder_fd < 0:
        return [], 0
    # One copy, of which alone anything is decided.
    memory = os.pread(domain.recorder_fd, rec.XENLIKE_RECORDER_RECORDS_AT, 0)
    queues = [
        memory[at : at + st.XENLIKE_STATISTICS_QUEUE_BYTES]
        for at in PLACES
        if memory[at + IN_USE : at + IN_USE + 4] != UNUSED
    ]
    return queues, int.from_bytes(memory[PROD : PROD + 8], "little")


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far, with its ended threads; 0 when it is gone.

    The clock of another process, as `clock_getcpuclockid` makes it (MAKE_PROCESS_CPUCLOCK in Linux's
    `posix-timers.h`): a microsecond, where reading `/proc` takes thirty.
    """
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return 0
