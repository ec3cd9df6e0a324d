"""Who waits for what, when nothing moves any more: sentences for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike._core import SharedWord
from xenlike.abi import ring as layouts
from xenlike.testing.trace import devices
from xenlike.xenbus import Frontend, XenbusState

if TYPE_CHECKING:
    from xenlike.testing.loopback import Loopback
    from xenlike.xenbus import Backend

_MASK = 0xFFFF_FFFF


def waiting(machine: Loopback) -> list[str]:
    """Returns what each device of a machine in which everybody sleeps is waiting for."""
    return [sentence for device in devices(machine) if (sentence := _of(machine, device))]


def _of(machine: Loopback, device: Frontend | Backend) -> str:
    side = "frontend" if isinstance(device, Frontend) else "backend"
    name = f"the {side} d{device.domain.domid}/{device.nodename}"
    try:
        queue = device.queue
    except ConnectionError:
        home = f"/local/domain/{device.domain.domid}"
        error = machine.tree.nodes.get(f"{home}/error/{device.nodename}/error", "")
        return f"{name} is {device.state.name} and has no connection" + (f" (its error node: {error})" if error else "")
    if device.state is not XenbusState.Connected:
        return f"{name} is {device.state.name}"
    if queue._ring.broken or queue._ring.closed:
        return ""
    if queue._ring.available:
        return _asleep(name, device, index_words(machine, device))
    if isinstance(device, Frontend):
        count = device.queue.in_flight
        return f"{name} waits for {count} response{_s(count)}" if count else ""
    count = device.queue.statistics().unanswered
    return f"{name} has not answered {count} request{_s(count)} that it took" if count else ""


def _asleep(name: str, device: Frontend | Backend, words: dict[str, int] | None) -> str:
    """Returns who is to blame for an end that sleeps although there is something in the ring for it."""
    ring = device.queue._ring
    what, prefix, other = (
        ("response", "rsp", "backend") if isinstance(device, Frontend) else ("request", "req", "frontend")
    )
    count = ring.available
    text = f"{name} sleeps while {count} {what}{'s wait' if count > 1 else ' waits'} in its ring"
    if words is None:
        return text
    prod, event, read = words[f"{prefix}_prod"], words[f"{prefix}_event"], ring._ring.cons
    if 0 < (event - read) & _MASK <= (prod - read) & _MASK:
        return (
            f"{text}: the {other} pushed up to {prefix}_prod = {prod} and sent no event, "
            f"although {prefix}_event = {event} asks for one"
        )
    return f"{text}, and has not asked for an event ({prefix}_event = {event}, {prefix}_prod = {prod})"


def index_words(machine: Loopback, device: Frontend | Backend) -> dict[str, int] | None:
    """Returns the four shared indices of a device's ring; None where it has none."""
    link = device._link
    if link is None:
        return None
    front = isinstance(device, Frontend)
    path = f"/local/domain/{device.domain.domid}/{device.nodename}" if front else device.otherend
    shared = getattr(link, "ring_pages", None)
    memory = shared.buffer if shared is not None else getattr(link, "mapping").contiguous  # noqa: B009
    xen = machine.tree.nodes.get(f"{path}/ring-layout", "xen") == "xen"
    layout, found = (layouts.XEN if xen else layouts.CACHELINE)(device.protocol.entry_size), {}
    for name in ("req_prod", "req_event", "rsp_prod", "rsp_event"):
        word = SharedWord(memory, getattr(layout, name))
        found[name] = word.get()
        word.close()
    return found


def _s(count: int) -> str:
    return "" if count == 1 else "s"
