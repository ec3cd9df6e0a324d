"""What is read of recorders: the ring that is in use, what a domain ever did, and nothing of what cannot be known."""

from __future__ import annotations

import pytest

from xenlike._core import Recorder
from xenlike._core.recorder import RecorderPlace
from xenlike.abi import recorder as abi
from xenlike.toolstack.why.recorded import Recorded, find_queue, find_stream

NAME = "device/echo/0"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder.private()


def number_of(recorder: Recorder) -> int | None:
    queue = find_queue(recorder.memory, NAME)
    return None if queue is None else queue.number


def set_side(recorder: Recorder, place: RecorderPlace, side: int) -> None:
    """Makes a place that of another kind of ring."""
    layout = abi.RecorderQueue.__layout__
    at = abi.XENLIKE_RECORDER_QUEUES_AT + (place.number - 1) * layout.size + layout.fields["side"].offset
    recorder.memory[at : at + 4] = side.to_bytes(4, "little")


def test_the_ring_that_is_in_use_is_the_devices(recorder: Recorder) -> None:
    assert number_of(recorder) is None
    first, other, second = (recorder.place(name) for name in (NAME, "device/echo/01", NAME))
    first.end()
    assert number_of(recorder) == second.number
    second.end()
    assert number_of(recorder) == second.number, "of those that were closed, the last"
    third = recorder.place(NAME)
    fourth = recorder.place(NAME)
    fourth.end()
    assert number_of(recorder) == third.number
    assert other.number not in (first.number, second.number)


def test_a_stream_is_not_taken_for_the_ring(recorder: Recorder) -> None:
    ring, stream = recorder.place(NAME), recorder.place(f"{NAME}/stream")
    set_side(recorder, stream, 3)
    odd = recorder.place(NAME)
    set_side(recorder, odd, 2)
    assert number_of(recorder) == ring.number
    found = find_stream(recorder.memory, NAME)
    assert found is not None
    assert found.number == stream.number


def test_what_was_overwritten_is_not_known(recorder: Recorder) -> None:
    recorded = Recorded({2: recorder.memory})
    assert recorded.looked(2, NAME) is False
    assert recorded.begun(2, NAME) is False
    assert recorded.looked(3, NAME) is None, "of a domain without a recorder"
    recorder.trace(abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_READ, f"{NAME}/state")
    recorded = Recorded({2: recorder.memory})
    assert recorded.looked(2, NAME) is True
    assert recorded.looked(2, "device/echo/01") is False
    assert recorded.begun(2, NAME) is False
    recorder.trace(abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_STATE, NAME, 1, 2)
    recorded = Recorded({2: recorder.memory})
    assert recorded.begun(2, NAME) is True
    state = recorded.state(2, NAME)
    assert state is not None
    assert state[0] == 2
    for _ in range(abi.XENLIKE_RECORDER_RECORDS):
        recorder.trace(abi.XENLIKE_TRACE_USER, abi.XENLIKE_TRACE_TEXT)
    recorded = Recorded({2: recorder.memory})
    assert recorded.looked(2, NAME) is None
    assert recorded.begun(2, NAME) is None
    assert recorded.state(2, NAME) is None


def test_a_recorder_that_nobody_uses_tells_nothing() -> None:
    recorded = Recorded({2: memoryview(bytearray(abi.XENLIKE_RECORDER_BYTES))})
    assert not recorded.is_used(2)
    assert recorded.looked(2, NAME) is None
    assert recorded.queue(2, NAME) is None


def test_a_recorder_of_nonsense_is_read(recorder: Recorder) -> None:
    memory = bytearray(bytes(range(256)) * (abi.XENLIKE_RECORDER_BYTES // 256 + 1))[: abi.XENLIKE_RECORDER_BYTES]
    at = abi.XENLIKE_RECORDER_QUEUES_AT
    memory[at : at + 64] = NAME.encode().ljust(64, b"\0")
    recorded = Recorded({2: memoryview(memory)})
    recorded.queue(2, NAME)
    recorded.begun(2, NAME)
    assert len(recorded.tail([(2, NAME)])) <= 12
