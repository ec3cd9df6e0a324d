"""`cacheline-tag`: slots say themselves what they hold, and a peer that lies in one costs its victim only the ring.

What both layouts with indices are tested for, test_ring_model and test_two_processes ask of this one too.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.abi.c_compiler import compile_and_run
from tests.core.effort import EXAMPLES
from tests.unit.ring.pages import FIRST_INDICES, U32, Page, entries, guarded, must_notify
from xenlike.errors import ProtocolError
from xenlike.ring import CACHELINE_TAG, BackRing, Consumer, FrontRing, Producer, Spinner, slots, stride

REQUEST, RESPONSE = 112, 16
STRIDE = 128
WILD = st.integers(-70, 70) | st.sampled_from([1 << 31, (1 << 31) - 1, -(1 << 31)]) | st.integers(0, U32 - 1)


def test_a_slot_has_room_for_tag_and_entry_in_whole_lines() -> None:
    assert stride(CACHELINE_TAG, 56) == 64
    assert stride(CACHELINE_TAG, 57) == 128
    assert slots(CACHELINE_TAG, 4096, 56) == 32
    assert slots(CACHELINE_TAG, 4096, 4096) == 0


def test_one_way_rings_refuse_it() -> None:
    for end in (Producer, Consumer):
        with pytest.raises(ValueError, match="cacheline-tag"):
            end(bytearray(4096), 56, CACHELINE_TAG)


@pytest.mark.parametrize("first", FIRST_INDICES)
def test_tags_are_as_specified(first: int) -> None:
    memory = memoryview(bytearray(4096))
    front = FrontRing(memory, CACHELINE_TAG, 20, 8, first_index=first)
    back = BackRing(memory, CACHELINE_TAG, 20, 8)
    for lap in range(3):
        for number in range(front.size):
            index = (first + lap * front.size + number) % U32
            at = 512 + index % front.size * 64
            front.push(entries(number, 1, 20))
            assert struct.unpack_from("<II20s", memory, at) == ((2 * index + 1) % U32, 0, entries(number, 1, 20))
            assert back.pop(bytearray(20)) == 1
            back.push(entries(7, 1, 8))
            assert struct.unpack_from("<II8s", memory, at) == ((2 * index + 2) % U32, 0, entries(7, 1, 8))
            assert front.pop(bytearray(8)) == 1


class HostileMachine(RuleBasedStateMachine):
    """One honest end, and any value in any tag at any time."""

    SIDE = "front"

    @initialize(first=st.sampled_from(FIRST_INDICES))
    def start(self, first: int) -> None:
        self.stack = ExitStack()
        memory = self.stack.enter_context(guarded(4096))
        self.page = Page(memory, CACHELINE_TAG)
        front = FrontRing(memory, CACHELINE_TAG, REQUEST, RESPONSE, first_index=first)
        back = BackRing(memory, CACHELINE_TAG, REQUEST, RESPONSE)
        self.end: FrontRing | BackRing
        other: FrontRing | BackRing
        if self.SIDE == "front":
            self.end, other = front, back
            self.out_size, self.in_size, self.peer_event = REQUEST, RESPONSE, "req_event"
        else:
            self.end, other = back, front
            self.out_size, self.in_size, self.peer_event = RESPONSE, REQUEST, "rsp_event"
        other.close()
        self.nr = front.size
        self.first = first
        # How far each index has gone; never wraps, unlike the real ones.
        self.prod = self.cons = self.seen = self.kicked = 0
        self.broken = False

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.end.close()
            self.stack.close()

    def at(self, index: int) -> int:
        return 512 + (self.first + index) % self.nr * STRIDE

    def full(self, index: int) -> int:
        return (2 * (self.first + index) + (2 if self.SIDE == "front" else 1)) % U32

    def empty(self, index: int) -> int:
        if self.SIDE == "front":
            return (2 * (self.first + index) + 1) % U32
        return 0 if index < self.nr else (2 * (self.first + index - self.nr) + 2) % U32

    def room(self) -> int:
        return self.nr - (self.prod - self.cons) if self.SIDE == "front" else self.cons - self.prod

    def look(self, wanted: int) -> int | None:
        """How many entries a look that wants so many finds; None: the ring is broken."""
        most = self.prod - self.cons if self.SIDE == "front" else self.nr - self.room()
        while not self.broken and self.seen - self.cons < min(most, wanted):
            (tag,) = struct.unpack_from("<I", self.page.memory, self.at(self.seen))
            if tag == self.empty(self.seen):
                break
            self.broken = tag != self.full(self.seen)
            self.seen += not self.broken
        return None if self.broken else self.seen - self.cons

    @rule(slot=st.integers(0, 40), delta=WILD)
    def lie(self, slot: int, delta: int) -> None:
        struct.pack_into("<I", self.page.memory, self.at(slot), (2 * (self.first + self.cons) + delta) % U32)

    @rule(word=st.sampled_from(("req_prod", "rsp_prod", "req_event", "rsp_event")), delta=WILD)
    def overwrite_the_header(self, word: str, delta: int) -> None:
        self.page[word] = self.first + self.cons + delta

    @rule(count=st.integers(1, 20), byte=st.integers(0, 255))
    def produce(self, count: int, byte: int) -> None:
        for index in range(self.seen, self.seen + count):
            (tag,) = struct.unpack_from("<I", self.page.memory, self.at(index))
            if tag == self.empty(index):
                body = entries(byte + index, 1, self.in_size)
                struct.pack_into("<II", self.page.memory, self.at(index), self.full(index), 0)
                self.page.memory[self.at(index) + 8 :][: self.in_size] = body

    @rule(limit=st.integers(1, 50))
    def pop(self, limit: int) -> None:
        out = bytearray(b"\xee" * (limit * self.in_size + 8))
        waiting = self.look(limit)
        if waiting is None:
            with pytest.raises(ProtocolError):
                self.end.pop(out, limit)
            assert out == b"\xee" * len(out)
            return
        got = self.end.pop(out, limit)
        assert got == min(limit, waiting) <= self.nr
        for number in range(got):
            at = self.at(self.cons + number) + 8
            assert out[number * self.in_size :][: self.in_size] == self.page.memory[at : at + self.in_size]
        assert out[got * self.in_size :] == b"\xee" * (len(out) - got * self.in_size)
        self.cons += got

    @rule(count=st.integers(0, 50))
    def push(self, count: int) -> None:
        data = entries(count, count, self.out_size)
        if self.broken:
            with pytest.raises(ProtocolError):
                self.end.push(data, count)
            return
        taken = self.end.push(data, count)
        assert taken == min(count, self.room())
        for number in range(taken):
            (tag,) = struct.unpack_from("<I", self.page.memory, self.at(self.prod + number))
            expected = 2 * (self.first + self.prod + number) + (1 if self.SIDE == "front" else 2)
            assert tag == expected % U32
        self.prod += taken

    @rule()
    def kick(self) -> None:
        new, old = self.first + self.prod, self.first + self.kicked
        expected = not self.broken and must_notify(new, old, self.page[self.peer_event])
        assert self.end.kick() == expected
        if not self.broken:
            self.kicked = self.prod

    @rule()
    def arm(self) -> None:
        waiting = self.look(1)
        assert self.end.arm() == (waiting is None or waiting > 0)

    @rule()
    def count(self) -> None:
        waiting = self.look(self.nr)
        if waiting is None:
            with pytest.raises(ProtocolError):
                _ = self.end.available
        else:
            assert self.end.available == waiting

    @rule()
    def look_by_spinner(self) -> None:
        waiting = self.look(1)
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


LAPS = r"""
#include <stdio.h>
#include "xl_ring_inline.h"
#include "xl_api.h"

