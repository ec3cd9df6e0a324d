"""What is looked at before it is said why a device does not move: plain data, of both ends.

Whoever collects it (`machine`, `xenlike.testing.explaining`) leaves out what cannot be had, and the rules make do. All
of it is some domain's word: nothing in here is more than a text or a number, and no rule trusts it further.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from xenlike.abi.xenbus import XenbusState
from xenlike.errors import ProtocolError
from xenlike.xenbus.state import parse_state

MASK = 0xFFFF_FFFF
"""Indices of rings are free-running and 32 bits wide: a distance is a difference by this."""

Side = Literal["frontend", "backend"]

DomainState = Literal["running", "paused", "stopped", "restarting", "crashed", "dead", "gone"]
"""`paused`: created, and not started yet. `stopped`: its process is, by SIGSTOP or a debugger. `dead`: it ended by
itself. `gone`: no domain has that number any more."""


class DomainFacts(msgspec.Struct, frozen=True):
    """One domain.

    Attributes:
        domid: its number; -1 where not even that is known.
        name: its name, where it is known.
        state: as the hypervisor, the toolstack and the kernel have it.
        serves: device types whose backends it runs; None where that is not known, or all.
        program: it runs a program of its own in place of our buses, or nothing yet.
        looked: whether its recorder tells that it has ever looked at this device; None where that cannot be told.
        begun: whether its recorder tells of a state that the device had there; likewise.
        said: its last words on its console.
    """

    domid: int
    name: str = ""
    state: DomainState = "running"
    serves: list[str] | None = None
    program: bool = False
    looked: bool | None = None
    begun: bool | None = None
    said: str = ""


class QueueFacts(msgspec.Struct, frozen=True):
    """One end of the ring, as its domain's recorder has it; `xenlike.abi.recorder.RecorderQueue` explains the members.

    Attributes:
        taken_s: how long ago it last took something, if the trace tells: it does while rings are traced.
    """

    number: int
    in_use: bool
    nr_slots: int
    prod: int
    kicked: int
    cons: int
    armed: int
    broken: int = 0
    bad_index: int = 0
    pushed: int = 0
    popped: int = 0
    sleeps: int = 0
    full: int = 0
    starved: int = 0
    side: int = 0
    taken_s: float | None = None

    @property
    def unanswered(self) -> int:
        """Of a back: requests that it took and has not answered. Of a front: requests in flight."""
        return abs(_signed(self.cons - self.prod))

    def wakes_for(self, prod: int) -> bool:
        """Whether it has asked to be notified when its peer's index comes to `prod`."""
        return 0 < (self.armed - self.cons) & MASK <= (prod - self.cons) & MASK


class GrantFacts(msgspec.Struct, frozen=True):
    """One reference of the ring, as the hypervisor has it.

    Attributes:
        node: which node names it.
        ref: the reference.
        given: whether the entry grants anything.
        peer: to whom.
        window_peer: whom the memory behind it is for; None where it is none of ours.
        mapped: how often it is mapped.
    """

    node: str
    ref: int
    given: bool
    peer: int = -1
    window_peer: int | None = None
    mapped: int = 0


class PortFacts(msgspec.Struct, frozen=True):
    """The frontend's event channel, as the hypervisor has it.

    Attributes:
        port: its number.
        status: `closed`, `unbound`, `interdomain`, or another word for what it is.
        domid: who may bind to it, or is bound.
        remote_port: the other end's.
    """

    port: int
    status: str
    domid: int = -1
    remote_port: int = 0


class End(msgspec.Struct, frozen=True):
    """One half of the device.

    Attributes:
        side: which.
        path: its directory in the store; empty where even that is not known.
        nodes: what is in there; empty where it does not exist.
        error: its error node, without the number in front; empty where there is none.
        itself: the state that it went to last by its own account: a frontend whose backend is gone is Unknown, and
            leaves its node as it is. None where the trace does not tell.
        since_s: for how long it has had that.
        queue: its end of the ring.
        stream: its end of a one-way ring beside that, if it has one.
    """

    side: Side
    domain: DomainFacts
    path: str = ""
    nodes: dict[str, str] = {}
    error: str = ""
    itself: int | None = None
    since_s: float | None = None
    queue: QueueFacts | None = None
    stream: QueueFacts | None = None

    @property
    def title(self) -> str:
        """What sentences call it: `backend d1`."""
        return f"{self.side} d{self.domain.domid}" if self.domain.domid >= 0 else f"its {self.side}"

    @property
    def who(self) -> str:
        """What sentences call its domain: by name, if it has one."""
        return self.domain.name or f"d{self.domain.domid}"

    @property
    def state(self) -> XenbusState:
        """Its state in the store; `Unknown` where that is missing, or no state."""
        try:
            return parse_state(self.nodes.get("state"))
        except ProtocolError:
            return XenbusState.Unknown

    def number(self, node: str) -> int | None:
        """Returns a node's value if it is a decimal number."""
        text = self.nodes.get(node, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


class Evidence(msgspec.Struct, frozen=True):
    """A device.

    Attributes:
        name: what users call it: `guest/xvda`.
        type: its device type.
        front, back: its ends.
        front_needs: nodes that a frontend of this type must publish, beside its ring.
        back_needs: nodes that a backend must publish before its frontend connects.
        grants: those of the ring.
        port: the frontend's event channel.
        store: False when the store does not answer; then little else is known.
        answered: how many requests were answered while it was looked at.
        streamed: how many entries of its stream were read meanwhile.
        watched_s: for how long that was.
        trace: the last things that either end did for this device, a line for each.
    """

    name: str
    type: str
    front: End
    back: End
    front_needs: list[str] = []
    back_needs: list[str] = []
    grants: list[GrantFacts] = []
    port: PortFacts | None = None
    store: bool = True
    answered: int = 0
    streamed: int = 0
    watched_s: float = 0.0
    trace: list[str] = []


def _signed(distance: int) -> int:
    """Returns the distance of two indices, which may be negative."""
    return (distance + (1 << 31) & MASK) - (1 << 31)
