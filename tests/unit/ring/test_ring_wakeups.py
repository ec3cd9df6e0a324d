"""No order of stores and loads loses a wake-up, and each fence is needed: kick and arm on a machine model.

Two CPUs with store buffers, as x86's TSO has them: a store waits in its CPU's buffer, is seen there at once and
by the other CPU when it drains, at any later moment. All interleavings are walked. A model without store
buffers would find no error in code without fences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

ENTRIES = 3

Store = tuple[str, int]


class State(NamedTuple):
    """Memory, both store buffers, and where each end is."""

    prod: int = 0
    event: int = 1
    signals: int = 0
    buffers: tuple[tuple[Store, ...], tuple[Store, ...]] = ((), ())
    producer: tuple[str, int, int] = ("push", 0, 0)  # step, pushed, kicked
    consumer: tuple[str, int] = ("look", 0)  # step, consumed


def load(state: State, cpu: int, name: str) -> int:
    for stored, value in reversed(state.buffers[cpu]):
        if stored == name:
            return value
    return state.prod if name == "prod" else state.event


def store(state: State, cpu: int, name: str, value: int) -> State:
    buffers = list(state.buffers)
    buffers[cpu] = (*buffers[cpu], (name, value))
    return state._replace(buffers=(buffers[0], buffers[1]))


def drain_one(state: State, cpu: int) -> State:
    (name, value), *rest = state.buffers[cpu]
    buffers = list(state.buffers)
    buffers[cpu] = tuple(rest)
    state = state._replace(buffers=(buffers[0], buffers[1]))
    return state._replace(prod=value) if name == "prod" else state._replace(event=value)


def drained(state: State, cpu: int) -> State:
    while state.buffers[cpu]:
        state = drain_one(state, cpu)
    return state


def step_producer(state: State, fence: bool) -> State | None:
    """push: publish; kick: fence, read the event, notify if it was passed."""
    step, pushed, kicked = state.producer
    if step == "push":
        if pushed == ENTRIES:
            return None
        return store(state, 0, "prod", pushed + 1)._replace(producer=("fence", pushed + 1, kicked))
    if step == "fence":
        return (drained(state, 0) if fence else state)._replace(producer=("kick", pushed, kicked))
    passed = pushed - load(state, 0, "event") < pushed - kicked and load(state, 0, "event") <= pushed
    return state._replace(signals=state.signals + passed, producer=("push", pushed, pushed))


def step_consumer(state: State, fence: bool, barrier: bool) -> State | None:
    """look, arm: event, fence, and membarrier if it is on; look again; only then sleep."""
    step, consumed = state.consumer
    if step == "look":
        there = load(state, 1, "prod")
        return state._replace(consumer=("look", there) if there > consumed else ("arm", consumed))
    if step == "arm":
        return store(state, 1, "event", consumed + 1)._replace(consumer=("fence", consumed))
    if step == "fence":
        if fence:
            state = drained(state, 1)
        return state._replace(consumer=("barrier" if barrier else "again", consumed))
    if step == "barrier":  # membarrier: a full barrier on the other CPU too, wherever its program is
        return drained(drained(state, 1), 0)._replace(consumer=("again", consumed))
    if step == "again":
        there = load(state, 1, "prod")
        return state._replace(consumer=("look", consumed) if there > consumed else ("sleep", consumed))
    if state.signals:
        return state._replace(signals=0, consumer=("look", consumed))
    return None


def loses_a_wakeup(kick_fence: bool, arm_fence: bool, barrier: bool) -> bool:
    """Walks every interleaving; True if one ends asleep with entries unread."""
    start = State()
    seen, waiting = {start}, [start]
    steps: list[Callable[[State], State | None]] = [
        lambda state: step_producer(state, kick_fence),
        lambda state: step_consumer(state, arm_fence, barrier),
        lambda state: drain_one(state, 0) if state.buffers[0] else None,
        lambda state: drain_one(state, 1) if state.buffers[1] else None,
    ]
    while waiting:
        state = waiting.pop()
        following = [after for step in steps if (after := step(state)) is not None]
        if not following and state.consumer[1] < ENTRIES:
            return True
        for after in following:
            # A consumer that looks in vain for ever is awake; that is no end.
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return False


@pytest.mark.parametrize(
    ("kick_fence", "arm_fence", "barrier", "lost"),
    [
        (True, True, False, False),
        (False, True, True, False),  # feature-asymmetric-fence
        (True, True, True, False),  # only one end believes in it
        (False, True, False, True),
        (True, False, False, True),
        (False, False, False, True),
    ],
)
def test_both_fences_are_needed_and_enough(kick_fence: bool, arm_fence: bool, barrier: bool, lost: bool) -> None:
    assert loses_a_wakeup(kick_fence, arm_fence, barrier) == lost
