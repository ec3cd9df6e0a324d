"""Laws of byte streams: a queue of bytes in Xen's places, and no index leads out of it."""

from __future__ import annotations

import struct
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.core.effort import EXAMPLES
from tests.unit.ring.pages import FIRST_INDICES, U32, entries, guarded
from xenlike.errors import ProtocolError
from xenlike.ring import ByteStream, ConsoleStreams, XenstoreStreams

CONS, PROD = 3072, 3076


class StreamMachine(RuleBasedStateMachine):
    """A writer and a reader against a bytearray, with a peer that sometimes overwrites an index."""

    @initialize(size=st.sampled_from([1, 2, 64, 1024]), first=st.sampled_from(FIRST_INDICES))
    def start(self, size: int, first: int) -> None:
        self.stack = ExitStack()
        self.memory = self.stack.enter_context(guarded(4096))
        # At the very end of the page, so that reading too far is a crash.
        self.offset = 4096 - size if size < 1024 else 1024
        self.memory[:] = b"\xee" * 4096
        struct.pack_into("<II", self.memory, CONS - 1024, first, first)
        self.writer, self.reader = (
            ByteStream(self.memory, self.offset, size, CONS - 1024, PROD - 1024) for _ in range(2)
        )
        self.size, self.first = size, first
        self.queue = bytearray()
        self.sent = self.taken = 0
        self.wake_reader = self.wake_writer = False

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.writer.close()
            self.reader.close()
            self.stack.close()

    @rule(length=st.integers(0, 1500))
    def write(self, length: int) -> None:
        data = entries(self.sent, 1, length)
        count = self.writer.write(data)
        assert count == min(length, self.size - len(self.queue))
        # The reader had read all there was, so it may have gone to sleep.
        self.wake_reader |= count > 0 and not self.queue
        self.queue += data[:count]
        self.sent += count

    @rule(limit=st.none() | st.integers(-1, 1500))
    def read(self, limit: int | None) -> None:
        data = self.reader.read(limit)
        expected = bytes(self.queue if limit is None else self.queue[: max(limit, 0)])
        assert data == expected
        self.wake_writer |= len(data) > 0 and len(self.queue) == self.size
        del self.queue[: len(data)]
        self.taken += len(data)

    @rule()
    def kick(self) -> None:
        assert self.writer.kick() == self.wake_reader
        assert self.reader.kick() == self.wake_writer
        self.wake_reader = self.wake_writer = False

    @rule()
    def indices_and_counts_are_as_modelled(self) -> None:
        indices = struct.unpack_from("<II", self.memory, CONS - 1024)
        assert indices == ((self.first + self.taken) % U32, (self.first + self.sent) % U32)
        assert self.writer.space == self.size - len(self.queue)
        assert self.reader.available == len(self.queue)
        assert self.writer.statistics().written == self.sent
        assert self.reader.statistics().read == self.taken
        assert self.memory[: CONS - 1024] == b"\xee" * (CONS - 1024) or self.size == 1024

    @rule(which=st.sampled_from([CONS, PROD]), by=st.integers(1, U32 - 1))
    def a_lie_breaks_both_ends_or_neither(self, which: int, by: int) -> None:
        true = struct.unpack_from("<I", self.memory, which - 1024)[0]
        struct.pack_into("<I", self.memory, which - 1024, (true + by) % U32)
        waiting = (len(self.queue) + (by if which == PROD else -by)) % U32
        probe = ByteStream(self.memory, self.offset, self.size, CONS - 1024, PROD - 1024)
        if waiting > self.size:
            attempts = (lambda: probe.write(b"x"), probe.read, lambda: probe.available, lambda: probe.space)
            for attempt in attempts:
                with pytest.raises(ProtocolError, match="byte ring broken"):
                    attempt()
            assert probe.broken
        else:
            assert probe.available == waiting
        struct.pack_into("<I", self.memory, which - 1024, true)
        assert probe.broken == (waiting > self.size), "sticky, whatever the page says now"
        probe.close()


TestStream = StreamMachine.TestCase
TestStream.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)


