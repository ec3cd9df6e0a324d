"""What a machine has counted: the reader of its published statistics.

    snapshot = await fresh("lab")                   # asks for one, and reads it
    for domain in snapshot.domains:
        print(domain.name, domain.cpu_s, sum(queue.requests for queue in domain.queues))

`read` alone asks nobody: it also works while the machine's own process is busy, with what was published last. In a
segment that any domain may have scribbled into (`xenlike.abi.statistics` says why), nothing is believed: what is no
whole snapshot is `Torn`, numbers may be anything, and names have no characters that a terminal would obey.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import zlib
from pathlib import Path

import msgspec
import posix_ipc
import trio

from xenlike.abi import recorder as rec
from xenlike.abi import statistics as st
from xenlike.errors import MachineError
from xenlike.toolstack.control import connect
from xenlike.toolstack.paths import MachinePaths, owner_of
from xenlike.toolstack.report import STATES

PAGE = 4096
HEAD = st.StatisticsHead.__layout__.size
DOMAIN = st.StatisticsDomain.__layout__.size
QUEUE = st.XENLIKE_STATISTICS_QUEUE_BYTES
SIDES = ("front", "back", "producer", "consumer")
BROKEN = {0: "", 1: "the peer ran ahead", 2: "the peer went back", 3: "closed", 4: "bad tag"}
TRIES = 50
BETWEEN_TRIES_S = 0.001
PATIENCE_S = 1.0
"""How long the machine's own process may take to pass a wish on before what there is has to do."""
WHOLE_QUEUE = bytes(rec.RecorderQueue.__layout__.size - QUEUE)


class Torn(MachineError):
    """The segment holds no whole snapshot: one is being written, or somebody else than the hypervisor wrote there."""


class QueueStatistics(msgspec.Struct, frozen=True):
    """One end of a ring, as its domain counts it; all of it is that domain's word.

    Attributes:
        number: which of the domain's queues.
        name: the device's nodename, such as `device/vbd/51712`.
        side: `front`, `back`, `producer` or `consumer`; `?` for what is none.
        slots: of the ring.
        in_flight: slots that are not free, as this end sees it; None when its indices are impossible.
        requests: entries that went from front to back, or from producer to consumer.
        responses: entries that went the other way.
        kicks: announcements of entries.
        notifications: kicks for which the other end had to be notified.
        arms: times it asked to be notified.
        late: those that found work already there.
        spins_hit: spins that brought work.
        spins_missed: spins that brought none.
        sleeps: times it slept on its event channel.
        spurious: wakes that brought nothing.
        full: times somebody had to wait for room.
        starved: how many wait for a page of the device's pool, now.
        broken: why nothing goes over this ring any more; empty while it is well.
    """

    number: int
    name: str
    side: str
    slots: int
    in_flight: int | None
    requests: int
    responses: int
    kicks: int
    notifications: int
    arms: int
    late: int
    spins_hit: int
    spins_missed: int
    sleeps: int
    spurious: int
    full: int
    starved: int
    broken: str


class DomainStatistics(msgspec.Struct, frozen=True):
    """One domain.

    Attributes:
        domid: its number.
        name: its name.
        state: as in `xenlike list`.
        pid: of its process; None when it has none, or one that was not started here.
        cpu_s: processor time of that process.
        ram: private memory that it may have, in bytes.
        ram_used: what of that it has touched.
        pool: grantable memory that it may have, in bytes.
        pool_used: what of that is in windows.
        ports: event channels.
        windows: windows of grantable memory.
        mapped_pages: its pages that others map.
        foreign_pages: others' pages that it maps.
        traced: events of its trace so far, its own word.
        queues: ends of rings that it has in use.
    """

    domid: int
    name: str
    state: str
    pid: int | None
    cpu_s: float
    ram: int
    ram_used: int
    pool: int
    pool_used: int
    ports: int
    windows: int
    mapped_pages: int
    foreign_pages: int
    traced: int
    queues: list[QueueStatistics]


