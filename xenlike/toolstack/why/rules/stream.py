"""Devices with a one-way ring beside their requests, such as a sensor's samples: one end produces, the other reads.

producer: prod, kicked ---- event when its prod passes the consumer's armed ----> consumer: cons, armed
"""

from __future__ import annotations

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.why.evidence import MASK, End, Evidence, QueueFacts
from xenlike.toolstack.why.rule import Finding, rules, waits

STREAM, rule = rules()

_PRODUCER, _CONSUMER = 2, 3


def _ends(e: Evidence) -> tuple[End, QueueFacts, End, QueueFacts] | None:
    """The producer and the consumer, where both are known and in use."""
    if not e.front.state == e.back.state == XenbusState.Connected:
        return None
    for one, other in ((e.front, e.back), (e.back, e.front)):
        prod, cons = one.stream, other.stream
        if prod is None or cons is None or not (prod.in_use and cons.in_use):
            continue
        if (prod.side, cons.side) == (_PRODUCER, _CONSUMER):
            return one, prod, other, cons
    return None


@rule("stream-not-kicked", "A producer kicks after it has pushed and before it waits: `Producer.kick_fd`.")
def stream_not_kicked(e: Evidence) -> Finding | None:
    """Published is not announced: the consumer may sleep."""
    ends = _ends(e)
    if ends is None or ends[1].prod == ends[1].kicked:
        return None
    producer, prod, consumer, _ = ends
    text = f"{producer.title} has published {(prod.prod - prod.kicked) & MASK:,} of its stream and told nobody"
    return waits(consumer, producer, f"{text}: prod = {prod.prod}, last kick at {prod.kicked}")


@rule("stream-wakeup-lost", "Who kicks must write to the event channel when `kick` says so; `kick_fd` does both.")
def stream_wakeup_lost(e: Evidence) -> Finding | None:
    """The consumer armed, slept, and was not told."""
    ends = _ends(e)
    if ends is None or not ends[3].wakes_for(ends[1].prod):
        return None
    producer, prod, consumer, cons = ends
    behind = (prod.prod - cons.cons) & MASK
    text = f"{consumer.title} sleeps on {behind:,} of the stream: it asked to be woken at {cons.armed}, and prod is "
    return waits(producer, consumer, f"{text}{prod.prod}; the notification of {producer.title} was lost")


@rule("stream-full", "The consumer's program does not read, so what does not fit is lost, or the producer waits.")
def stream_full(e: Evidence) -> Finding | None:
    """Nobody reads."""
    ends = _ends(e)
    if ends is None or (ends[1].prod - ends[3].cons) & MASK < ends[1].nr_slots:
        return None
    producer, prod, consumer, _ = ends
    return waits(
        producer, consumer, f"the stream is full: {consumer.title} has left all {prod.nr_slots:,} slots unread"
    )
