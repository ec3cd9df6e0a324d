"""A domain's memory: private RAM, and windows of grantable pages.

The page of pfn `p` lies at `base + p * 4096`, for RAM and pool alike. A guest has its base where the
start-info says, so that pointers survive a restore; domain 0 lives in somebody's process, possibly more
than once, and takes whatever address the kernel gives.
"""

from __future__ import annotations

import os
import weakref

from xenlike import _core
from xenlike.abi.start_info import StartInfo
from xenlike.domain.hypercalls import Hypercalls

PAGE = 4096


class Window:
    """Consecutive grantable pages, which one peer may be given in one mode.

    The whole window is disclosed to a peer that maps any page of it.
    """

    def __init__(self, memory: Memory, pfn: int, nr_pages: int, peer: int, readonly: bool, fd: int) -> None:
        self._memory = memory
        self.pfn = pfn
        self.nr_pages = nr_pages
        self.peer = peer
        self.readonly = readonly
        self._mapping = memory._map(fd, pfn, nr_pages)
        self._closed = False
        memory._windows.add(self)

    @property
    def buffer(self) -> memoryview:
        """The window's bytes, writable for its owner in either mode."""
        return self._mapping.buffer

    def page(self, index: int) -> memoryview:
        """The bytes of one page of the window."""
        if not 0 <= index < self.nr_pages:
            raise IndexError(f"page {index} of a window of {self.nr_pages}")
        return self._mapping.buffer[index * PAGE : (index + 1) * PAGE]

    def replace(self, peer: int) -> None:
        """Makes the window fresh memory for another peer; address, frames and content stay.

        Only for a window that nobody maps any more: the engine has stopped and the grants have ended.

        Raises:
            HypercallError: EBUSY, a page is still mapped; ESRCH, no such peer.
        """
        fd = self._memory._hypercalls.replace_window(self.pfn, peer, self.readonly)
        try:
            # Written by descriptor before the switch, so that no reader here ever sees zeros.
            os.pwrite(fd, self._mapping.buffer, 0)
            self._mapping.replace(fd)
        finally:
            os.close(fd)
        if self.readonly:
            self._memory._hypercalls.seal_window(self.pfn)
        self.peer = peer

    def close(self) -> None:
        """Gives the pages back; idempotent.

        Views that were taken of it read zeros afterwards and write to nobody.

        Raises:
            HypercallError: EBUSY, a peer still maps a page.
        """
        if self._closed:
            return
        self._memory._hypercalls.free_window(self.pfn)
        self._closed = True
        self._mapping.detach()


class Memory:
    """RAM and grant pool of one domain.

    Args:
        hypercalls: the domain's.
        info: where things lie.
        ram_fd: the RAM's memfd; closed here.
        fixed: whether to map at the start-info's address.
    """

    def __init__(self, hypercalls: Hypercalls, info: StartInfo, ram_fd: int, *, fixed: bool) -> None:
        self._hypercalls = hypercalls
        self.nr_pages = info.nr_pages
        self.pool_pages = info.pool_pages
        self._pool_base = info.pool_base_pfn
        ram_base = info.guest_base if fixed else 0
        self._ram = _core.map_shared(ram_fd, info.nr_pages * PAGE, fixed_addr=ram_base)
        os.close(ram_fd)
        pool_base = info.guest_base + info.pool_base_pfn * PAGE if fixed else 0
        self._windows: weakref.WeakSet[Window] = weakref.WeakSet()
        self._reservation = _core.reserve(max(info.pool_pages, 1) * PAGE, pool_base)

    @property
    def ram(self) -> memoryview:
        """Private RAM; page 0 holds the start-info."""
        return self._ram.buffer

    def alloc(self, peer: int, nr_pages: int, *, readonly: bool = False) -> Window:
        """Makes a window of grantable pages for one peer and mode.

        Args:
            peer: the domain that may be granted its pages.
            nr_pages: size.
            readonly: the peer can never write, whatever it does with the descriptor it gets.

        Raises:
            HypercallError: ENOMEM, the pool is used up; ENOSPC, too many windows; ESRCH, no such peer.
        """
        pfn, fd = self._hypercalls.alloc_window(peer, nr_pages, readonly)
        try:
            window = Window(self, pfn, nr_pages, peer, readonly, fd)
        finally:
            os.close(fd)
        if readonly:
            self._hypercalls.seal_window(pfn)
        return window

    def adopt(self, pfn: int, nr_pages: int, peer: int, fd: int) -> Window:
        """Takes a window that came with the bootstrap; closes its descriptor."""
        try:
            return Window(self, pfn, nr_pages, peer, False, fd)
        finally:
            os.close(fd)

    def _map(self, fd: int, pfn: int, nr_pages: int) -> _core.Mapping:
        address = self._reservation.address + (pfn - self._pool_base) * PAGE
        return _core.map_shared(fd, nr_pages * PAGE, fixed_addr=address)

    def close(self) -> None:
        """The domain ends: lets go of all shared memory. Views read zeros afterwards.

        The address range stays reserved, which costs nothing: a view may still point there.
        """
        for window in list(self._windows):
            window._mapping.detach()
        self._ram.detach()
