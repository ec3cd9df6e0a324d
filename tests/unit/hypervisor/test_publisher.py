"""What the hypervisor publishes: a domain a turn, what each says of its rings as it says it, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.unit.hypervisor.table import Table
from xenlike._core import Recorder, map_recorder
from xenlike.abi import recorder as rec
from xenlike.abi import statistics as st
from xenlike.hypervisor.domain import Domain
from xenlike.hypervisor.publisher import Publisher, cpu_ns
from xenlike.hypervisor.schedule import RESTS, SETTLING_NS
from xenlike.hypervisor.segment import SHM, Segment
from xenlike.ring import FrontRing
from xenlike.toolstack import statistics as reader

PLACE = rec.RecorderQueue.__layout__.size


class Kept(Segment):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__("/kept")
        self.written: list[bytes] = []

    def write(self, snapshot: bytes) -> None:
        self.written.append(snapshot)

    def snapshot(self) -> reader.Snapshot:
        return reader.parse(self.written[-1])


class Desk:
    """A publisher whose clock stands still until it is told to go on, and whose every turn takes `cost` of the CPU."""

    cost = 0

    def __init__(self, table: Table) -> None:
        self.table = table
        self.segment = Kept()
        self.now = 0
        self.used = 0
        self.publisher = Publisher(table.xen, self.segment, os.getpid(), lambda: self.now, self._work)

    def _work(self) -> int:
        self.used += self.cost
        return self.used

    def turns(self) -> int:
        """Does what is due now; returns in how many turns."""
        count = 0
        while self.publisher.wait_s() == 0:
            self.publisher.turn()
            count += 1
        return count

    def settle(self) -> None:
        self.publisher.turn()
        self.now += SETTLING_NS
        self.turns()


@pytest.fixture
def desk(table: Table) -> Desk:
    return Desk(table)


def use_queue(domain: Domain, name: str) -> FrontRing:
    recorder = Recorder(map_recorder(os.dup(domain.recorder())))
    ring = FrontRing(bytearray(4096), "xen", 16, 16, recorder=recorder, name=name)
    ring.push(bytes(48))
    ring.kick()
    return ring


def test_births_and_deaths_are_published_once_they_settle_and_nothing_else(desk: Desk) -> None:
    domain = desk.table.create()
    desk.settle()
    assert [found.domid for found in desk.segment.snapshot().domains] == [domain.domid]
    assert desk.publisher.wait_s() is None
    desk.now += 3600 * 10**9
    assert desk.turns() == 0
    desk.table.xen.destroy(domain)
    desk.settle()
    assert desk.segment.snapshot().domains == []
    assert (len(desk.segment.written), desk.publisher.wait_s()) == (2, None)


def test_a_turn_looks_at_one_domain(desk: Desk) -> None:
    for _ in range(7):
        desk.table.create()
    desk.publisher.ask(0, 0)
    assert desk.turns() == 7
    assert len(desk.segment.written) == 1


def test_a_collection_is_followed_by_a_rest_by_what_it_took_of_the_cpu(desk: Desk) -> None:
    desk.table.create()
    desk.table.create()
    desk.publisher.ask(0, 0)
    desk.publisher.turn()
    # Somebody else has the CPU meanwhile: that is not what it costs.
    desk.now += 60 * 10**9
    desk.cost = 10**6
    desk.publisher.turn()
    desk.publisher.ask(0, 0)
    assert desk.publisher.wait_s() == RESTS * desk.cost / 1e9
    assert len(desk.segment.written) == 1
    desk.now += RESTS * desk.cost
    assert desk.turns() == 2


def test_one_that_is_gone_when_its_turn_comes_is_left_out(desk: Desk) -> None:
    domains = [desk.table.create() for _ in range(3)]
    desk.publisher.ask(0, 0)
    desk.publisher.turn()
    desk.table.xen.destroy(domains[1])
    desk.table.xen.destroy(domains[2])
    desk.turns()
    assert [found.domid for found in desk.segment.snapshot().domains] == [domains[0].domid]


def test_the_number_that_was_promised_is_of_a_snapshot_that_began_later(desk: Desk) -> None:
    desk.table.create()
    desk.table.create()
    assert desk.publisher.ask(0, 0) == 1
    desk.publisher.turn()
    # One is under way, and has passed the first domain already.
    assert desk.publisher.ask(0, 0) == 2
    desk.turns()
    assert desk.segment.snapshot().sequence == 2


def test_what_a_domain_says_of_its_rings_is_published_as_it_is(desk: Desk) -> None:
    domain = desk.table.create()
    ring = use_queue(domain, "device/echo/0")
    desk.publisher.ask(0, 0)
    desk.turns()
    [found] = desk.segment.snapshot().domains[0].queues
    assert (found.name, found.side, found.slots) == ("device/echo/0", "front", ring.size)
    assert (found.requests, found.kicks, found.notifications, found.in_flight) == (3, 1, 1, 3)
    ring.close()
    desk.publisher.ask(0, 0)
    desk.turns()
    assert desk.segment.snapshot().domains[0].queues == []


def test_no_address_of_a_domains_memory_leaves_it(desk: Desk) -> None:
    domain = desk.table.create()
    fields = rec.RecorderQueue.__layout__.fields
    assert fields["addresses"].offset == st.XENLIKE_STATISTICS_QUEUE_BYTES
    for place in range(rec.XENLIKE_RECORDER_QUEUES):
        at = rec.XENLIKE_RECORDER_QUEUES_AT + place * PLACE
        os.pwrite(domain.recorder(), b"\x01" * st.XENLIKE_STATISTICS_QUEUE_BYTES, at)
        os.pwrite(domain.recorder(), b"secret!!", at + fields["addresses"].offset)
    desk.publisher.ask(0, 0)
    desk.turns()
    assert len(desk.segment.snapshot().domains[0].queues) == rec.XENLIKE_RECORDER_QUEUES
    assert b"secret" not in desk.segment.written[-1]


def test_more_than_a_snapshot_may_hold_costs_domains_their_queues_and_nobody_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(st, "XENLIKE_STATISTICS_BYTES_MAX", 1000)
    rings = [use_queue(desk.table.create(), "x") for _ in range(4)]
    desk.publisher.ask(0, 0)
    desk.turns()
    assert [len(domain.queues) for domain in desk.segment.snapshot().domains] == [1, 1, 0, 0]
    assert len(rings) == 4


def test_memory_and_processor_time_are_the_kernels_word(desk: Desk) -> None:
    domain = desk.table.create()
    os.pwrite(domain.ram_fd, b"x", 0)
    domain.pool.allocate(7, 3, readonly=False)
    desk.publisher.ask(0, 0)
    desk.turns()
    found = desk.segment.snapshot().domains[0]
    assert (found.ram, found.ram_used) == (2 * 4096, 4096)
    assert (found.pool, found.pool_used, found.windows) == (4000 * 4096, 3 * 4096, 1)
    # Domain 0 is this process here.
    assert (found.pid, found.cpu_s > 0) == (os.getpid(), True)
    assert cpu_ns(1 << 22) == 0


# The segment.


@pytest.fixture
def segment() -> Iterator[Segment]:
    segment = Segment(f"/xenlike-test-{os.getpid()}")
    yield segment
    segment.remove()
    assert not os.path.exists(SHM + segment.name)


def contents(segment: Segment) -> bytes:
    with open(SHM + segment.name, "rb") as file:
        return file.read()


def test_a_segment_is_there_from_its_first_write_on_and_nobody_but_its_user_may_read_it(segment: Segment) -> None:
    assert not os.path.exists(SHM + segment.name)
    segment.write(b"one")
    assert os.stat(SHM + segment.name).st_mode & 0o777 == 0o400
    segment.write(b"two")
    assert contents(segment) == b"two"


@pytest.mark.parametrize("attack", ["shrink", "remove", "replace", "link", "fill"])
def test_what_a_peer_does_to_it_is_undone_by_the_next_write(segment: Segment, attack: str) -> None:
    segment.write(b"a snapshot")
    path = SHM + segment.name
    match attack:
        case "shrink":
            os.truncate(path, 1)
        case "remove":
            os.unlink(path)
        case "replace":
            os.unlink(path)
            with open(path, "wb") as file:
                file.write(b"a lie")
        case "link":
            os.unlink(path)
            os.symlink("/dev/null", path)
        case "fill":
            os.chmod(path, 0o600)
            with open(path, "r+b") as file:
                file.write(b"x" * 100_000)
    segment.write(b"another snapshot")
    assert contents(segment)[:16] == b"another snapshot"


def test_a_name_that_cannot_be_had_costs_a_warning_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    segment = Segment(f"/xenlike-taken-{os.getpid()}")
    os.mkdir(SHM + segment.name)
    try:
        for _ in range(3):
            segment.write(b"x")
        segment.remove()
    finally:
        os.rmdir(SHM + segment.name)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_another_segment_under_its_name_is_not_removed_at_the_end(segment: Segment) -> None:
    segment.write(b"ours")
    path = SHM + segment.name
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(b"a new machine's")
    segment.remove()
    assert contents(segment) == b"a new machine's"
    os.unlink(path)
