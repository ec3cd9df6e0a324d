"""A recorder: what lies where, what a trace keeps, and what a reader makes of one whose writer lies."""

from __future__ import annotations

import gc
import mmap
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike._core import Recorder, ffi, map_recorder, read_trace, trace_clock
from xenlike.abi import recorder as abi
from xenlike.errors import ProtocolError
from xenlike.ring import BackRing, FrontRing

EVERYTHING = 127
RECORD = abi.TraceRecord.__layout__.size


def events(recorder: Recorder, position: int = 0) -> list[abi.TraceRecord]:
    data, _, lost = read_trace(recorder.memory, position, abi.XENLIKE_RECORDER_RECORDS)
    assert lost == 0
    records = [abi.TraceRecord.unpack(data, at) for at in range(0, len(data), RECORD)]
    heads, skip = [], 0
    for record in records:
        if skip:
            skip -= 1
            continue
        heads.append(record)
        skip = record.more
    return heads


def queue_of(recorder: Recorder, number: int) -> abi.RecorderQueue:
    at = abi.XENLIKE_RECORDER_QUEUES_AT + (number - 1) * abi.RecorderQueue.__layout__.size
    return abi.RecorderQueue.unpack(recorder.memory, at)


def pair(recorder: Recorder) -> tuple[FrontRing, BackRing]:
    page = mmap.mmap(-1, 4096)
    front = FrontRing(page, "xen", 16, 16, first_index=0xFFFF_FFFE, recorder=recorder, name="device/echo/0")
    return front, BackRing(page, "xen", 16, 16, recorder=recorder, name="backend/echo/2/0")


def test_python_and_c_agree_on_every_offset() -> None:
    assert abi.RecorderHead.__layout__.size <= abi.XENLIKE_RECORDER_QUEUES_AT
    size = abi.RecorderQueue.__layout__.size
    assert abi.XENLIKE_RECORDER_QUEUES_AT + abi.XENLIKE_RECORDER_QUEUES * size == abi.XENLIKE_RECORDER_RECORDS_AT
    records_end = abi.XENLIKE_RECORDER_RECORDS_AT + abi.XENLIKE_RECORDER_RECORDS * RECORD
    assert records_end == abi.XENLIKE_RECORDER_BYTES
    fields = abi.RecorderQueue.__layout__.fields
    for name in ("stride", "prod", "kicked", "cons", "broken", "bad_index", "pushed", "notifications", "late", "queue"):
        assert fields[name].offset - fields["nr_slots"].offset == ffi.offsetof("struct xl_ring", name), name


def test_a_rings_private_state_is_seen_as_it_is() -> None:
    recorder = Recorder.private()
    front, back = pair(recorder)
    front.push(bytes(48))
    front.kick()
    assert back.pop(bytearray(32)) == 2
    seen = queue_of(recorder, 1)
    assert (seen.name, seen.in_use, seen.side, seen.nr_slots) == (b"device/echo/0", 1, 0, front.size)
    assert (seen.prod, seen.kicked, seen.cons) == (1, 1, 0xFFFF_FFFE)
    assert (seen.pushed, seen.kicks, seen.notifications) == (3, 1, 1)
    seen = queue_of(recorder, 2)
    assert (seen.name, seen.side, seen.cons, seen.seen, seen.popped) == (b"backend/echo/2/0", 1, 0, 1, 2)
    front.close()
    assert (queue_of(recorder, 1).in_use, queue_of(recorder, 1).broken, queue_of(recorder, 1).pushed) == (0, 3, 3)


def test_a_closed_ring_keeps_its_place_for_as_long_as_somebody_holds_it() -> None:
    recorder = Recorder.private()
    front, back = pair(recorder)
    front.push(bytes(16))
    front.close()
    others = [recorder.place(f"other {number}") for number in range(2 * abi.XENLIKE_RECORDER_QUEUES)]
    assert front.statistics().pushed == 1
    assert sum(place.number > 0 for place in others) == abi.XENLIKE_RECORDER_QUEUES - 2
    del front
    gc.collect()
    assert recorder.place("next").number == 1
    del back


def test_a_ring_without_a_place_works_all_the_same() -> None:
    recorder = Recorder.private(EVERYTHING)
    taken = [recorder.place("x") for _ in range(abi.XENLIKE_RECORDER_QUEUES)]
    front, back = pair(recorder)
    assert front.push(bytes(16)) == 1
    assert back.pop(bytearray(16)) == 1
    assert events(recorder) == []
    del taken


def test_what_a_ring_does_is_traced_in_order() -> None:
    recorder = Recorder.private(EVERYTHING & ~abi.XENLIKE_TRACE_ENTRY)
    front, back = pair(recorder)
    front.push(bytes(32))
    front.kick()
    back.pop(bytearray(32))
    assert back.arm() is False
    back.woke(hung_up=True)
    index = 0xFFFF_FFFE
    assert [(record.queue, record.event, record.a, record.b, record.c, record.d) for record in events(recorder)] == [
        (1, abi.XENLIKE_TRACE_PUSH, 2, 0, 0, 0),
        (1, abi.XENLIKE_TRACE_KICK, 1, index + 1, index, 0),
        (2, abi.XENLIKE_TRACE_POP, 2, 0, 0, 0),
        (2, abi.XENLIKE_TRACE_ARM, 0, 1, 0, 0),
        (2, abi.XENLIKE_TRACE_WAKE, 1, 0, 0, 0),
    ]


def test_a_broken_ring_says_by_what_it_was_broken() -> None:
    recorder = Recorder.private(abi.XENLIKE_TRACE_RING)
    page = mmap.mmap(-1, 4096)
    back = BackRing(page, "xen", 16, 16, recorder=recorder)
    page[0:4] = (0x1000).to_bytes(4, "little")
    with pytest.raises(ProtocolError):
        back.pop(bytearray(16))
    (record,) = events(recorder)
    assert (record.event, record.a, record.b) == (abi.XENLIKE_TRACE_BREAK, 1, 0x1000)


