"""Event channels: Xen's ports and states, carried by pipes.

A channel is two pipes, one for each direction, with the smallest buffer the kernel gives. Each end
holds the read end of its own and the write end of the other's. A pipe and not an eventfd, because an
eventfd's flags belong to both ends, so that a peer could make this end's write block. A full pipe means
"already pending", as a set pending bit does in Xen, and a dead peer shows as hang-up.

While a port is unbound the hypervisor keeps the far ends; once bound it keeps nothing, so a death is
seen by the survivor through the kernel, with nobody in between.

Source of the state machine: Xen `xen/common/event_channel.c`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from xenlike.hypervisor.errors import Refused


class PortState(IntEnum):
    """Numbers of `EVTCHNSTAT_*` in Xen's `event_channel.h`."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    VIRQ = 4


class Ends(NamedTuple):
    """The two descriptors with which one end of a channel waits (`rx`) and notifies (`tx`)."""

    rx: int
    tx: int

    def close(self) -> None:
        """Closes both."""
        os.close(self.rx)
        os.close(self.tx)


@dataclass(slots=True)
class Port:
    """One port of one domain."""

    number: int
    state: PortState
    remote_domid: int = 0
    remote_port: int = 0
    virq: int = 0
    # The peer's ends, kept until it binds.
    far: Ends | None = None
    # This end's own descriptors, made by a peer that bound anew; fetched by EVTCHN_CARRIER.
    near: Ends | None = None
    # The peer died or closed: the owner's descriptors are of no more use.
    broken: bool = False
    virq_tx: int = -1

    def close_descriptors(self) -> None:
        """Closes what the hypervisor holds for this port."""
        for ends in (self.far, self.near):
            if ends is not None:
                ends.close()
        self.far = self.near = None
        if self.virq_tx >= 0:
            os.close(self.virq_tx)
            self.virq_tx = -1

    @property
    def descriptors(self) -> int:
        """How many descriptors the hypervisor holds for this port."""
        return 2 * (self.far is not None) + 2 * (self.near is not None) + (self.virq_tx >= 0)


PAGE = 4096


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PAGE)
    except OSError:
        # Over the user's pipe quota the kernel gives small pipes anyway; the size is only thrift.
        pass
    return read_end, write_end


def make_channel() -> tuple[Ends, Ends]:
    """Makes the two ends of a channel.

    Raises:
        Refused: EMFILE when the hypervisor is out of descriptors.
    """
    opened: list[int] = []
    try:
        opened += _pipe()
        opened += _pipe()
    except OSError as error:
        for fd in opened:
            os.close(fd)
        raise Refused(error.errno or errno.EMFILE) from error
    to_far, from_near, to_near, from_far = opened
    return Ends(rx=to_near, tx=from_near), Ends(rx=to_far, tx=from_far)


def notify(tx: int) -> None:
    """Sends an event; one that is already pending is not sent twice."""
    try:
        os.write(tx, b"\1")
    except (BlockingIOError, BrokenPipeError):
        pass


@dataclass(slots=True)
class PortTable:
    """The ports of one domain. Port 0 is never given out, as in Xen."""

    limit: int = 4096
    ports: dict[int, Port] = field(default_factory=dict)
    _next: int = 1

    def get(self, number: int) -> Port:
        """Returns a port; raises Refused(EINVAL) when there is none of that number."""
        port = self.ports.get(number)
        if port is None:
            raise Refused(errno.EINVAL)
        return port

    def allocate(self, state: PortState) -> Port:
        """Takes the lowest free port number, as Xen's `get_free_port` does."""
        if len(self.ports) >= self.limit:
            raise Refused(errno.ENOSPC)
        number = 1 if len(self.ports) < self._next - 1 else self._next
        while number in self.ports:
            number += 1
        self._next = max(self._next, number + 1)
        port = self.ports[number] = Port(number, state)
        return port

    def release(self, port: Port) -> None:
        """Frees a port and what the hypervisor holds for it."""
        port.close_descriptors()
        port.state = PortState.CLOSED
        self.ports.pop(port.number, None)

    @property
    def descriptors(self) -> int:
        """How many descriptors the hypervisor holds for these ports."""
        return sum(port.descriptors for port in self.ports.values())
