"""A peer that writes any value into any word, at any time, costs its victim nothing but the ring."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.core.effort import EXAMPLES
from tests.unit.ring.pages import FIRST_INDICES, SLOTS, U32, Page, entries, guarded, must_notify
from xenlike.errors import ProtocolError
from xenlike.ring import LAYOUTS, BackRing, FrontRing, Spinner, stride

REQUEST, RESPONSE = 112, 16
WORDS = ("req_prod", "rsp_prod", "req_event", "rsp_event")
WILD = st.integers(-70, 70) | st.sampled_from([1 << 31, (1 << 31) - 1, -(1 << 31), 4096]) | st.integers(0, U32 - 1)


class HostileMachine(RuleBasedStateMachine):
    """One honest end over guarded memory. The rules of the model are RING.md's, on what the victim has read."""

    SIDE = "front"

    @initialize(layout=st.sampled_from(LAYOUTS), first=st.sampled_from(FIRST_INDICES))
    def start(self, layout: str, first: int) -> None:
        self.stack = ExitStack()
        self.page = Page(self.stack.enter_context(guarded(4096)), layout)
        front = FrontRing(self.page.memory, layout, REQUEST, RESPONSE, first_index=first)
        back = BackRing(self.page.memory, layout, REQUEST, RESPONSE)
        self.end: FrontRing | BackRing
        other: FrontRing | BackRing
        if self.SIDE == "front":
            self.end, other = front, back
            self.out_size, self.in_size = REQUEST, RESPONSE
            self.my_prod, self.peer_prod, self.peer_event = "req_prod", "rsp_prod", "req_event"
        else:
            self.end, other = back, front
            self.out_size, self.in_size = RESPONSE, REQUEST
            self.my_prod, self.peer_prod, self.peer_event = "rsp_prod", "req_prod", "rsp_event"
        other.close()
        self.nr = front.size
        self.stride = stride(layout, REQUEST)
        self.prod = self.cons = self.seen = self.kicked = first
        self.broken = False

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.end.close()
            self.stack.close()

    def room(self) -> int:
        if self.SIDE == "front":
            return self.nr - (self.prod - self.cons) % U32
        return (self.cons - self.prod) % U32

    def look(self) -> int | None:
        """What one look at the peer's index must find; None: the ring is broken."""
        if not self.broken:
            most = (self.prod - self.cons) % U32 if self.SIDE == "front" else self.nr - self.room()
            waiting = (self.page[self.peer_prod] - self.cons) % U32
            if waiting <= most:
                self.seen = self.page[self.peer_prod]
                return waiting
            self.broken = True
        return None

    @rule(word=st.sampled_from(WORDS), delta=WILD)
    def overwrite_an_index(self, word: str, delta: int) -> None:
        self.page[word] = self.cons + delta

    @rule(by=st.integers(1, 40))
    def produce_plausibly(self, by: int) -> None:
        self.page[self.peer_prod] = self.page[self.peer_prod] + by

    @rule(byte=st.integers(0, 255))
    def scribble_over_the_slots(self, byte: int) -> None:
        at = SLOTS[self.page.layout]
        self.page.memory[at:] = entries(byte, 1, len(self.page.memory) - at)

    @rule(limit=st.integers(1, 50))
    def pop(self, limit: int) -> None:
        out = bytearray(b"\xee" * (limit * self.in_size + 8))
        known = (self.seen - self.cons) % U32
        waiting = known if not self.broken and known >= limit else self.look()
        if waiting is None:
            with pytest.raises(ProtocolError):
                self.end.pop(out, limit)
            assert out == b"\xee" * len(out)
            return
        got = self.end.pop(out, limit)
        assert got == min(limit, waiting) <= self.nr
        for number in range(got):
            slot = self.page.slot((self.cons + number) % U32, self.nr, self.stride, self.in_size)
            assert out[number * self.in_size : (number + 1) * self.in_size] == slot
        assert out[got * self.in_size :] == b"\xee" * (len(out) - got * self.in_size)
        self.cons = (self.cons + got) % U32

    @rule(count=st.integers(0, 50))
    def push(self, count: int) -> None:
        data = entries(count, count, self.out_size)
        if self.broken:
            with pytest.raises(ProtocolError):
                self.end.push(data, count)
            return
        taken = self.end.push(data, count)
        assert taken == min(count, self.room())
        self.prod = (self.prod + taken) % U32
        if taken:
            # The peer may have changed our index; the next publication puts it right.
            assert self.page[self.my_prod] == self.prod
            last = self.page.slot((self.prod - 1) % U32, self.nr, self.stride, self.out_size)
            assert last == data[(taken - 1) * self.out_size : taken * self.out_size]

    @rule()
    def kick(self) -> None:
        expected = not self.broken and must_notify(self.prod, self.kicked, self.page[self.peer_event])
        assert self.end.kick() == expected
        if not self.broken:
            self.kicked = self.prod

    @rule()
    def arm(self) -> None:
        waiting = self.look()
        assert self.end.arm() == (waiting is None or waiting > 0)

    @rule()
    def look_by_spinner(self) -> None:
        waiting = self.look()
        assert Spinner().spin((self.end,), 0) == (waiting is None or waiting > 0)

    @rule()
    def broken_is_seen_and_stays(self) -> None:
        assert self.end.broken == self.broken


class HostileFrontMachine(HostileMachine):
    """The victim is a back."""

    SIDE = "back"


TestHostileBack = HostileMachine.TestCase
TestHostileFront = HostileFrontMachine.TestCase
TestHostileBack.settings = TestHostileFront.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
