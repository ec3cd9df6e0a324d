"""Decoding a recorder: events come out as they went in, and whatever is in it can be read."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike._core import Recorder, trace_clock
from xenlike.abi import recorder as abi
from xenlike.io.echo import DRIVER
from xenlike.ring import BackRing, FrontRing
from xenlike.testing import Loopback
from xenlike.toolstack.tracing import (
    Chunk,
    Clock,
    Decoder,
    Merger,
    Protocols,
    RecorderReader,
    Words,
    last_events,
    ring_places,
)
from xenlike.toolstack.tracing.event import NAMES

USER, TEXT = abi.XENLIKE_TRACE_USER, abi.XENLIKE_TRACE_TEXT
EVERYTHING = 127
RECORD = abi.TraceRecord.__layout__.size


def clock_of(recorder: Recorder) -> Clock:
    return Clock.of(abi.RecorderHead.unpack(recorder.memory))


def texts(recorder: Recorder) -> list[str]:
    return [event.text for event in last_events({1: recorder.memory}, recorder.memory)]


def test_events_come_out_as_they_went_in() -> None:
    recorder = Recorder.private(EVERYTHING)
    recorder.trace(abi.XENLIKE_TRACE_GRANT, abi.XENLIKE_TRACE_GRANTED, "", 8, 2, 77, 1)
    recorder.trace(abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_STATE, "device/echo/0", 1, 3)
    recorder.trace(USER, TEXT, "x" * 100)
    first, second, third = last_events({5: recorder.memory}, recorder.memory)
    assert (first.domid, first.class_name, first.name, first.a, first.b, first.c, first.d) == (
        5,
        "grant",
        "granted",
        8,
        2,
        77,
        1,
    )
    assert (second.device, second.about(), second.a, second.b) == ("device/echo/0", "", 1, 3)
    assert third.text == "x" * 100
    assert first.time_ns <= second.time_ns <= third.time_ns <= clock_of(recorder).now_ns


def test_events_of_rings_say_whose_ring_and_which_end() -> None:
    recorder = Recorder.private(EVERYTHING)
    page = mmap.mmap(-1, 4096)
    front = FrontRing(page, "xen", 16, 16, recorder=recorder, name="device/echo/0")
    back = BackRing(page, "xen", 16, 16, recorder=recorder, name="backend/echo/2/0")
    front.push(bytes(range(16)))
    back.pop(bytearray(16))
    events = last_events({1: recorder.memory}, recorder.memory)
    assert [(event.name, event.device, event.side) for event in events] == [
        ("pushed", "device/echo/0", 0),
        ("push", "device/echo/0", 0),
        ("popped", "backend/echo/2/0", 1),
        ("pop", "backend/echo/2/0", 1),
    ]
    assert events[0].payload == events[2].payload == bytes(range(16))
    places = ring_places(recorder.memory)
    assert {(place.number, place.device, place.in_use) for place in places.values()} == {
        (1, "device/echo/0", True),
        (2, "backend/echo/2/0", True),
    }


@given(st.lists(st.text(max_size=60), max_size=12), st.lists(st.integers(1, 7), min_size=1))
def test_it_does_not_matter_where_the_stream_is_cut(lines: list[str], cuts: list[int]) -> None:
    recorder = Recorder.private()
    for line in lines:
        recorder.trace(USER, TEXT, line)
    reader = RecorderReader(1, recorder.memory)
    decoder = Decoder(1)
    clock = clock_of(recorder)
    events = []
    for cut in (*cuts, *[8] * 200):
        chunk = reader.read(cut)
        events += decoder.feed(chunk.records, clock, chunk.clock, chunk.lost)
    events += decoder.finish(clock)
    whole = last_events({1: recorder.memory}, recorder.memory)
    assert [event.payload for event in events] == [event.payload for event in whole]
    assert [event.payload for event in events] == [line.encode(errors="replace").rstrip(b"\0") for line in lines]


@pytest.mark.parametrize("extra", range(9))
def test_a_reader_that_comes_amid_a_payload_finds_the_next_event(extra: int) -> None:
    recorder = Recorder.private()
    # A payload of which every record looks like one, but for its time.
    recorder.trace(USER, TEXT, ("@\x01\0\0" + "@" * 24) * 8)
    for number in range(abi.XENLIKE_RECORDER_RECORDS - 9 + extra):
        recorder.trace(USER, TEXT, "", number)
    reader = RecorderReader(1, recorder.memory)
    chunk = reader.read(3 * abi.XENLIKE_RECORDER_RECORDS)
    decoder = Decoder(1)
    events = decoder.feed(chunk.records, clock_of(recorder), chunk.clock, chunk.lost)
    assert [event.a for event in events if not event.payload] == list(range(abi.XENLIKE_RECORDER_RECORDS - 9 + extra))
    # All that is not there was counted: the overwritten head, and what is left of its payload.
    assert decoder.lost == (9 if extra else 0)


def test_a_payload_that_was_overwritten_in_part_is_told_as_such() -> None:
    recorder = Recorder.private()
    recorder.trace(USER, TEXT, "a" * 28 + "b" * 28)
    memory = bytearray(recorder.memory)
    at = abi.XENLIKE_RECORDER_RECORDS_AT + 2 * RECORD
    memory[at : at + 4] = bytes(4)
    reader = RecorderReader(1, memory)
    decoder = Decoder(1)
    clock = clock_of(recorder)
    chunk = reader.read(everything=True)
    (event,) = decoder.feed(chunk.records, clock, chunk.clock)
    assert (event.text, event.is_whole, decoder.lost) == ("a" * 28, False, 1)
    assert "the rest is lost" in Words().describe(event)


def test_what_was_lost_ends_the_event_before_it() -> None:
    recorder = Recorder.private()
    recorder.trace(USER, TEXT, "a" * 56)
    recorder.trace(USER, TEXT, "after")
    chunk = RecorderReader(1, recorder.memory).read()
    decoder = Decoder(1)
    clock = clock_of(recorder)
    assert decoder.feed(chunk.records[: 2 * RECORD], clock, chunk.clock) == []
    events = decoder.feed(chunk.records[3 * RECORD :], clock, chunk.clock, lost=1)
    assert [(event.text, event.is_whole) for event in events] == [("a" * 28, False), ("after", True)]


def test_several_domains_are_one_story() -> None:
    recorders = {domid: Recorder.private() for domid in (1, 2, 3)}
    said = []
    for number in range(60):
        domid = number * 7 % 3 + 1
        recorders[domid].trace(USER, TEXT, f"{number}")
        said.append((domid, f"{number}"))
    events = last_events({domid: one.memory for domid, one in recorders.items()}, recorders[1].memory)
    assert [(event.domid, event.text) for event in events] == said


def test_events_later_than_the_horizon_are_kept_back() -> None:
    one, two = Recorder.private(), Recorder.private()
    merger = Merger()
    one.trace(USER, TEXT, "first")
    chunk = RecorderReader(1, one.memory).read()
    horizon = trace_clock(1)[1]
    two.trace(USER, TEXT, "third")
    merger.add(chunk, clock_of(one))
    merger.add(RecorderReader(2, two.memory).read(), clock_of(one))
    assert [event.text for event in merger.upto(horizon)] == ["first"]
    assert [event.text for event in merger.upto(horizon)] == []
    assert [event.text for event in merger.rest(clock_of(one))] == ["third"]


def test_times_are_those_of_the_monotonic_clock() -> None:
    recorder = Recorder.private()
    before = trace_clock(1)[1]
    recorder.trace(USER, TEXT, "now")
    after = trace_clock(1)[1]
    # An hour of reading later the line is as good as it gets.
    base = trace_clock(1)
    ticks_per_ns = 3
    clock = Clock(base[0] - 10**9 * ticks_per_ns, base[1] - 10**9, *base)
    chunk = RecorderReader(1, recorder.memory).read()
    (event,) = Decoder(1).feed(chunk.records, clock, chunk.clock)
    assert before - 10_000_000 <= event.time_ns <= after


@pytest.mark.parametrize("kind", [0, 1])
def test_times_that_cannot_be_are_no_events(kind: int) -> None:
    now = trace_clock(1)
    clock = Clock(now[0], now[1], now[0] + 3_000_000_000, now[1] + 1_000_000_000)
    decoder = Decoder(1)
    for time in (0, (1 << 64) - 1, now[0] // 2):
        record = abi.TraceRecord(seq=1, kind=USER, event=TEXT, time=time)
        assert decoder.feed(record.pack(), clock, kind) == []
    assert decoder.lost == 3


records = st.builds(
    abi.TraceRecord,
    seq=st.integers(0, 3),
    kind=st.sampled_from([*NAMES, 0, 3, 255]),
    event=st.integers(0, 9),
    queue=st.integers(0, 255),
    more=st.integers(0, 9),
    time=st.one_of(st.just(1_000_000_500), st.integers(0, (1 << 64) - 1)),
    a=st.integers(0, (1 << 32) - 1),
    b=st.integers(0, (1 << 32) - 1),
    c=st.integers(0, (1 << 32) - 1),
    d=st.integers(0, (1 << 32) - 1),
).map(lambda record: record.pack())


@given(
    st.lists(st.lists(st.one_of(records, st.binary(min_size=32, max_size=32)), max_size=20), max_size=4),
    st.binary(min_size=64, max_size=64),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 1),
)
def test_whatever_a_domain_records_can_be_told(
    parts: list[list[bytes]], name: bytes, side: int, clock_kind: int
) -> None:
    memory = bytearray(abi.XENLIKE_RECORDER_BYTES)
    for number in range(abi.XENLIKE_RECORDER_QUEUES):
        place = abi.RecorderQueue(name=name, side=side, nr_slots=1, queue=number + 1).pack()
        at = abi.XENLIKE_RECORDER_QUEUES_AT + number * len(place)
        memory[at : at + len(place)] = place
    places = list(ring_places(memory).values())
    clock = Clock(1_000_000_000, 1_000_000_000, 1_000_001_000, 1_000_001_000)
    merger = Merger()
    count = 0
    for part in parts:
        count += len(part)
        merger.add(Chunk(1, b"".join(part), 0, clock_kind, places), clock)
    events = merger.rest(clock)
    words = Words(protocols=Protocols())
    for event in events:
        line = words.line(event)
        assert line.isprintable()
        assert 0 <= event.time_ns <= clock.now_ns
    assert len(events) <= count


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=256, max_size=256))
def test_whatever_is_in_a_recorder_can_be_read(prod: bytes, noise: bytes) -> None:
    memory = bytearray(noise * (abi.XENLIKE_RECORDER_BYTES // 256))
    at = abi.RecorderHead.__layout__.fields["prod"].offset
    memory[at : at + 8] = prod
    for event in last_events({1: memory, 2: memory}):
        assert Words().line(event).isprintable()


def test_a_mask_is_set_and_nothing_else() -> None:
    recorder = Recorder.private()
    before = bytes(recorder.memory)
    reader = RecorderReader(1, recorder.memory)
    assert reader.mask == abi.XENLIKE_TRACE_USUAL
    reader.ask(abi.XENLIKE_TRACE_RING)
    assert recorder.mask == abi.XENLIKE_TRACE_USUAL | abi.XENLIKE_TRACE_RING
    reader.ask(drop=abi.XENLIKE_TRACE_RING)
    assert bytes(recorder.memory) == before


def test_a_reader_from_now_on_tells_only_what_comes() -> None:
    recorder = Recorder.private()
    recorder.trace(USER, TEXT, "before")
    reader = RecorderReader(1, recorder.memory, from_now=True)
    recorder.trace(USER, TEXT, "after")
    chunk = reader.read()
    assert [event.text for event in Decoder(1).feed(chunk.records, clock_of(recorder), chunk.clock)] == ["after"]


async def test_a_driver_writes_lines_of_its_own() -> None:
    async with Loopback({"echo": DRIVER}, {"echo": DRIVER}) as machine:
        device = await machine.attach("echo")
        device.frontend.trace("half full")
        device.backend.trace("busy")
        memories = {domid: domain.recorder.memory for domid, domain in machine.domains.items()}
        said = [event for event in last_events(memories, next(iter(memories.values()))) if event.kind == USER]
    told = [(event.device, Words().describe(event)) for event in said]
    assert told == [("device/echo/0", '"half full"'), ("backend/echo/2/0", '"busy"')]