static _Alignas(4096) unsigned char page[4096];
static struct xl_ring front, back;

/* One entry there, taken, answered, and the answer taken; with a look at the empty ring each time. */
static int trip(void)
{
    unsigned char entry[56] = {0};

    return xl_ring_look(&back, 1) == 0 && xl_ring_push(&front, entry, 56, 1) == 1 &&
           xl_ring_pop(&back, entry, 56, 1) == 1 && xl_ring_look(&front, 1) == 0 &&
           xl_ring_push(&back, entry, 56, 1) == 1 && xl_ring_pop(&front, entry, 56, 1) == 1;
}

int main(void)
{
    uint32_t slots;

    if (xl_ring_create(&front, page, 4096, XL_LAYOUT_TAG, XL_SIDE_FRONT, 56, 56, 56, 5) ||
        xl_ring_attach(&back, page, 4096, XL_LAYOUT_TAG, XL_SIDE_BACK, 56, 56, 56))
        return 1;
    slots = front.nr_slots;
    for (uint32_t trips = 0; trips < 3 * slots; trips++)
        if (!trip())
            return 2;
    /* as if 2^32 less a few entries had gone by: what the slots hold is of the lap before */
    for (uint32_t slot = 0, at = front.first - 3; slot < slots; slot++, at++)
        atomic_store(&xl_tagged_slot_at(&back, at - slots)->tag, 2 * (at - slots) + 2);
    front.prod = front.kicked = front.cons = front.seen = front.first - 3;
    back.prod = back.kicked = back.cons = back.seen = back.first - 3;
    for (uint32_t trips = 0; trips < 3 * slots; trips++)
        if (!trip()) {
            printf("broken %u at trip %u\n", back.broken, trips);
            return 3;
        }
    puts("fine");
    return 0;
}
"""


def test_tags_go_on_after_every_index_has_been_used_once(tmp_path: Path) -> None:
    """The distance from the first index wraps, too, and must not make a used slot look like a fresh one."""
    core = Path(__file__).resolve().parents[3] / "xenlike" / "_core"
    sources = [str(core / name) for name in ("xl_ring.c", "xl_recorder.c", "xl_process.c", "xl_event.c")]
    flags = [f"-I{core}", "-fno-strict-aliasing", *sources]
    assert compile_and_run(LAPS, tmp_path, *flags).strip() == "fine"
