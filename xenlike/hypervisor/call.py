"""One hypercall under way: its arguments, its answer, and whom it is about."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from xenlike.abi.struct import Struct
from xenlike.abi.xen import DOMID_SELF
from xenlike.hypervisor.domain import Domain
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import Port

if TYPE_CHECKING:
    from xenlike.hypervisor.hypervisor import Hypervisor

S = TypeVar("S", bound=Struct)


@dataclass(slots=True)
class Call:
    """One hypercall under way: what came, and what goes back."""

    caller: Domain
    cmd: int
    count: int
    payload: bytes
    fds: list[int] = field(default_factory=list)
    """Descriptors that came along; whoever takes one over removes it."""
    out: bytes = b""
    out_count: int = 0
    send: list[int] = field(default_factory=list)
    """Descriptors that go back and stay the hypervisor's."""
    give: list[int] = field(default_factory=list)
    """Descriptors that go back and are closed here afterwards; sent after those in `send`."""
    silent: bool = False
    """The caller is gone: SCHEDOP_shutdown does not return."""

    def one(self, kind: type[S]) -> S:
        """Returns the one argument structure; Refused(EINVAL) when that is not what came."""
        if self.count != 1 or len(self.payload) < kind.__layout__.size:
            raise Refused(errno.EINVAL)
        return kind.unpack(self.payload)

    def many(self, kind: type[S]) -> list[S]:
        """Returns the argument structures of a batch."""
        size = kind.__layout__.size
        if len(self.payload) != self.count * size:
            raise Refused(errno.EINVAL)
        return [kind.unpack(self.payload, at) for at in range(0, len(self.payload), size)]

    def answer(self, *arguments: Struct) -> int:
        """Sends the structures back, updated."""
        self.out = b"".join([argument.pack() for argument in arguments])
        self.out_count = len(arguments)
        return 0

    def drop(self) -> None:
        """Takes the answer back; closes the descriptors that were to be given away."""
        for fd in self.give:
            os.close(fd)
        self.give, self.send, self.out, self.out_count = [], [], b"", 0

    def hand_over(self, port: Port) -> None:
        """Sends this end's descriptors of a channel."""
        if port.near is not None:
            self.give += port.near
            port.near = None


Operation: TypeAlias = Callable[["Hypervisor", Call], int]
"""Carries a call out; returns 0 or a small positive number, or raises Refused."""
Operations: TypeAlias = dict[tuple[int, int], Operation]
"""Operations by hypercall and sub-operation."""


def find(xen: Hypervisor, domid: int) -> Domain:
    """Returns a domain; Refused(ESRCH) when there is none."""
    domain = xen.domains.get(domid)
    if domain is None:
        raise Refused(errno.ESRCH)
    return domain


def about(xen: Hypervisor, call: Call, domid: int) -> Domain:
    """Whom a call is about: oneself, or for domain 0 anyone; else Refused(EPERM)."""
    if domid in (DOMID_SELF, call.caller.domid):
        return call.caller
    if call.caller.domid != 0:
        raise Refused(errno.EPERM)
    return find(xen, domid)
