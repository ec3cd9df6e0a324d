"""Both ends are Connected: who has published what, who was told of it, and who sleeps.

    front: prod (req_prod), kicked ---- event when its prod passes the back's armed ----> back: cons (req_cons), armed
    front: cons (rsp_cons), armed <---- event when its prod passes the front's armed ---- back: prod (rsp_prod), kicked

`kicked` is `prod` when it was last announced, `armed` the index of which an end asked to be told before it slept. An
end is asleep when its `armed` lies ahead of its `cons`.
"""

from __future__ import annotations

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.why.evidence import MASK, End, Evidence, QueueFacts
from xenlike.toolstack.why.rule import Finding, rules, waits

RING, rule = rules()


def _connected(e: Evidence) -> bool:
    return e.front.state == e.back.state == XenbusState.Connected


def _both(e: Evidence) -> tuple[QueueFacts, QueueFacts] | None:
    """The two ends of the ring, where both are known and in use."""
    front, back = e.front.queue, e.back.queue
    if not _connected(e) or front is None or back is None or not (front.in_use and back.in_use):
        return None
    return front, back


def count(number: int, what: str) -> str:
    """Returns `1 request`, `2 requests`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _unannounced(publisher: End, reader: End, queue: QueueFacts, what: str, index: str) -> Finding | None:
    behind = (queue.prod - queue.kicked) & MASK
    if not behind:
        return None
    text = (
        f"{publisher.title} has published {count(behind, what)} and told nobody: {index} = {queue.prod}, last kick at "
    )
    return waits(reader, publisher, f"{text}{queue.kicked}")


def _lost(publisher: End, reader: End, theirs: QueueFacts, ours: QueueFacts, what: str, index: str) -> Finding | None:
    """The publisher announced, the reader sleeps: the event between them was lost."""
    behind = (theirs.prod - ours.cons) & MASK
    if not behind or not ours.wakes_for(theirs.prod):
        return None
    text = f"{reader.title} sleeps on {count(behind, what)}: it asked to be woken at {ours.armed}, and {index} is "
    return waits(publisher, reader, f"{text}{theirs.prod}; the notification of {publisher.title} was lost")


def _overlooked(publisher: End, reader: End, theirs: QueueFacts, ours: QueueFacts, what: str) -> Finding | None:
    """The reader has not taken what is there, and has not asked to be told either."""
    behind = (theirs.prod - ours.cons) & MASK
    if not behind:
        return None
    text = f"{reader.title} leaves {count(behind, what)} in the ring, and has not asked to be woken (its event is "
    return waits(publisher, reader, f"{text}{ours.armed}, it has taken up to {ours.cons})")


@rule("request-not-kicked", "A front kicks after it has pushed and before it waits: `FrontRing.kick_fd`.")
def request_not_kicked(e: Evidence) -> Finding | None:
    """Published is not announced: the backend may sleep."""
    both = _both(e)
    return _unannounced(e.front, e.back, both[0], "request", "req_prod") if both else None


@rule("request-wakeup-lost", "Who kicks must write to the event channel when `kick` says so; `kick_fd` does both.")
def request_wakeup_lost(e: Evidence) -> Finding | None:
    """The backend armed, slept, and was not told."""
    both = _both(e)
    return _lost(e.front, e.back, both[0], both[1], "request", "req_prod") if both else None


@rule(
    "ring-full", "The backend must answer before more goes in. More pages (`ring_page_order`) only make the wait later."
)
def ring_full(e: Evidence) -> Finding | None:
    """As many requests are in flight as the ring has slots; whoever has another one waits."""
    both = _both(e)
    if both is None or both[0].unanswered < both[0].nr_slots or not both[1].unanswered:
        return None
    front, back = both
    text = f"the ring is full: all {front.nr_slots} requests are in flight, and {e.back.title} has taken "
    return waits(e.front, e.back, f"{text}{back.unanswered} of them and answered none")


@rule("handler-stuck", "Look at the backend's `handle`: it waits for something itself, or has forgotten to respond.")
def handler_stuck(e: Evidence) -> Finding | None:
    """Requests were taken out of the ring, and no response was put in."""
    both = _both(e)
    if both is None or not both[1].unanswered or both[1].prod != both[1].kicked:
        return None
    back = both[1]
    text = f"{e.back.title} has taken {count(back.unanswered, 'request')} and has not answered"
    when = "" if back.taken_s is None else f"; it took the last one {back.taken_s:.1f} s ago"
    left = (both[0].prod - back.cons) & MASK
    more = f"; {left:,} more wait in the ring" if left else ""
    return waits(e.front, e.back, f"{text}{when}{more}")


@rule("request-overlooked", "Arm the ring and look once more before you sleep: what came in between is seen by nobody.")
def request_overlooked(e: Evidence) -> Finding | None:
    """No re-check after arm, or a `serve` that waits elsewhere."""
    both = _both(e)
    return _overlooked(e.front, e.back, both[0], both[1], "request") if both else None


@rule("response-not-kicked", "A back kicks after it has responded and before it waits: `BackQueue.kick`.")
def response_not_kicked(e: Evidence) -> Finding | None:
    """As for requests."""
    both = _both(e)
    return _unannounced(e.back, e.front, both[1], "response", "rsp_prod") if both else None


@rule("response-wakeup-lost", "Who kicks must write to the event channel when `kick` says so; `kick_fd` does both.")
def response_wakeup_lost(e: Evidence) -> Finding | None:
    """As for requests."""
    both = _both(e)
    return _lost(e.back, e.front, both[1], both[0], "response", "rsp_prod") if both else None


@rule(
    "response-overlooked", "Arm the ring and look once more before you sleep: what came in between is seen by nobody."
)
def response_overlooked(e: Evidence) -> Finding | None:
    """The receive task does not run, or something blocks the guest's loop."""
    both = _both(e)
    return _overlooked(e.back, e.front, both[1], both[0], "response") if both else None


@rule("backend-silent", "The backend's domain keeps no record of the ring, so look into the program itself.")
def backend_silent(e: Evidence) -> Finding | None:
    """A backend in another language, or a mock one: only the frontend's end can be seen."""
    front = e.front.queue
    if not _connected(e) or front is None or not front.in_use or not front.unanswered:
        return None
    return waits(e.front, e.back, f"{e.back.title} has not answered {count(front.unanswered, 'request')}")


@rule("frontend-silent", "The guest keeps no record of the ring, so look into the program itself.")
def frontend_silent(e: Evidence) -> Finding | None:
    """A frontend in another language: only the backend's end can be seen."""
    back = e.back.queue
    if not _connected(e) or e.front.queue is not None or back is None or not back.unanswered:
        return None
    return waits(e.front, e.back, f"{e.back.title} has taken {count(back.unanswered, 'request')} and has not answered")


@rule("pages-taken", "The guest's own tasks hold the pages: look for one that does not leave its `async with`.")
def pages_taken(e: Evidence) -> Finding | None:
    """A pool has so many pages; who wants one waits until another gives it back."""
    front = e.front.queue
    if not _connected(e) or front is None or not front.starved:
        return None
    text = f"{count(front.starved, 'task')} of it wait for a page of the pool of {e.front.title}, "
    return waits(e.front, e.front, f"{text}all pages are taken, and nothing is in flight that would free one")
