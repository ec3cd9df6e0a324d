"""Domains without a hypervisor: windows are private memory of this process, event channels its pipes.

The rules are the real ones: who may map what, what is busy, who sees a hang-up. Only isolation is not:
all domains of a loopback machine share a process.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

import trio

from xenlike import _core
from xenlike.abi import recorder as tr
from xenlike.abi.types import PAGE_SIZE
from xenlike.domain.resources import Resources
from xenlike.errors import GrantBusy, GrantDenied, HypercallError, PeerGone, PortClosed
from xenlike.testing.fakestore import FakeStore, FakeTree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class FakeWindow:
    """Grantable pages."""

    def __init__(self, memory: FakeMemory, pfn: int, nr_pages: int, peer: int, readonly: bool) -> None:
        self._memory = memory
        self.pfn = pfn
        self.nr_pages = nr_pages
        self.peer = peer
        self.readonly = readonly
        self.buffer = memoryview(mmap.mmap(-1, nr_pages * PAGE_SIZE))
        self.mapped = 0

    def page(self, index: int) -> memoryview:
        """The bytes of one page."""
        return self.buffer[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]

    def replace(self, peer: int) -> None:
        """Gives the window to another peer."""
        self._busy("XENLIKE_replace_window")
        self.peer = peer

    def close(self) -> None:
        """Gives the pages back; idempotent."""
        self._busy("XENLIKE_free_window")
        self._memory.windows.pop(self.pfn, None)

    def _busy(self, op: str) -> None:
        if self.mapped:
            raise HypercallError(errno.EBUSY, op)


class FakeMemory:
    """A domain's grant pool."""

    def __init__(self, domain: FakeDomain) -> None:
        self._domain = domain
        self.windows: dict[int, FakeWindow] = {}
        self._next = 0x800000

    def alloc(self, peer: int, nr_pages: int, *, readonly: bool = False) -> FakeWindow:
        """Makes a window."""
        self._domain.need_peer(peer, "XENLIKE_alloc_window")
        window = FakeWindow(self, self._next, nr_pages, peer, readonly)
        self.windows[window.pfn] = window
        self._next += nr_pages
        return window

    def find(self, pfn: int) -> tuple[FakeWindow, int] | None:
        """Returns the window a page lies in, and its place there."""
        for window in self.windows.values():
            if window.pfn <= pfn < window.pfn + window.nr_pages:
                return window, pfn - window.pfn
        return None


class FakeMapping:
    """Pages of a peer."""

    def __init__(self, grants: FakeGrants, places: Sequence[tuple[_Grant, FakeWindow, int]]) -> None:
        self._grants = grants
        self._places = list(places)
        self.pages = [window.page(index) for _, window, index in places]
        _, window, first = places[0]
        in_order = all(w is window and i == first + n for n, (_, w, i) in enumerate(places))
        end = (first + len(places)) * PAGE_SIZE
        self.contiguous = window.buffer[first * PAGE_SIZE : end] if in_order else None
        for grant, window, _ in places:
            grant.mapped += 1
            window.mapped += 1
        grants.mappings.add(self)

    def unmap(self) -> None:
        """Ends the mapping; idempotent."""
        places, self._places = self._places, []
        for grant, window, _ in places:
            grant.mapped -= 1
            window.mapped -= 1
        if places:
            self._grants._trace(tr.XENLIKE_TRACE_UNMAPPED, 0, len(places) - 1)
        self._grants.mappings.discard(self)


class _Grant:
    def __init__(self, pfn: int, peer: int, readonly: bool) -> None:
        self.pfn = pfn
        self.peer = peer
        self.readonly = readonly
        self.mapped = 0


class FakeGrants:
    """A domain's grant table, and its mappings."""

    def __init__(self, domain: FakeDomain) -> None:
        self._domain = domain
        self.entries: dict[int, _Grant] = {}
        self.mappings: set[FakeMapping] = set()
        self._next = 8

    def grant(self, pfn: int, peer: int, *, readonly: bool = False) -> int:
        """Grants a page."""
        gref, self._next = self._next, self._next + 1
        self.entries[gref] = _Grant(pfn, peer, readonly)
        self._trace(tr.XENLIKE_TRACE_GRANTED, gref, peer, pfn, int(readonly))
        return gref

    def _trace(self, event: int, *args: int) -> None:
        self._domain.recorder.trace(tr.XENLIKE_TRACE_GRANT, event, "", *args)

    def revoke(self, gref: int) -> None:
        """Ends a grant."""
        self._trace(tr.XENLIKE_TRACE_REVOKED, gref, int(self.entries[gref].mapped > 0))
        if self.entries[gref].mapped:
            raise GrantBusy(errno.EBUSY, f"grant {gref} is still mapped by its peer")
        del self.entries[gref]

    def map(self, domid: int, grefs: Sequence[int], *, readonly: bool = False) -> FakeMapping:
        """Maps pages of a peer, all or none."""
        granter = self._domain.need_peer(domid, "GNTTABOP_map_grant_ref")
        places = []
        for gref in grefs:
            grant = granter.grants.entries.get(gref)
            found = None if grant is None else granter.memory.find(grant.pfn)
            if grant is None or found is None or grant.peer != self._domain.domid:
                raise GrantDenied(errno.EACCES, f"grant {gref} of d{domid}: not granted")
            if grant.readonly and not readonly:
                raise GrantDenied(errno.EACCES, f"grant {gref} of d{domid}: granted for reading only")
            places.append((grant, *found))
        self._trace(tr.XENLIKE_TRACE_MAPPED, grefs[0], domid, len(grefs) - 1)
        return FakeMapping(self, places)


