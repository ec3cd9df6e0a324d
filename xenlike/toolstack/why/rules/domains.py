"""Who is not there at all: without a store nobody moves, and the dead never do."""

from __future__ import annotations

from xenlike.toolstack.why.evidence import End, Evidence
from xenlike.toolstack.why.rule import Finding, rules, waits

DOMAINS, rule = rules()

_SAYS = {
    "paused": "has not been started",
    "stopped": "is stopped: its process takes no step (SIGSTOP, or a debugger)",
    "restarting": "is being started again after its death",
    "crashed": "has crashed",
    "dead": "has ended",
    "gone": "is no more",
}


def _absent(e: Evidence, end: End, *states: str) -> Finding | None:
    if end.domain.state not in states:
        return None
    other = e.back if end is e.front else e.front
    last = f"; its last words: {end.domain.said}" if end.domain.said and end.domain.state != "stopped" else ""
    name = f" ({end.domain.name})" if end.domain.name else ""
    return waits(other, end, f"the domain of {end.title}{name} {_SAYS[end.domain.state]}{last}")


@rule("store-down", "Nothing to do: the toolstack starts xenstored again; `xenlike list` shows whether it lives.")
def store_down(e: Evidence) -> Finding | None:
    """Every word of a handshake goes through the store."""
    if e.store:
        return None
    return Finding("everybody", "xenstored", "the store does not answer; xenstored is stopped, or being started again")


@rule("frontend-dead", "Its devices go with it. Start the guest again, or detach the device.")
def frontend_dead(e: Evidence) -> Finding | None:
    """Its nodes are removed by the toolstack, a moment later."""
    return _absent(e, e.front, "crashed", "dead", "gone")


@rule("backend-restarting", "Nothing to do: when the domain is back, the toolstack points the frontend to it.")
def backend_restarting(e: Evidence) -> Finding | None:
    """`on_crash = "restart"`."""
    return _absent(e, e.back, "restarting")


@rule(
    "backend-dead",
    'Start the driver domain again and attach the device anew; with on_crash = "restart" that happens by itself.',
)
def backend_dead(e: Evidence) -> Finding | None:
    """The toolstack writes Closed for it, since the dead write nothing."""
    return _absent(e, e.back, "crashed", "dead", "gone")


@rule("backend-not-started", "Unpause the domain; the toolstack does that when it has made the domain's console.")
def backend_not_started(e: Evidence) -> Finding | None:
    """Created, and no process yet."""
    return _absent(e, e.back, "paused")


@rule("frontend-not-started", "Unpause the domain; the toolstack does that when it has made the domain's console.")
def frontend_not_started(e: Evidence) -> Finding | None:
    """Likewise."""
    return _absent(e, e.front, "paused", "restarting")


@rule("backend-stopped", "Let the process go on (kill -CONT, or leave the debugger); `xenlike list` shows its pid.")
def backend_stopped(e: Evidence) -> Finding | None:
    """Alive, and taking no step."""
    return _absent(e, e.back, "stopped")


@rule("frontend-stopped", "Let the process go on (kill -CONT, or leave the debugger); `xenlike list` shows its pid.")
def frontend_stopped(e: Evidence) -> Finding | None:
    """Likewise."""
    return _absent(e, e.front, "stopped")
