"""Laws of `put` and `get`: one queue, whatever way entries take, and nothing is published before its time."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.core.effort import EXAMPLES
from tests.unit.ring.pages import FIRST_INDICES, U32, Page, entries, guarded
from xenlike.errors import ProtocolError
from xenlike.ring import CACHELINE, LAYOUTS, Consumer, Producer, slots


class StagedMachine(RuleBasedStateMachine):
    """Both ends against deques of what is staged, in the ring, and copied out but not handed out."""

    @initialize(
        layout=st.sampled_from(LAYOUTS),
        size=st.sampled_from([1, 5, 64, 100, 1500]),
        stages=st.tuples(st.integers(1, 64), st.integers(1, 64)),
        first=st.sampled_from(FIRST_INDICES) | st.integers(0, U32 - 1),
    )
    def start(self, layout: str, size: int, stages: tuple[int, int], first: int) -> None:
        self.stack = ExitStack()
        memory = self.stack.enter_context(guarded(4096))
        self.page = Page(memory, layout)
        self.nr = slots(layout, 4096, size)
        self.out_stage, self.in_stage = (min(stage, self.nr) for stage in stages)
        self.producer = Producer(memory, size, layout, stage=self.out_stage, first_index=first)
        self.consumer = Consumer(memory, size, layout, stage=self.in_stage)
        self.entry_size, self.first, self.made = size, first, 0
        self.staged: deque[bytes] = deque()
        self.ring: deque[bytes] = deque()
        self.unread: deque[bytes] = deque()
        self.published = self.freed = 0

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.producer.close()
            self.consumer.close()
            self.stack.close()

    def entry(self) -> bytes:
        self.made += 1
        return entries(self.made, 1, self.entry_size)

    def publish(self) -> None:
        while self.staged and len(self.ring) < self.nr:
            self.ring.append(self.staged.popleft())
            self.published += 1

    def put_one(self, entry: bytes | bytearray | memoryview) -> None:
        if len(self.staged) == self.out_stage:
            self.publish()
        fits = len(self.staged) < self.out_stage
        assert self.producer.put(entry) is fits
        if fits:
            self.staged.append(bytes(entry))
        if len(self.staged) == self.out_stage:
            self.publish()

    @rule(count=st.integers(1, 80), kind=st.sampled_from([bytes, bytearray, memoryview]))
    def put(self, count: int, kind: type[bytes]) -> None:
        for _ in range(count):
            self.put_one(kind(self.entry()))

    @rule(off=st.sampled_from([-1, 1, 1000]), kind=st.sampled_from([bytes, bytearray]))
    def put_what_is_no_entry(self, off: int, kind: type[bytes]) -> None:
        with pytest.raises(ValueError, match=f"an entry of this ring has {self.entry_size} bytes"):
            self.producer.put(kind(self.entry_size + off))

    @rule()
    def flush(self) -> None:
        self.publish()
        assert self.producer.flush() is (not self.staged)

    @rule(count=st.integers(0, 70))
    def push(self, count: int) -> None:
        data = b"".join(self.entry() for _ in range(count))
        self.publish()
        fits = 0 if self.staged else min(count, self.nr - len(self.ring))
        assert self.producer.push(data, count) == fits
        self.staged.extend(data[n * self.entry_size : (n + 1) * self.entry_size] for n in range(fits))
        self.publish()

    @rule(count=st.integers(1, 80))
    def get(self, count: int) -> None:
        for _ in range(count):
            if not self.unread:
                self.copy_out(self.in_stage)
            expected = self.unread.popleft() if self.unread else None
            assert self.consumer.get() == expected

    def copy_out(self, most: int) -> None:
        while self.ring and most:
            self.unread.append(self.ring.popleft())
            self.freed += 1
            most -= 1

    @rule(limit=st.integers(1, 70), bound=st.booleans())
    def pop(self, limit: int, bound: bool) -> None:
        if not self.unread:
            self.copy_out(limit)
        expected = [self.unread.popleft() for _ in range(min(limit, len(self.unread)))]
        if bound:
            incoming = self.consumer.incoming(limit)
            got, out = incoming.pop(), incoming.data
        else:
            out = bytearray(limit * self.entry_size)
            got = self.consumer.pop(out, limit)
        assert got == len(expected)
        assert out[: got * self.entry_size] == b"".join(expected)

    @rule()
    def arm_consumer(self) -> None:
        assert self.consumer.arm() == bool(self.unread or self.ring)

    @rule(wanted=st.integers(1, 80))
    def arm_producer(self, wanted: int) -> None:
        room = self.nr - len(self.ring)
        assert self.producer.arm_space(wanted) == (room >= min(wanted + len(self.staged), self.nr))

    @invariant()
    def is_as_modelled(self) -> None:
        if not hasattr(self, "page"):
            return
        assert self.page["req_prod"] == (self.first + self.published) % U32
        assert self.page["rsp_prod"] == (self.first + self.freed) % U32
        assert self.producer.staged == len(self.staged)
        assert self.consumer.unread == len(self.unread)
        assert self.consumer.available == len(self.unread) + len(self.ring)
        assert self.producer.free == max(0, self.nr - len(self.ring) - len(self.staged))


TestStaged = StagedMachine.TestCase
TestStaged.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)


@pytest.mark.parametrize("first", FIRST_INDICES)
@pytest.mark.parametrize("delta", [-1, 1, 100, 1 << 30])
def test_put_and_flush_find_out_a_consumer_that_lies_about_its_index(first: int, delta: int) -> None:
    page = Page(memoryview(bytearray(4096)), CACHELINE)
    producer = Producer(page.memory, 64, stage=2, first_index=first, domid=4)
    producer.push(bytes(64 * producer.size))
    page["rsp_prod"] = first + (producer.size + delta if delta > 0 else delta)
    assert producer.put(bytes(64))
    with pytest.raises(ProtocolError, match=r"d4: .*consumer's index"):
        producer.put(bytes(64))
    page["rsp_prod"] = first
    with pytest.raises(ProtocolError, match=r"d4: .*consumer's index"):
        producer.flush()
    with pytest.raises(ProtocolError, match=r"d4: .*consumer's index"):
        producer.put(bytes(64))
    assert producer.broken


@pytest.mark.parametrize("first", FIRST_INDICES)
@pytest.mark.parametrize("jump", [-3, 64, 1 << 30])
def test_get_hands_out_what_was_checked_and_then_finds_out_a_producer_that_lies(first: int, jump: int) -> None:
    page = Page(memoryview(bytearray(4096)), CACHELINE)
    producer = Producer(page.memory, 64, first_index=first)
    consumer = Consumer(page.memory, 64, domid=7)
    sent = [entries(n, 1, 64) for n in range(2)]
    producer.push(b"".join(sent))
    assert consumer.get() == sent[0]
    page["req_prod"] = first + jump
    assert consumer.get() == sent[1]
    for _ in range(2):
        with pytest.raises(ProtocolError, match=r"d7: .*producer's index"):
            consumer.get()
        page["req_prod"] = first + 2
    assert consumer.broken


def test_an_entry_is_private_once_it_was_copied() -> None:
    memory = bytearray(4096)
    producer, consumer = Producer(memory, 64), Consumer(memory, 64)
    mine = bytearray(entries(1, 1, 64))
    producer.put(mine)
    mine[:] = bytes(64)
    producer.put(entries(2, 1, 64))
    producer.flush()
    first = consumer.get()
    memory[256:] = bytes(len(memory) - 256)
    assert [first, consumer.get()] == [entries(1, 1, 64), entries(2, 1, 64)]


def test_nothing_is_published_before_the_stage_is_full_or_flushed() -> None:
    memory = bytearray(4096)
    producer, consumer = Producer(memory, 64, stage=3), Consumer(memory, 64)
    for number in range(2):
        producer.put(entries(number, 1, 64))
        assert consumer.get() is None
    producer.put(entries(2, 1, 64))
    assert [consumer.get() for _ in range(4)] == [*(entries(number, 1, 64) for number in range(3)), None]
    assert not producer.kick() or producer.staged == 0
    producer.put(entries(3, 1, 64))
    assert producer.flush()
    assert consumer.get() == entries(3, 1, 64)


def test_a_notification_is_due_for_what_put_has_published() -> None:
    memory = bytearray(4096)
    producer, consumer = Producer(memory, 64, stage=2), Consumer(memory, 64)
    assert not consumer.arm()
    producer.put(bytes(64))
    assert not producer.kick()
    producer.put(bytes(64))
    assert producer.kick()


@pytest.mark.parametrize("stage", [-1, 0, 33, 1 << 32])
def test_a_stage_has_one_entry_to_a_ring_full(stage: int) -> None:
    memory = bytearray(4096)
    with pytest.raises(ValueError, match=rf"stage is {stage}; it must be 1 to 32 entries"):
        Producer(memory, 64, stage=stage)
    with pytest.raises(ValueError, match=rf"stage is {stage}; it must be 1 to 32 entries"):
        Consumer(memory, 64, stage=stage)


@pytest.mark.parametrize("nonsense", ["x" * 64, 64, None, [0] * 64])
def test_what_is_no_buffer_is_no_entry(nonsense: object) -> None:
    producer = Producer(bytearray(4096), 64)
    with pytest.raises(TypeError):
        producer.put(nonsense)  # type: ignore[arg-type]
    assert producer.staged == 0


def test_a_closed_end_refuses() -> None:
    memory = bytearray(4096)
    producer, consumer = Producer(memory, 64), Consumer(memory, 64)
    producer.push(bytes(128))
    consumer.get()
    producer.put(bytes(64))
    incoming, outgoing = consumer.incoming(1), producer.outgoing(1)
    for end in (producer, consumer):
        end.close()
    for call in (lambda: producer.put(bytes(64)), producer.flush, consumer.get, incoming.pop, outgoing.push):
        with pytest.raises(ValueError, match="the ring is closed"):
            call()


def test_batches_and_their_rings_are_collected_together() -> None:
    class Held(Producer):
        """An end with attributes: one that its own batch keeps alive."""

    producer = Held(bytearray(4096), 64)
    producer.batch = producer.outgoing(2)  # type: ignore[attr-defined]
    gone = weakref.ref(producer)
    del producer
    gc.collect()
    assert gone() is None
