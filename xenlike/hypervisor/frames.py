"""Frames: a domain's private RAM, and the windows of its grant pool.

The window is the unit of disclosure: a memfd of its own for one peer and one mode. It is created, zeroed
and sealed here, so that neither holder can shrink it under the other (which would kill with SIGBUS) nor
execute from it. It is never given to another peer: `replace` makes fresh memory at the same frames.

Read-only windows are sealed against future writable mappings only after the granter has mapped its own
side writable and said so; until then no peer may map them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from bisect import bisect_right, insort
from dataclasses import dataclass, field

from xenlike import _core
from xenlike.hypervisor.errors import Refused

PAGE = 4096
# A mapper is told the offset in a window by 32 bits.
MAX_WINDOW_PAGES = 1 << 20
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
F_SEAL_FUTURE_WRITE = 0x0010


def make_memory(name: str, size: int, *, final: bool = True) -> int:
    """Creates zeroed shared memory of a fixed size.

    Args:
        name: shown in `/proc/PID/maps`.
        size: bytes, a multiple of the page size.
        final: no seal can be added later, by its holder either: one that forbids writing would be a way
            to make the hypervisor's own writes fail.

    Returns:
        A memfd whose size can never change and which can never be executed.

    Raises:
        Refused: EMFILE or ENOMEM when the host has no more.
    """
    try:
        fd = _core.memfd_create(name)
    except OSError as error:
        raise Refused(error.errno or errno.EMFILE) from error
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | (fcntl.F_SEAL_SEAL if final else 0))
    except OSError as error:
        os.close(fd)
        raise Refused(error.errno or errno.ENOMEM) from error
    return fd


@dataclass(slots=True)
class Window:
    """Consecutive frames of one domain, for one peer and one mode."""

    identity: int
    owner: int
    pfn: int
    nr_pages: int
    peer: int
    readonly: bool
    fd: int
    sealed: bool = False
    # Only a read-only window needs one: after its seal the hypervisor, too, can write no other way.
    own_mapping: _core.Mapping | None = None
    # Live handles by peer; a window with any is busy.
    mapped: int = 0
    # The peer died: nobody may map it again.
    revoked: bool = False

    def seal(self) -> None:
        """Forbids new writable mappings; the granter has said that it mapped the window."""
        if self.sealed:
            return
        # Its owner may have sealed it first, in some way of its own: then one of the two fails, and the
        # window serves nobody.
        mapping = _core.map_shared(self.fd, self.nr_pages * PAGE)
        try:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL)
        except OSError as error:
            mapping.close()
            raise Refused(error.errno or errno.EPERM) from error
        self.own_mapping, self.sealed = mapping, True

    def read(self, offset: int, length: int) -> bytes:
        """Reads bytes of the window."""
        return os.pread(self.fd, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Writes bytes of the window, also of a sealed one."""
        if self.own_mapping is not None:
            self.own_mapping.buffer[offset : offset + len(data)] = data
        else:
            os.pwrite(self.fd, data, offset)

    def close(self) -> None:
        """Lets go of the memory; who has it mapped keeps it."""
        if self.own_mapping is not None:
            self.own_mapping.close()
            self.own_mapping = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            _identities.give_back(self.identity)


class Identities:
    """Machine-wide numbers of windows: 32 bits, and one comes again only after all others.

    Args:
        last: the number before the first.
    """

    def __init__(self, last: int = 0) -> None:
        self._live: set[int] = set()
        self._last = last

    def take(self) -> int:
        """Returns a number that no window has."""
        while True:
            self._last = self._last % 0xFFFF_FFFF + 1
            if self._last not in self._live:
                self._live.add(self._last)
                return self._last

    def give_back(self, identity: int) -> None:
        """The window is closed."""
        self._live.discard(identity)


_identities = Identities()


@dataclass(slots=True)
class Pool:
    """The grant pool of one domain: windows by frame number, first fit.

    Args:
        base_pfn: first frame of the pool.
        nr_pages: how many frames the domain may have in windows at once.
        max_windows: each costs the hypervisor a descriptor, so they are counted.
    """

    owner: int
    base_pfn: int
    nr_pages: int
    max_windows: int
    windows: dict[int, Window] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)

    def find(self, pfn: int) -> Window | None:
        """Returns the window that holds a frame, or None."""
        at = bisect_right(self._starts, pfn) - 1
        if at < 0:
            return None
        window = self.windows[self._starts[at]]
        return window if pfn < window.pfn + window.nr_pages else None

    def starting_at(self, pfn: int) -> Window:
        """Returns the window whose first frame is `pfn`; Refused(EINVAL) when none is."""
        window = self.windows.get(pfn)
        if window is None:
            raise Refused(errno.EINVAL)
        return window

    def _gap(self, nr_pages: int) -> int:
        at = self.base_pfn
        for start in self._starts:
            if start - at >= nr_pages:
                return at
            at = start + self.windows[start].nr_pages
        if self.base_pfn + self.nr_pages - at >= nr_pages:
            return at
        raise Refused(errno.ENOMEM)

    def allocate(self, peer: int, nr_pages: int, *, readonly: bool) -> Window:
        """Makes a window for one peer and mode.

        Raises:
            Refused: EINVAL for no pages or more than 4 GiB, ENOMEM when the pool is full, ENOSPC when the domain
                has as many windows as it may, EMFILE when the host is out of descriptors.
        """
        if not 0 < nr_pages <= MAX_WINDOW_PAGES:
            raise Refused(errno.EINVAL)
        if len(self.windows) >= self.max_windows:
            raise Refused(errno.ENOSPC)
        return self._insert(self._gap(nr_pages), nr_pages, peer, readonly)

    def _insert(self, pfn: int, nr_pages: int, peer: int, readonly: bool) -> Window:
        fd = make_memory(f"xenlike-d{self.owner}-pool", nr_pages * PAGE, final=not readonly)
        window = Window(_identities.take(), self.owner, pfn, nr_pages, peer, readonly, fd, sealed=not readonly)
        if pfn not in self.windows:
            insort(self._starts, pfn)
        self.windows[pfn] = window
        return window

    def replace(self, pfn: int, peer: int, *, readonly: bool) -> Window:
        """Puts fresh memory for another peer at the frames of a window that nobody maps any more."""
        old = self.starting_at(pfn)
        if old.mapped:
            raise Refused(errno.EBUSY)
        window = self._insert(pfn, old.nr_pages, peer, readonly)
        old.close()
        return window

    def free(self, pfn: int) -> None:
        """Gives a window's frames back; Refused(EBUSY) while a peer maps one of them."""
        window = self.starting_at(pfn)
        if window.mapped:
            raise Refused(errno.EBUSY)
        window.close()
        del self.windows[pfn]
        self._starts.remove(pfn)

    def revoke_peer(self, domid: int) -> None:
        """A peer died: nobody may map its windows from now on."""
        for window in self.windows.values():
            if window.peer == domid:
                window.revoked = True

    def close_idle(self) -> bool:
        """Closes every window that no peer maps.

        Returns:
            True when none is left, so that the domain can go.
        """
        for pfn in [pfn for pfn, window in self.windows.items() if not window.mapped]:
            self.free(pfn)
        return not self.windows