class Snapshot(msgspec.Struct, frozen=True):
    """All domains at one moment.

    Attributes:
        sequence: number of the snapshot since the machine began.
        time_s: of CLOCK_MONOTONIC, when it was complete.
        period_s: in which others follow; 0 when nobody has asked for that.
        hypervisor_pid: the hypervisor's process.
        hypervisor_cpu_s: processor time of it.
        domains: by domid.
    """

    sequence: int
    time_s: float
    period_s: float
    hypervisor_pid: int
    hypervisor_cpu_s: float
    domains: list[DomainStatistics]

    @property
    def age_s(self) -> float:
        """How old it is."""
        return max(0.0, time.monotonic() - self.time_s)


def parse(data: bytes) -> Snapshot:
    """Takes a snapshot apart.

    Raises:
        Torn: it is not whole.
    """
    if len(data) < HEAD:
        raise Torn("the statistics are shorter than their head")
    head = st.StatisticsHead.unpack(data)
    if head.magic != st.XENLIKE_STATISTICS_MAGIC:
        raise Torn("there are no statistics in the segment")
    if head.version != st.XENLIKE_STATISTICS_VERSION:
        raise Torn(f"the statistics have version {head.version}; this xenlike reads {st.XENLIKE_STATISTICS_VERSION}")
    if not HEAD <= head.length <= len(data):
        raise Torn("the statistics end before they are complete")
    body = memoryview(data)[st.XENLIKE_STATISTICS_CRC_FROM : head.length]
    if zlib.crc32(body) != head.crc:
        raise Torn("the statistics' checksum is wrong")
    return Snapshot(
        sequence=head.sequence,
        time_s=head.ns / 1e9,
        period_s=head.period_ms / 1e3,
        hypervisor_pid=head.hypervisor_pid,
        hypervisor_cpu_s=head.cpu_ns / 1e9,
        domains=_domains(data[: head.length], head.nr_domains),
    )


def _domains(data: bytes, count: int) -> list[DomainStatistics]:
    domains: list[DomainStatistics] = []
    at = HEAD
    while at < len(data):
        if at + DOMAIN > len(data):
            raise Torn("a domain's statistics are cut off")
        record = st.StatisticsDomain.unpack(data, at)
        # In order, so that there cannot be more of them than domids.
        if domains and record.domid <= domains[-1].domid:
            raise Torn(f"the statistics have d{record.domid} behind d{domains[-1].domid}")
        at += DOMAIN
        end = at + record.nr_queues * QUEUE
        if record.nr_queues > rec.XENLIKE_RECORDER_QUEUES or end > len(data):
            raise Torn(f"the statistics of d{record.domid} are cut off")
        domains.append(_domain(record, [_queue(data[place : place + QUEUE]) for place in range(at, end, QUEUE)]))
        at = end
    if len(domains) != count:
        raise Torn(f"the statistics have {len(domains)} domains instead of {count}")
    return domains


def _domain(record: st.StatisticsDomain, queues: list[QueueStatistics]) -> DomainStatistics:
    return DomainStatistics(
        domid=record.domid,
        name=clean(record.name),
        state=STATES.get(record.state, str(record.state)),
        pid=record.pid or None,
        cpu_s=record.cpu_ns / 1e9,
        ram=record.nr_pages * PAGE,
        ram_used=record.ram_pages * PAGE,
        pool=record.pool_pages * PAGE,
        pool_used=record.window_pages * PAGE,
        ports=record.nr_ports,
        windows=record.nr_windows,
        mapped_pages=record.nr_mapped,
        foreign_pages=record.nr_handles,
        traced=record.records,
        queues=queues,
    )


def _queue(data: bytes) -> QueueStatistics:
    place = rec.RecorderQueue.unpack(data + WHOLE_QUEUE)
    side = SIDES[place.side] if place.side < len(SIDES) else "?"
    is_source = side in ("front", "producer")
    in_flight = (place.prod - place.cons if is_source else place.seen - place.prod) & 0xFFFF_FFFF
    return QueueStatistics(
        number=place.queue,
        name=clean(place.name),
        side=side,
        slots=place.nr_slots,
        in_flight=in_flight if in_flight <= place.nr_slots else None,
        requests=place.pushed if is_source else place.popped,
        responses=place.popped if is_source else place.pushed,
        kicks=place.kicks,
        notifications=place.notifications,
        arms=place.arms,
        late=place.late,
        spins_hit=place.spins_hit,
        spins_missed=place.spins_missed,
        sleeps=place.sleeps,
        spurious=place.spurious,
        full=place.full,
        starved=place.starved,
        broken=BROKEN.get(place.broken, f"fault {place.broken}"),
    )


