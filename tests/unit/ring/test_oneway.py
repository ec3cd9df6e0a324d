"""Laws of one-way rings: a queue whose slots are free when the consumer has passed them."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.core.effort import EXAMPLES
from tests.unit.ring.pages import FIRST_INDICES, U32, Page, entries, guarded, must_notify
from xenlike.errors import ProtocolError
from xenlike.ring import CACHELINE, LAYOUTS, Consumer, Producer, slots


class OneWayMachine(RuleBasedStateMachine):
    """Both ends against a list."""

    @initialize(
        layout=st.sampled_from(LAYOUTS),
        size=st.sampled_from([1, 5, 64, 100, 1500]),
        first=st.sampled_from(FIRST_INDICES) | st.integers(0, U32 - 1),
    )
    def start(self, layout: str, size: int, first: int) -> None:
        self.stack = ExitStack()
        memory = self.stack.enter_context(guarded(4096))
        self.page = Page(memory, layout)
        self.producer = Producer(memory, size, layout, first_index=first)
        self.consumer = Consumer(memory, size, layout)
        self.nr = slots(layout, 4096, size)
        self.entry_size, self.first, self.made = size, first, 0
        self.queue: list[bytes] = []
        self.prod = self.cons = self.prod_kicked = self.cons_kicked = 0
        self.prod_event = self.cons_event = 1

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.producer.close()
            self.consumer.close()
            self.stack.close()

    @rule(count=st.integers(0, 70))
    def push(self, count: int) -> None:
        self.made += count
        data = entries(self.made, count, self.entry_size)
        taken = self.producer.push(data, count)
        assert taken == min(count, self.nr - len(self.queue))
        self.queue += [data[n * self.entry_size : (n + 1) * self.entry_size] for n in range(taken)]
        self.prod += taken

    @rule(limit=st.integers(1, 70))
    def pop(self, limit: int) -> None:
        out = bytearray(limit * self.entry_size)
        got = self.consumer.pop(out, limit)
        assert got == min(limit, len(self.queue))
        assert out[: got * self.entry_size] == b"".join(self.queue[:got])
        del self.queue[:got]
        self.cons += got

    @rule()
    def kick_producer(self) -> None:
        assert self.producer.kick() == must_notify(self.prod, self.prod_kicked, self.prod_event)
        self.prod_kicked = self.prod

    @rule()
    def kick_consumer(self) -> None:
        assert self.consumer.kick() == must_notify(self.cons, self.cons_kicked, self.cons_event)
        self.cons_kicked = self.cons

    @rule()
    def arm_consumer(self) -> None:
        assert self.consumer.arm() == bool(self.queue)
        if not self.queue:
            self.prod_event = self.cons + 1

    @rule(wanted=st.integers(1, 80))
    def arm_producer(self, wanted: int) -> None:
        wanted = min(wanted, self.nr)
        free = self.nr - len(self.queue)
        assert self.producer.arm_space(wanted) == (free >= wanted)
        if free < wanted:
            self.cons_event = self.cons + wanted - free

    @invariant()
    def indices_are_as_modelled(self) -> None:
        if not hasattr(self, "page"):
            return
        assert self.page["req_prod"] == (self.first + self.prod) % U32
        assert self.page["rsp_prod"] == (self.first + self.cons) % U32
        assert self.page["req_event"] == (self.first + self.prod_event) % U32
        assert self.page["rsp_event"] == (self.first + self.cons_event) % U32
        assert self.consumer.available == len(self.queue)


TestOneWay = OneWayMachine.TestCase
TestOneWay.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)


@pytest.mark.parametrize("first", FIRST_INDICES)
@pytest.mark.parametrize("delta", [-1, 1, 100, 1 << 30])
def test_a_consumer_that_lies_about_its_index_is_found_out(first: int, delta: int) -> None:
    page = Page(memoryview(bytearray(4096)), CACHELINE)
    producer = Producer(page.memory, 64, first_index=first, domid=4)
    producer.push(bytes(64 * 3))
    page["rsp_prod"] = first + (3 + delta if delta > 0 else delta)
    assert producer.arm_space(producer.size)
    page["rsp_prod"] = first
    with pytest.raises(ProtocolError, match=r"d4: .*consumer's index"):
        producer.push(bytes(64))
    with pytest.raises(ProtocolError):
        _ = producer.free


@pytest.mark.parametrize("first", FIRST_INDICES)
def test_a_producer_that_overruns_is_found_out(first: int) -> None:
    page = Page(memoryview(bytearray(4096)), CACHELINE)
    producer = Producer(page.memory, 64, first_index=first)
    consumer = Consumer(page.memory, 64)
    page["req_prod"] = first + producer.size + 1
    with pytest.raises(ProtocolError, match="producer's index"):
        consumer.pop(bytearray(64))
    assert consumer.broken


def test_each_end_has_one_direction() -> None:
    memory = bytearray(4096)
    producer, consumer = Producer(memory, 64), Consumer(memory, 64)
    with pytest.raises(TypeError, match="nothing to pop"):
        producer.pop(bytearray(64))
    with pytest.raises(TypeError, match="nothing to push"):
        consumer.push(bytes(64))
    with pytest.raises(ValueError, match="makes no sense"):
        producer.incoming(3)
    with pytest.raises(ValueError, match="makes no sense"):
        consumer.outgoing(3)
