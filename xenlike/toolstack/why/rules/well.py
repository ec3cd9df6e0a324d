"""Nothing is wrong, or no rule knows what."""

from __future__ import annotations

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.why.evidence import Evidence
from xenlike.toolstack.why.rule import Finding, rules, waits
from xenlike.toolstack.why.rules.ring import count
from xenlike.xenbus.state import FrontendAction, frontend_action

MOVING, moving_rule = rules()
WELL, rule = rules()


def _connected(e: Evidence) -> bool:
    return e.front.state == e.back.state == XenbusState.Connected


@moving_rule("moving", "")
def moving(e: Evidence) -> Finding | None:
    """Requests are answered while we look: whatever else is so, the device works."""
    done = [f"{count(e.answered, 'request')} answered"] if e.answered else []
    done += [f"{e.streamed:,} of its stream read"] if e.streamed else []
    if not _connected(e) or not done:
        return None
    return Finding("", "", f"connected and moving: {' and '.join(done)} in {e.watched_s:.1f} s")


@rule("idle", "")
def idle(e: Evidence) -> Finding | None:
    """Connected, and nothing to do."""
    if not _connected(e):
        return None
    if e.front.queue is None and e.back.queue is None:
        return Finding("", "", "connected; neither end keeps a record of its ring, so more cannot be seen")
    return Finding("", "", "connected, idle: nothing is in flight")


@rule("unknown", "These states do not follow from each other; `xenlike.xenbus.state` has the table of moves.")
def unknown(e: Evidence) -> Finding | None:
    """The last resort: the table of moves says whose turn it would be."""
    text = f"{e.front.title} is {e.front.state.name} and {e.back.title} is {e.back.state.name}"
    action = frontend_action(e.front.state, e.back.state)
    who, other = (e.back, e.front) if action is FrontendAction.WAIT else (e.front, e.back)
    return waits(other, who, f"{text}, which is {who.title}'s turn")