def clean(raw: bytes) -> str:
    """Returns a domain's own word for something as a line of printable text."""
    text = raw.split(b"\0", 1)[0].decode(errors="replace")
    return "".join(char if char.isprintable() else "?" for char in text)


def read(name: str, root: Path | str | None = None) -> Snapshot:
    """Reads what a machine has published last; waits some milliseconds at most.

    Raises:
        FileNotFoundError: it has published nothing, or is gone.
        MachineError: what lies under that name is not that machine's.
        Torn: there was no whole snapshot at any time meanwhile.
    """
    paths = MachinePaths.of(name, root)
    for left in reversed(range(TRIES)):
        try:
            fd = posix_ipc.SharedMemory(paths.segment, read_only=True).fd
        except posix_ipc.ExistentialError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), paths.segment) from None
        except posix_ipc.PermissionsError:
            raise _foreign(name) from None
        except (OSError, ValueError) as error:
            raise Torn(f"the segment with the statistics cannot be opened: {error}") from None
        try:
            return parse(_whole(fd, name, paths))
        except Torn:
            if not left:
                raise
        finally:
            os.close(fd)
        time.sleep(BETWEEN_TRIES_S)
    raise AssertionError("unreachable")


def _whole(fd: int, name: str, paths: MachinePaths) -> bytes:
    """Reads a segment. It is never mapped: somebody may be shrinking it."""
    status = os.fstat(fd)
    if status.st_uid != owner_of(paths.folder.parent):
        raise _foreign(name)
    if not stat.S_ISREG(status.st_mode):
        raise Torn("what lies under the segment's name is no segment")
    start = os.pread(fd, HEAD, 0)
    if len(start) < HEAD:
        return start
    return os.pread(fd, min(st.StatisticsHead.unpack(start).length, st.XENLIKE_STATISTICS_BYTES_MAX), 0)


def _foreign(name: str) -> MachineError:
    return MachineError(f"machine {name!r} is of another user: only that user, and root, may look at it")


async def ask(name: str, root: Path | str | None = None, period_ms: int = 0, lease_ms: int = 0) -> int:
    """Has a machine publish; see `Control.publish`. Waits for as long as the machine's process is busy.

    Raises:
        NoSuchMachine: it is down.
        MachineError: it is another user's, or publishes nothing.
    """
    try:
        async with connect(name, root) as control:
            return await control.publish(period_ms, lease_ms)
    except PermissionError:
        raise _foreign(name) from None


async def fresh(name: str, root: Path | str | None = None, patience_s: float = PATIENCE_S) -> tuple[Snapshot, bool]:
    """Has a machine publish, and reads that.

    Args:
        name: the machine's.
        root: the folder of all machines.
        patience_s: how long to wait for a machine whose own process is busy.

    Returns:
        A snapshot, and whether it is newer than this call; else the machine is busy, and it is what was there.

    Raises:
        NoSuchMachine: the machine is down.
        MachineError: it is another user's, or publishes nothing.
    """
    sequence: int | None = None
    with trio.move_on_after(patience_s):
        sequence = await ask(name, root)
        while True:
            try:
                snapshot = read(name, root)
            except (FileNotFoundError, Torn):
                pass
            else:
                if snapshot.sequence >= sequence:
                    return snapshot, True
            # Nobody tells of a new snapshot: readers cost the hypervisor nothing that way.
            await trio.sleep(0.002)
    try:
        return read(name, root), False
    except FileNotFoundError:
        why = "its own process is busy" if sequence is None else "its log says why"
        raise MachineError(f"machine {name!r} has published no statistics: {why}") from None