class FakeChannel:
    """One end of an event channel: a pipe in each direction, as in a machine."""

    def __init__(self, events: FakeEvents, port: int, remote_domid: int, rx: int, tx: int) -> None:
        self._events = events
        self.port = port
        self.remote_domid = remote_domid
        self.rx_fd = rx
        self.tx_fd = tx
        self.hung_up = False

    def notify(self) -> None:
        """Sends an event."""
        if self.tx_fd >= 0:
            self._events._trace(tr.XENLIKE_TRACE_NOTIFY, self.port)
            _core.notify(self.tx_fd)

    async def wait(self) -> None:
        """Waits for an event and takes all that are pending."""
        if self.rx_fd < 0:
            raise PortClosed(errno.EBADF, f"event channel {self.port} is closed")
        if not self.hung_up:
            try:
                await trio.lowlevel.wait_readable(self.rx_fd)
            except trio.ClosedResourceError:
                raise PortClosed(errno.EBADF, f"event channel {self.port} is closed") from None
            self.hung_up = _core.drain(self.rx_fd)
        if self.hung_up:
            raise PeerGone(f"d{self.remote_domid} is gone")

    def close(self) -> None:
        """Closes this end; idempotent."""
        rx, tx, self.rx_fd, self.tx_fd = self.rx_fd, self.tx_fd, -1, -1
        if self._events.channels.pop(self.port, None) is not None:
            self._events._trace(tr.XENLIKE_TRACE_CLOSE, self.port, self.remote_domid)
        for fd in self._events.unbound.pop(self.port, (-1, -1, -1))[1:]:
            _close(fd)
        if rx >= 0:
            trio.lowlevel.notify_closing(rx)
        _close(rx)
        _close(tx)


class FakeEvents:
    """A domain's ports."""

    def __init__(self, domain: FakeDomain) -> None:
        self._domain = domain
        self.channels: dict[int, FakeChannel] = {}
        self.unbound: dict[int, tuple[int, int, int]] = {}
        """By port: who may bind, and the descriptors that are kept for it."""
        self._next = 1

    def alloc_unbound(self, remote_domid: int) -> FakeChannel:
        """Makes a port to which the peer may bind."""
        self._domain.need_peer(remote_domid, "EVTCHNOP_alloc_unbound")
        here_rx, there_tx = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        there_rx, here_tx = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        channel = self._add(remote_domid, here_rx, here_tx)
        self._trace(tr.XENLIKE_TRACE_ALLOC, channel.port, remote_domid)
        self.unbound[channel.port] = (remote_domid, there_rx, there_tx)
        return channel

    def bind(self, remote_domid: int, remote_port: int) -> FakeChannel:
        """Joins a peer's unbound port."""
        events = self._domain.need_peer(remote_domid, "EVTCHNOP_bind_interdomain").events
        offer = events.unbound.get(remote_port)
        if offer is None or offer[0] != self._domain.domid:
            raise HypercallError(errno.EINVAL, "EVTCHNOP_bind_interdomain")
        del events.unbound[remote_port]
        channel = self._add(remote_domid, *offer[1:])
        self._trace(tr.XENLIKE_TRACE_BIND, channel.port, remote_domid, remote_port)
        return channel

    def _trace(self, event: int, *args: int) -> None:
        self._domain.recorder.trace(tr.XENLIKE_TRACE_EVENT, event, "", *args)

    def _add(self, remote_domid: int, rx: int, tx: int) -> FakeChannel:
        port, self._next = self._next, self._next + 1
        channel = self.channels[port] = FakeChannel(self, port, remote_domid, rx, tx)
        return channel

    def forget(self, domid: int) -> None:
        """Hangs up ports that a dead domain could have bound to."""
        for port, (peer, rx, tx) in list(self.unbound.items()):
            if peer == domid:
                del self.unbound[port]
                _close(rx)
                _close(tx)


class FakeDomain:
    """A domain, as far as drivers see it."""

    def __init__(self, domains: dict[int, FakeDomain], tree: FakeTree, domid: int, name: str) -> None:
        self._domains = domains
        self.domid = domid
        self.name = name
        self.alive = True
        self.recorder = _core.Recorder.private()
        self.store = FakeStore(tree, domid, self.recorder)
        self.memory = FakeMemory(self)
        self.grants = FakeGrants(self)
        self.events = FakeEvents(self)
        self.resources = Resources(-1)
        self.config: Mapping[str, object] = {}
        domains[domid] = self

    def need_peer(self, domid: int, op: str) -> FakeDomain:
        """Returns a living domain; raises ESRCH as the hypervisor does."""
        peer = self._domains.get(domid)
        if peer is None or not peer.alive:
            raise HypercallError(errno.ESRCH, op)
        return peer

    def die(self) -> None:
        """What the hypervisor does when a domain's process ends: hangs up, unmaps."""
        self.alive = False
        self.store.cut()
        for channel in list(self.events.channels.values()):
            channel.close()
        for mapping in list(self.grants.mappings):
            mapping.unmap()
        for domain in self._domains.values():
            domain.events.forget(self.domid)
        self.resources.close()


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
