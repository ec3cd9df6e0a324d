"""Who gave up, and said why in its error node: no driver, a broken ring, a page that is not free, anything else."""

from __future__ import annotations

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.why.evidence import End, Evidence
from xenlike.toolstack.why.rule import Finding, rules, waits

ERRORS, rule = rules()
REFUSALS, refusal = rules()


def _refused(end: End) -> bool:
    """Whether the bus found no use for the device: an error, and never a move."""
    return bool(end.error) and not end.domain.begun and end.state in (XenbusState.Initialising, XenbusState.Unknown)


def _gave_up(end: End) -> bool:
    """Whether its error is of this life: an error node outlives the connection that it is about."""
    return bool(end.error) and end.state in (XenbusState.Closing, XenbusState.Closed)


@refusal(
    "backend-no-driver", "Install the driver's package in the environment of the machine, or spawn with drivers=[...]."
)
def backend_no_driver(e: Evidence) -> Finding | None:
    """The bus looks for an entry point of the device's type."""
    if not _refused(e.back) or not e.back.error.startswith("no driver for devices of type"):
        return None
    return waits(e.front, e.back, f"{e.back.title} has {e.back.error}")


@refusal(
    "backend-serves-others", "Name the type in the driver domain's `backends`, or give the device another backend."
)
def backend_serves_others(e: Evidence) -> Finding | None:
    """A driver domain serves what its `backends` lists."""
    serves = e.back.domain.serves
    refused = _refused(e.back) and e.back.error.startswith("this domain serves")
    if not refused and (serves is None or e.type in serves or e.back.domain.program or e.back.domain.begun):
        return None
    what = ", ".join(serves or []) if serves is not None else e.back.error.removeprefix("this domain serves ")
    return waits(
        e.front, e.back, f"the domain of {e.back.title} does not serve {e.type!r}: it serves {what or 'nothing'}"
    )


@refusal(
    "frontend-no-driver", "Install the driver's package in the environment of the machine, or spawn with drivers=[...]."
)
def frontend_no_driver(e: Evidence) -> Finding | None:
    """As at the backend."""
    if not _refused(e.front) or not e.front.error.startswith("no driver for devices of type"):
        return None
    return waits(e.back, e.front, f"{e.front.title} has {e.front.error}")


@refusal("driver-broken", "Mend the driver; the domain's console has the traceback (`xenlike console`).")
def driver_broken(e: Evidence) -> Finding | None:
    """Its module does not import, or its class cannot be made."""
    for end, other in ((e.back, e.front), (e.front, e.back)):
        if _refused(end):
            return waits(other, end, f"{end.title} cannot begin: {end.error}")
    return None


@rule("grant-busy", "The peer of before still maps the page: it must unmap when it closes. Look for what it keeps.")
def grant_busy(e: Evidence) -> Finding | None:
    """A frontend gives a page to a new backend only when the old one has let go of it."""
    if not _gave_up(e.front) or "still mapped by its peer" not in e.front.error:
        return None
    return waits(e.front, e.back, f"{e.front.title} gave up: {e.front.error}, which has not let go of it")


@rule(
    "ring-broken",
    "The other end's index is impossible: the fault is in how that end publishes. Attach the device anew.",
)
def ring_broken(e: Evidence) -> Finding | None:
    """An end that is shown an impossible index never trusts that ring again."""
    for end, other in ((e.front, e.back), (e.back, e.front)):
        queue, index = end.queue, "rsp_prod" if end is e.front else "req_prod"
        if queue is not None and queue.in_use and queue.broken in (1, 2, 4):
            how = {1: "ran ahead to", 2: "went back to", 4: "has in a slot the tag"}[queue.broken]
            because = f"{index} {how} {queue.bad_index} when {queue.cons} had been read"
        elif _gave_up(end) and "ring broken: " in end.error:
            because = end.error.partition("ring broken: ")[2].removesuffix("; disconnect")
        else:
            continue
        return waits(end, other, f"{other.title} broke the ring: {because}")
    return None


@rule("backend-fatal", "Mend what it says; its console has more. Then attach the device anew.")
def backend_fatal(e: Evidence) -> Finding | None:
    """A driver's hook, `serve` or `handle` raised, or the frontend broke a rule."""
    if not _gave_up(e.back):
        return None
    return waits(e.front, e.back, f"{e.back.title} gave up: {e.back.error}")


@rule("frontend-fatal", "Mend what it says; its console has more. Then attach the device anew.")
def frontend_fatal(e: Evidence) -> Finding | None:
    """Likewise."""
    if not _gave_up(e.front):
        return None
    return waits(e.front, e.front, f"{e.front.title} gave up: {e.front.error}")