def test_entries_are_traced_as_they_went() -> None:
    recorder = Recorder.private(abi.XENLIKE_TRACE_ENTRY)
    front, back = pair(recorder)
    entries = bytes(range(32))
    front.push(entries)
    back.pop(bytearray(32))
    data, _, _ = read_trace(recorder.memory, 0, 100)
    found = []
    for at in range(0, len(data), 2 * RECORD):
        head = abi.TraceRecord.unpack(data, at)
        assert (head.more, head.b) == (1, 16)
        found.append((head.event, head.a, data[at + RECORD + 4 : at + RECORD + 20]))
    index = 0xFFFF_FFFE
    assert found == [
        (kind, index + number, entries[16 * number :][:16])
        for kind in (abi.XENLIKE_TRACE_PUSHED, abi.XENLIKE_TRACE_POPPED)
        for number in (0, 1)
    ]


@given(st.text(max_size=300), st.lists(st.integers(0, (1 << 40)), min_size=4, max_size=4))
def test_texts_and_numbers_come_back(text: str, numbers: list[int]) -> None:
    recorder = Recorder.private(EVERYTHING)
    recorder.trace(abi.XENLIKE_TRACE_USER, 1, text, *numbers)
    data, _, _ = read_trace(recorder.memory, 0, 100)
    head = abi.TraceRecord.unpack(data)
    assert [head.a, head.b, head.c, head.d] == [number & 0xFFFF_FFFF for number in numbers]
    payload = b"".join(data[at + 4 : at + RECORD] for at in range(RECORD, len(data), RECORD))
    assert payload.rstrip(b"\0") == text.encode(errors="replace")[:224].rstrip(b"\0")


def test_classes_that_are_not_wanted_are_not_recorded() -> None:
    recorder = Recorder.private(abi.XENLIKE_TRACE_STORE)
    recorder.trace(abi.XENLIKE_TRACE_GRANT, 1)
    assert events(recorder) == []
    recorder.mask = abi.XENLIKE_TRACE_GRANT
    recorder.trace(abi.XENLIKE_TRACE_GRANT, 1)
    assert len(events(recorder)) == 1


def test_a_reader_that_comes_late_hears_how_much_it_missed() -> None:
    recorder = Recorder.private()
    for number in range(abi.XENLIKE_RECORDER_RECORDS + 100):
        recorder.trace(abi.XENLIKE_TRACE_USER, 1, "", number)
    data, position, lost = read_trace(recorder.memory, 0, 10)
    assert (lost, position, len(data)) == (100, 110, 10 * RECORD)
    assert abi.TraceRecord.unpack(data).a == 100


def test_times_are_in_order_and_of_this_moment() -> None:
    recorder = Recorder.private()
    clock = abi.RecorderHead.unpack(recorder.memory).clock
    before, _ = trace_clock(clock)
    recorder.trace(abi.XENLIKE_TRACE_USER, 1)
    after, _ = trace_clock(clock)
    assert before <= events(recorder)[0].time <= after


def test_several_threads_write_without_losing_any() -> None:
    recorder = Recorder.private()

    def write(which: int) -> None:
        for number in range(500):
            recorder.trace(abi.XENLIKE_TRACE_USER, 1, "some text", which, number)

    threads = [threading.Thread(target=write, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = events(recorder)
    for which in range(4):
        assert [record.b for record in found if record.a == which] == list(range(500))


@given(st.binary(min_size=64, max_size=64), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_whatever_a_domain_writes_a_reader_gets_through(noise: bytes, prod: int, position: int) -> None:
    memory = bytearray(abi.XENLIKE_RECORDER_BYTES)
    at = abi.XENLIKE_RECORDER_RECORDS_AT
    memory[at:] = noise * (abi.XENLIKE_RECORDER_RECORDS * RECORD // len(noise))
    where = abi.RecorderHead.__layout__.fields["prod"].offset
    memory[where : where + 8] = prod.to_bytes(8, "little")
    data, following, _ = read_trace(memory, position, 1000, everything=True)
    assert len(data) <= 1000 * RECORD
    assert (following - position) % (1 << 64) <= 1000 or following <= prod


def test_an_incomplete_record_is_waited_for_and_stepped_over_when_its_writer_is_gone() -> None:
    recorder = Recorder.private()
    recorder.trace(abi.XENLIKE_TRACE_USER, 1, "", 1)
    recorder.trace(abi.XENLIKE_TRACE_USER, 1, "", 2)
    memory = bytearray(recorder.memory)
    memory[abi.XENLIKE_RECORDER_RECORDS_AT : abi.XENLIKE_RECORDER_RECORDS_AT + 4] = bytes(4)
    assert read_trace(memory, 0, 10) == (b"", 0, 0)
    data, position, _ = read_trace(memory, 0, 10, everything=True)
    assert position == 2
    assert data[:RECORD] == bytes(RECORD)
    assert abi.TraceRecord.unpack(data, RECORD).a == 2


def test_mapped_memory_is_given_back_with_its_last_user() -> None:
    fd = os.memfd_create("recorder of a test")
    os.truncate(fd, abi.XENLIKE_RECORDER_BYTES)
    recorder = Recorder(map_recorder(fd))
    front, _ = pair(recorder)
    del recorder
    gc.collect()
    assert front.push(bytes(16)) == 1
    assert "recorder of a test" in Path("/proc/self/maps").read_text()
    del front, _
    gc.collect()
    assert "recorder of a test" not in Path("/proc/self/maps").read_text()
