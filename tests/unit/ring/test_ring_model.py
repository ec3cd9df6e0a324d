"""Random histories of both ends against a model in plain Python, half of them across the wrap of the indices."""

from __future__ import annotations

from contextlib import ExitStack

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.core.effort import EXAMPLES
from tests.unit.ring.pages import FIRST_INDICES, U32, Page, entries, guarded, must_notify
from xenlike.ring import CACHELINE_TAG, LAYOUTS, BackRing, FrontRing, slots

SIZES = [(112, 16), (64, 64), (12, 4), (5, 9), (1, 1), (1000, 8), (8, 3000)]
COUNT = st.integers(0, 70)


class RingMachine(RuleBasedStateMachine):
    """A ring is two queues, and a free slot is one whose response has been read."""

    @initialize(
        layout=st.sampled_from([*LAYOUTS, CACHELINE_TAG]),
        sizes=st.sampled_from(SIZES),
        order=st.integers(0, 1),
        first=st.sampled_from(FIRST_INDICES) | st.integers(0, U32 - 1),
    )
    def start(self, layout: str, sizes: tuple[int, int], order: int, first: int) -> None:
        self.stack = ExitStack()
        self.request, self.response = sizes
        memory = self.stack.enter_context(guarded(4096 << order))
        self.page = Page(memory, layout)
        self.front = FrontRing(memory, layout, *sizes, first_index=first)
        self.back = BackRing(memory, layout, *sizes)
        self.nr = slots(layout, 4096 << order, max(sizes))
        assert self.front.size == self.back.size == self.nr
        self.first = first
        self.made = 0
        self.requests: list[bytes] = []  # pushed, not popped
        self.responses: list[bytes] = []
        # How often each index has moved since the start; never wraps, unlike the real ones.
        self.req_prod = self.req_cons = self.rsp_prod = self.rsp_cons = 0
        self.req_event = self.rsp_event = 1
        self.req_kicked = self.rsp_kicked = 0

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.front.close()
            self.back.close()
            self.stack.close()

    def make(self, count: int, size: int) -> list[bytes]:
        self.made += count
        data = entries(self.made, count, size)
        return [data[at : at + size] for at in range(0, len(data), size)]

    @rule(count=COUNT)
    def push_requests(self, count: int) -> None:
        sent = self.make(count, self.request)
        taken = self.front.push(b"".join(sent), count)
        assert taken == min(count, self.nr - (self.req_prod - self.rsp_cons))
        self.requests += sent[:taken]
        self.req_prod += taken

    @rule(limit=COUNT, room=st.integers(1, 70))
    def pop_requests(self, limit: int, room: int) -> None:
        out = bytearray(b"\xee" * (room * self.request + min(3, self.request - 1)))
        got = self.back.pop(out, limit)
        assert got == min(limit, room, len(self.requests))
        assert out[: got * self.request] == b"".join(self.requests[:got])
        assert out[got * self.request :] == b"\xee" * (len(out) - got * self.request)
        del self.requests[:got]
        self.req_cons += got

    @rule(count=COUNT)
    def push_responses(self, count: int) -> None:
        sent = self.make(count, self.response)
        taken = self.back.push(b"".join(sent), count)
        assert taken == min(count, self.req_cons - self.rsp_prod)
        self.responses += sent[:taken]
        self.rsp_prod += taken

    @rule(limit=COUNT)
    def pop_responses(self, limit: int) -> None:
        out = bytearray(max(limit, 1) * self.response)
        got = self.front.pop(out, limit)
        assert got == min(limit, len(self.responses))
        assert out[: got * self.response] == b"".join(self.responses[:got])
        del self.responses[:got]
        self.rsp_cons += got

    @rule()
    def kick_front(self) -> None:
        assert self.front.kick() == must_notify(self.req_prod, self.req_kicked, self.req_event)
        self.req_kicked = self.req_prod

    @rule()
    def kick_back(self) -> None:
        assert self.back.kick() == must_notify(self.rsp_prod, self.rsp_kicked, self.rsp_event)
        self.rsp_kicked = self.rsp_prod

    @rule()
    def arm_back(self) -> None:
        assert self.back.arm() == bool(self.requests)
        if not self.requests:
            self.req_event = self.req_cons + 1

    @rule(ahead=st.integers(1, 40))
    def arm_front(self, ahead: int) -> None:
        ahead = max(1, min(ahead, self.req_prod - self.rsp_cons))
        there = len(self.responses) >= ahead
        assert self.front.arm(ahead) == there
        if not there:
            self.rsp_event = self.rsp_cons + ahead

    @invariant()
    def indices_are_as_modelled(self) -> None:
        if not hasattr(self, "page"):
            return
        for name in ("req_prod", "rsp_prod", "req_event", "rsp_event"):
            # Tags take the place of the producers' indices, which stay where they began.
            moved = 0 if self.page.layout == CACHELINE_TAG and name.endswith("prod") else getattr(self, name)
            assert self.page[name] == (self.first + moved) % U32, name
        assert self.front.free == self.nr - (self.req_prod - self.rsp_cons)
        assert self.front.in_flight == self.req_prod - self.rsp_cons
        assert self.front.available == len(self.responses)
        assert self.back.available == len(self.requests)
        assert self.back.unanswered == self.req_cons - self.rsp_prod
        assert not self.front.broken
        assert not self.back.broken


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
