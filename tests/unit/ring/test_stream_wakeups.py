"""No order of stores and loads loses a wake-up on a byte stream: write, read, kick and sleep on a machine model.

The machine is that of test_ring_wakeups: two CPUs with store buffers, all interleavings. The writer has more
bytes than the ring holds, so both ends sleep now and then.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

SIZE = 2
#: Where the writer's messages end: it goes on to the next without sleep only when one is all written.
MESSAGES = (1, 4, 5)
BYTES = MESSAGES[-1]

WRITER, READER = 0, 1


class State(NamedTuple):
    """Memory, store buffers, pending events, and where each end is."""

    prod: int = 0
    cons: int = 0
    woken: tuple[int, int] = (0, 0)
    buffers: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())  # each end stores to one word only
    writer: tuple[str, int, int] = ("look", 0, 0)  # step, prod, what the step needs
    reader: tuple[str, int, int] = ("look", 0, 0)  # step, cons, what the step needs

    def store(self, cpu: int, value: int) -> State:
        buffers = list(self.buffers)
        buffers[cpu] = (*buffers[cpu], value)
        return self._replace(buffers=(buffers[0], buffers[1]))

    def drain_one(self, cpu: int) -> State:
        value, *rest = self.buffers[cpu]
        buffers = list(self.buffers)
        buffers[cpu] = tuple(rest)
        after = self._replace(buffers=(buffers[0], buffers[1]))
        return after._replace(prod=value) if cpu == WRITER else after._replace(cons=value)

    def fence(self, cpu: int) -> State:
        state = self
        while state.buffers[cpu]:
            state = state.drain_one(cpu)
        return state

    def wake(self, cpu: int, really: bool) -> State:
        woken = list(self.woken)
        woken[cpu] |= really
        return self._replace(woken=(woken[0], woken[1]))


class Rules(NamedTuple):
    """What of the protocol is kept."""

    writer_fence: bool = True
    reader_fence: bool = True
    look_until_full: bool = True


def step_writer(state: State, rules: Rules) -> State | None:
    step, prod, need = state.writer
    if step == "look":
        if prod == BYTES:
            return None
        end = next(end for end in MESSAGES if end > prod)
        count = min(end - prod, SIZE - (prod - state.cons))
        return state._replace(writer=("store", prod, count) if count else ("sleep", prod, 0))
    if step == "store":
        return state.store(WRITER, prod + need)._replace(writer=("fence", prod + need, need))
    if step == "fence":
        after = state.fence(WRITER) if rules.writer_fence else state
        return after._replace(writer=("kick", prod, need))
    if step == "kick":
        after = state.wake(READER, state.cons >= prod - need)
        return after._replace(writer=("look" if rules.look_until_full or prod in MESSAGES else "sleep", prod, 0))
    if state.woken[WRITER]:
        return state._replace(woken=(0, state.woken[READER]), writer=("look", prod, 0))
    return None


def step_reader(state: State, rules: Rules) -> State | None:
    step, cons, need = state.reader
    if step == "look":
        count = state.prod - cons
        return state._replace(reader=("store", cons, count) if count else ("sleep", cons, 0))
    if step == "store":
        return state.store(READER, cons + need)._replace(reader=("fence", cons + need, need))
    if step == "fence":
        after = state.fence(READER) if rules.reader_fence else state
        return after._replace(reader=("kick", cons, need))
    if step == "kick":
        after = state.wake(WRITER, state.prod - (cons - need) >= SIZE)
        return after._replace(reader=("look", cons, 0))
    if state.woken[READER]:
        return state._replace(woken=(state.woken[WRITER], 0), reader=("look", cons, 0))
    return None


def loses_a_wakeup(rules: Rules) -> bool:
    """Walks every interleaving; True if one ends with both asleep and bytes left."""
    start = State()
    seen, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        following = [after for step in (step_writer, step_reader) if (after := step(state, rules))]
        following += [state.drain_one(cpu) for cpu in (WRITER, READER) if state.buffers[cpu]]
        if not following and state.reader[1] < BYTES:
            return True
        for after in following:
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return False


@pytest.mark.parametrize(
    ("rules", "lost"),
    [
        (Rules(), False),
        (Rules(writer_fence=False), True),
        (Rules(reader_fence=False), True),
        (Rules(look_until_full=False), True),
    ],
)
def test_both_fences_and_the_last_look_are_needed_and_enough(rules: Rules, lost: bool) -> None:
    assert loses_a_wakeup(rules) == lost
