"""Published statistics: what a reader makes of them, of half of them, and of nonsense; and rates between two."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_machine import served
from xenlike.abi import recorder as rec
from xenlike.abi import statistics as abi
from xenlike.errors import MachineError, NoSuchMachine
from xenlike.toolstack import paths as paths_module
from xenlike.toolstack import statistics
from xenlike.toolstack.paths import SHM, MachinePaths, segment_machines
from xenlike.toolstack.rates import rates
from xenlike.toolstack.statistics import Snapshot, Torn, clean, fresh, parse, read

QUEUE = abi.XENLIKE_STATISTICS_QUEUE_BYTES
PLACES = st.lists(st.binary(min_size=QUEUE, max_size=QUEUE), max_size=4)


def queue(**members: Any) -> bytes:
    return rec.RecorderQueue(**members).pack()[:QUEUE]


def domain(domid: int, *queues: bytes, **members: Any) -> bytes:
    return abi.StatisticsDomain(domid=domid, nr_queues=len(queues), **members).pack() + b"".join(queues)


def snapshot(*domains: bytes, **members: Any) -> bytes:
    """A snapshot whose checksum is right, whatever it says."""
    body = b"".join(domains)
    head = abi.StatisticsHead(
        magic=abi.XENLIKE_STATISTICS_MAGIC,
        version=abi.XENLIKE_STATISTICS_VERSION,
        length=abi.StatisticsHead.__layout__.size + len(body),
        nr_domains=len(domains),
    )
    for name, value in members.items():
        setattr(head, name, value)
    head.crc = members.get("crc", zlib.crc32(head.pack()[abi.XENLIKE_STATISTICS_CRC_FROM :] + body))
    return head.pack() + body


GUEST = domain(3, queue(name=b"device/echo/0", in_use=1, nr_slots=8, prod=5, cons=2, pushed=5), name=b"guest", state=1)
GOOD = snapshot(domain(0, name=b"Domain-0"), GUEST, sequence=7, ns=5_000_000_000)


# The layout.


def test_a_queue_is_published_as_its_recorder_has_it_without_addresses() -> None:
    assert rec.RecorderQueue.__layout__.fields["addresses"].offset == QUEUE
    assert QUEUE % 8 == 0


def test_the_checksum_is_of_all_that_follows_it() -> None:
    fields = abi.StatisticsHead.__layout__.fields
    assert fields["crc"].offset + fields["crc"].size == abi.XENLIKE_STATISTICS_CRC_FROM
    for at in range(len(GOOD)):
        broken = GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]
        with pytest.raises(Torn):
            parse(broken)


def test_what_was_written_is_read() -> None:
    found = parse(GOOD)
    assert (found.sequence, found.time_s, [each.name for each in found.domains]) == (7, 5.0, ["Domain-0", "guest"])
    [ring] = found.domains[1].queues
    assert (ring.name, ring.side, ring.requests, ring.in_flight, ring.slots) == ("device/echo/0", "front", 5, 3, 8)


def test_bytes_of_an_earlier_longer_snapshot_are_passed_over() -> None:
    assert parse(GOOD + b"left from before") == parse(GOOD)


@pytest.mark.parametrize(
    ("side", "indices", "in_flight"),
    [
        (0, {"prod": 2, "cons": 0xFFFF_FFFE}, 4),
        (1, {"prod": 0xFFFF_FFFF, "seen": 3}, 4),
        (2, {"prod": 9, "cons": 9}, 0),
        (3, {"prod": 1, "seen": 9}, 8),
        (0, {"prod": 0, "cons": 1}, None),
        (1, {"prod": 9, "seen": 0}, None),
    ],
)
def test_what_is_in_flight_is_the_difference_of_free_running_indices(
    side: int, indices: dict[str, int], in_flight: int | None
) -> None:
    found = parse(snapshot(domain(1, queue(side=side, nr_slots=8, **indices))))
    assert found.domains[0].queues[0].in_flight == in_flight


# Torn, cut off, nonsense.


@pytest.mark.parametrize("length", range(0, len(GOOD), 7))
def test_one_that_is_cut_off_is_torn(length: int) -> None:
    with pytest.raises(Torn):
        parse(GOOD[:length])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter than their head"),
        (bytes(200), "no statistics"),
        (snapshot(version=2), "have version 2"),
        (snapshot(crc=0, sequence=1), "checksum"),
        (snapshot(domain(2), domain(2)), "d2 behind d2"),
        (snapshot(domain(2), domain(1)), "d1 behind d2"),
        (snapshot(nr_domains=1), "0 domains instead of 1"),
        (snapshot(domain(0), b"x" * 20), "cut off"),
        (snapshot(abi.StatisticsDomain(nr_queues=1).pack()), "d0 are cut off"),
        (snapshot(domain(0, *[queue()] * 129)), "d0 are cut off"),
    ],
)
def test_a_lie_with_a_good_checksum_is_no_snapshot_either(data: bytes, why: str) -> None:
    with pytest.raises(Torn, match=why):
        parse(data)


@given(st.binary(max_size=4 * QUEUE), st.binary(min_size=56, max_size=56), st.integers(0, 6))
def test_whatever_a_domain_writes_is_read_or_refused(queues: bytes, name: bytes, split: int) -> None:
    places = [queues[at : at + QUEUE].ljust(QUEUE, b"\xff") for at in range(0, len(queues), QUEUE)]
    found = parse(snapshot(domain(1, *places[:split], name=name), domain(2, *places[split:])))
    for each in found.domains:
        assert each.name.isprintable()
        for ring in each.queues:
            assert ring.name.isprintable()
            assert ring.in_flight is None or 0 <= ring.in_flight <= ring.slots


@given(st.binary(max_size=600))
def test_whatever_is_scribbled_into_the_segment_is_a_snapshot_or_torn(body: bytes) -> None:
    head = abi.StatisticsHead.__layout__.size
    for data in (body, snapshot(body), snapshot(body, length=head + len(body) // 2), GOOD[: len(body)] + body):
        try:
            assert isinstance(parse(data), Snapshot)
        except Torn:
            pass


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"guest\0after", "guest"), (b"\x1b[2J\n\t", "?[2J??"), (b"\xff\xfe", "\ufffd\ufffd"), ("ü".encode(), "ü")],
)
def test_names_have_nothing_that_a_terminal_would_obey(raw: bytes, text: str) -> None:
    assert clean(raw) == text


# Reading.


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    """The segment of a machine that is not there, to be scribbled into."""
    (tmp_path / "run" / "lab").mkdir(parents=True)
    path = SHM / MachinePaths.of("lab", tmp_path / "run").segment[1:]
    yield path
    path.unlink(missing_ok=True)


def test_a_snapshot_that_is_being_written_is_read_again(
    lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab.write_bytes(GOOD[:-1])
    looks = []

    def writes_the_rest(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            lab.write_bytes(GOOD)

    monkeypatch.setattr("xenlike.toolstack.statistics.time.sleep", writes_the_rest)
    assert read("lab", tmp_path / "run").sequence == 7
    assert len(looks) == 3


def test_one_that_is_never_whole_is_given_up(lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("xenlike.toolstack.statistics.time.sleep", lambda _: None)
    for nonsense in (b"", GOOD[:40], b"\xff" * 4096):
        lab.write_bytes(nonsense)
        with pytest.raises(Torn):
            read("lab", tmp_path / "run")
    lab.unlink()
    lab.mkdir()
    with pytest.raises(Torn, match="no segment"):
        read("lab", tmp_path / "run")
    lab.rmdir()
    lab.symlink_to("/etc/passwd")
    with pytest.raises(Torn, match="cannot be opened"):
        read("lab", tmp_path / "run")


def test_a_length_that_is_a_lie_makes_nobody_read_more_than_there_can_be(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abi, "XENLIKE_STATISTICS_BYTES_MAX", 1000)
    lab.write_bytes(snapshot(length=0xFFFF_FFFF))
    os.truncate(lab, 1 << 40)
    with lab.open("rb") as file:
        assert len(statistics._whole(file.fileno(), "lab", MachinePaths.of("lab", tmp_path / "run"))) == 1000


def test_a_segment_that_shrinks_while_it_is_read_harms_nobody(lab: Path, tmp_path: Path) -> None:
    lab.write_bytes(GOOD)
    end = threading.Event()

    def shrink() -> None:
        while not end.is_set():
            os.truncate(lab, 0)
            lab.write_bytes(GOOD)

    peer = threading.Thread(target=shrink)
    peer.start()
    try:
        for _ in range(50):
            try:
                assert read("lab", tmp_path / "run").sequence == 7
            except Torn:
                pass
    finally:
        end.set()
        peer.join()


def test_without_a_segment_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read("lab", tmp_path)


async def test_a_machine_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(NoSuchMachine, match="no machine 'lab' is running"):
        await fresh("lab", tmp_path)


def look(root: Path) -> tuple[Snapshot, bool]:
    return trio.run(lambda: fresh("lab", root, patience_s=0.1))


def test_a_machine_that_publishes_nothing_is_said_to(tmp_path: Path) -> None:
    with served("lab", tmp_path), pytest.raises(MachineError, match="has published no statistics: its log says why"):
        look(tmp_path)


def test_one_whose_process_is_busy_shows_what_there_is(lab: Path, tmp_path: Path) -> None:
    lab.write_bytes(snapshot(domain(0), sequence=6))
    with served("lab", tmp_path / "run") as machine:
        assert look(tmp_path / "run")[1] is False
        lab.write_bytes(GOOD)
        assert look(tmp_path / "run") == (parse(GOOD), True)
    assert machine.leases == [(0, 0)] * 2


def test_another_users_machine_is_said_to_be(lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lab.write_bytes(GOOD)
    monkeypatch.setattr(statistics, "owner_of", lambda _: os.geteuid() + 1)
    with pytest.raises(MachineError, match="machine 'lab' is of another user"):
        read("lab", tmp_path / "run")


# Names.


def test_the_name_is_of_the_machine_its_user_and_its_root(tmp_path: Path) -> None:
    one, two = MachinePaths.of("lab", tmp_path / "a"), MachinePaths.of("lab", tmp_path / "b")
    assert one.segment != two.segment
    assert one.segment.startswith(f"/xenlike-{os.geteuid()}-")
    assert one.segment.endswith("-lab")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert MachinePaths.of("lab", tmp_path / "link").segment == one.segment
    longest = MachinePaths.of("x" * 63, "/r").segment
    assert len(longest) < 255


def test_a_root_finds_its_own_segments_alone(lab: Path, tmp_path: Path) -> None:
    lab.touch()
    assert segment_machines(tmp_path / "run") == ["lab"]
    assert segment_machines(tmp_path) == []
    assert paths_module.owner_of(tmp_path) == os.geteuid()


# Rates.


def at(seconds: float, *domains: bytes) -> Snapshot:
    return parse(snapshot(*domains, ns=int(seconds * 1e9), sequence=int(seconds) + 1))


def test_rates_are_what_was_counted_in_between() -> None:
    before = at(1, domain(1, queue(pushed=100, notifications=10, nr_slots=8), cpu_ns=10**9))
    now = at(3, domain(1, queue(pushed=300, notifications=30, nr_slots=8, prod=2), cpu_ns=2 * 10**9))
    [line] = rates(before, now)
    assert (line.cpu, line.activity.requests_s, line.activity.notifications_s) == (0.5, 100.0, 10.0)
    assert line.activity.notifications_per_1000 == 100.0
    assert (line.activity.in_flight, line.activity.slots, line.activity.devices) == (2, 8, 1)


def test_a_first_look_has_no_rates() -> None:
    [line] = rates(None, at(1, domain(1, queue(pushed=100), cpu_ns=10**9)))
    assert (line.cpu, line.activity.requests_s, line.activity.notifications_per_1000) == (0.0, 0.0, None)
    same = at(1, domain(1, queue(pushed=100)))
    assert rates(same, same)[0].activity.requests_s == 0


def test_a_ring_that_was_made_in_between_counts_from_nothing() -> None:
    before = at(1, domain(1, queue(name=b"a", pushed=100)))
    now = at(2, domain(1, queue(name=b"a", pushed=40), queue(name=b"b", pushed=2)))
    assert rates(before, now)[0].activity.requests_s == 42


def test_a_domain_that_was_born_in_between_has_no_rates_of_its_predecessor() -> None:
    before, now = at(1, domain(1, cpu_ns=10**9, pid=5)), at(2, domain(1, queue(pushed=7), cpu_ns=2 * 10**9, pid=6))
    [line] = rates(before, now)
    assert (line.cpu, line.activity.requests_s) == (0, 0)


@given(PLACES, PLACES)
def test_rates_of_nonsense_are_never_negative(before: list[bytes], now: list[bytes]) -> None:
    [line] = rates(at(1, domain(1, *before)), at(2, domain(1, *now)))
    for activity in (line.activity, *[each for _, each in line.queues]):
        assert min(activity.requests_s, activity.notifications_s, activity.sleeps_s) >= 0
        assert 0 <= activity.in_flight <= activity.slots