def test_xenstore_streams_lie_where_xs_wire_has_them() -> None:
    page = bytearray(4096)
    streams = XenstoreStreams(page)
    assert (streams.requests.size, streams.responses.size) == (1024, 1024)
    streams.requests.write(b"request")
    streams.responses.write(b"response!")
    assert page[:7] == b"request"
    assert page[1024:1033] == b"response!"
    assert struct.unpack_from("<IIII", page, 2048) == (0, 7, 0, 9)
    peer = XenstoreStreams(page)
    assert peer.requests.read() == b"request"
    assert struct.unpack_from("<IIII", page, 2048) == (7, 7, 0, 9)
    streams.server_features, streams.connection, streams.error = 3, 1, 2
    assert struct.unpack_from("<III", page, 2064) == (3, 1, 2)
    assert (peer.server_features, peer.connection, peer.error) == (3, 1, 2)
    assert streams.kick()
    assert not streams.kick()


def test_a_reset_empties_and_mends_the_streams() -> None:
    page = bytearray(4096)
    streams = XenstoreStreams(page, domid=3)
    struct.pack_into("<I", page, 2052, 5000)
    with pytest.raises(ProtocolError, match="d3: byte ring broken: prod 5000 is not within 1024 of cons 0"):
        streams.requests.read()
    streams.reset()
    assert not streams.requests.broken
    assert streams.requests.write(b"x" * 2000) == 1024
    assert XenstoreStreams(page).requests.read() == b"x" * 1024


def test_console_streams_lie_where_console_h_has_them() -> None:
    page = bytearray(4096)
    streams = ConsoleStreams(page)
    assert (streams.input.size, streams.output.size) == (1024, 2048)
    streams.input.write(b"typed")
    streams.output.write(b"printed")
    assert page[:5] == b"typed"
    assert page[1024:1031] == b"printed"
    assert struct.unpack_from("<IIII", page, 3072) == (0, 5, 0, 7)


@pytest.mark.parametrize("first", FIRST_INDICES)
def test_a_reader_that_is_behind_needs_no_notification(first: int) -> None:
    page = bytearray(4096)
    struct.pack_into("<II", page, 3080, first, first)
    writer, reader = ConsoleStreams(page).output, ConsoleStreams(page).output
    writer.write(b"one")
    assert writer.kick()
    writer.write(b"two")
    assert not writer.kick()
    writer.write(b"3" * 40)
    writer.write(b"3" * 40)
    assert not writer.kick()
    assert reader.read() == b"onetwo" + b"3" * 80
    assert not reader.kick(), "nobody waits for room"
    writer.write(b"three")
    assert writer.kick()


@pytest.mark.parametrize("first", FIRST_INDICES)
def test_a_writer_that_found_no_room_is_notified(first: int) -> None:
    page = bytearray(4096)
    struct.pack_into("<II", page, 3080, first, first)
    writer, reader = ConsoleStreams(page).output, ConsoleStreams(page).output
    assert writer.write(bytes(3000)) == 2048
    assert writer.write(b"x") == 0
    reader.read(1)
    assert reader.kick()
    reader.read(1)
    assert not reader.kick()


@pytest.mark.parametrize(
    "place",
    [
        (0, 1000, 2048, 2052),
        (0, 0, 2048, 2052),
        (3073, 1024, 0, 4),
        (0, 1024, 2050, 2052),
        (0, 1024, 4096, 2052),
        (0, 1024, 2048, 4094),
        (-4, 1024, 2048, 2052),
    ],
)
def test_a_stream_of_nonsense_is_refused(place: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no stream fits"):
        ByteStream(bytearray(4096), *place)


def test_a_closed_page_is_let_go_and_never_touched_again() -> None:
    page = bytearray(4096)
    streams, console = XenstoreStreams(page), ConsoleStreams(page)
    for part in (streams, console):
        part.close()
        part.close()
    page.clear()  # would be a BufferError while anybody holds it
    for attempt in (
        lambda: streams.requests.write(b"x"),
        streams.responses.read,
        lambda: console.output.available,
        lambda: streams.connection,
        streams.reset,
    ):
        with pytest.raises(ValueError, match="closed"):
            attempt()
    with pytest.raises(ValueError, match="closed"):
        streams.connection = 1


@pytest.mark.parametrize("offset", [-4, 2, 4096, 4094])
def test_a_shared_word_lies_in_its_page(offset: int) -> None:
    from xenlike import _core

    with pytest.raises(ValueError, match="no aligned u32"):
        _core.SharedWord(bytearray(4096), offset)
