"""Granting pages to peers, and mapping theirs.

*Grant* is the frontend's act, *map* the backend's; *revoke* and *unmap* end them. The grant table is
memory shared with the hypervisor alone; its entries are written in C, flags last.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from xenlike import _core
from xenlike.abi import grant_table as gt
from xenlike.abi import recorder as tr
from xenlike.domain.hypercalls import Hypercalls
from xenlike.errors import GrantBusy, GrantDenied, GrantError

PAGE = 4096
DENIED = (gt.GNTST_permission_denied, gt.GNTST_general_error, gt.GNTST_bad_gntref)


@dataclass(slots=True)
class _PeerWindow:
    """A window of another domain that is mapped here, and how many handles hold it."""

    mapping: _core.Mapping
    handles: int = 0


class Mapping:
    """Pages of a peer, mapped here. They are memory that the peer writes at any moment."""

    def __init__(self, grants: GrantTable, handles: list[int], places: list[tuple[int, int]]) -> None:
        self._grants = grants
        self._handles = handles
        self._places = places
        windows = grants._peer_windows
        self.pages = [windows[window].mapping.buffer[at : at + PAGE] for window, at in places]

    @property
    def contiguous(self) -> memoryview | None:
        """All pages as one piece, if they lie in order in one window."""
        first_window, first = self._places[0]
        for index, (window, at) in enumerate(self._places):
            if window != first_window or at != first + index * PAGE:
                return None
        mapping = self._grants._peer_windows[first_window].mapping
        return mapping.buffer[first : first + len(self._places) * PAGE]

    def unmap(self) -> None:
        """Ends the mapping; idempotent. Views read zeros afterwards."""
        handles, self._handles = self._handles, []
        self.pages = []
        if handles:
            self._grants._unmap(handles, [window for window, _ in self._places])


class GrantTable:
    """The grants of one domain, given and taken.

    Args:
        hypercalls: the domain's.
        table_fd: the memfd of its table; closed here.
        nr_frames: size of the table in pages.
        recorder: traces what is granted and mapped.
    """

    def __init__(
        self, hypercalls: Hypercalls, table_fd: int, nr_frames: int, recorder: _core.Recorder | None = None
    ) -> None:
        self._hypercalls = hypercalls
        self._recorder = recorder
        self._mapping = _core.map_shared(table_fd, nr_frames * PAGE)
        os.close(table_fd)
        self._table = self._mapping.buffer
        self._nr_refs = nr_frames * PAGE // gt.GrantEntryV1.__layout__.size
        self._next = gt.GNTTAB_NR_RESERVED_ENTRIES
        self._free: list[int] = []
        self._peer_windows: dict[int, _PeerWindow] = {}

    # -- giving ------------------------------------------------------------------------------------

    def grant(self, pfn: int, peer: int, *, readonly: bool = False) -> int:
        """Grants one page.

        Args:
            pfn: a page of a window for that peer.
            peer: who may map it.
            readonly: only for reading; the window's own mode is what the kernel enforces.

        Returns:
            The grant reference to tell the peer.

        Raises:
            GrantError: ENOSPC, the table is full.
        """
        if self._free:
            gref = self._free.pop()
        elif self._next < self._nr_refs:
            gref = self._next
            self._next += 1
        else:
            raise GrantError(errno.ENOSPC, f"all {self._nr_refs} grant references are in use")
        flags = gt.GTF_permit_access | (gt.GTF_readonly if readonly else 0)
        _core.gnttab_set(self._table, gref, peer, pfn, flags)
        self._trace(tr.XENLIKE_TRACE_GRANTED, gref, peer, pfn, int(readonly))
        return gref

    def revoke(self, gref: int) -> None:
        """Ends a grant.

        Raises:
            GrantBusy: the peer still maps the page; it must not be freed or reused.
        """
        ended = _core.gnttab_end(self._table, gref)
        self._trace(tr.XENLIKE_TRACE_REVOKED, gref, int(not ended))
        if not ended:
            raise GrantBusy(errno.EBUSY, f"grant {gref} is still mapped by its peer", gt.GNTST_general_error)
        self._free.append(gref)

    # -- taking ------------------------------------------------------------------------------------

    def map(self, domid: int, grefs: Sequence[int], *, readonly: bool = False) -> Mapping:
        """Maps pages of a peer, all or none.

        Args:
            domid: the granter.
            grefs: its references, one a page.
            readonly: map for reading only.

        Raises:
            GrantDenied: it granted one of them to somebody else, or not in this mode, or not at all.
            GrantError: any other status.
        """
        mapping, failed = self.map_each(domid, grefs, readonly=readonly)
        status = next(iter(failed.values()), gt.GNTST_okay)
        self._trace(tr.XENLIKE_TRACE_MAPPED, grefs[0] if grefs else 0, domid, len(grefs) - 1, status)
        if failed:
            mapping.unmap()
            gref, status = next(iter(failed.items()))
            text = f"grant {gref} of d{domid}: {gt.GNTST_TEXT.get(status, status)}"
            raise (GrantDenied if status in DENIED else GrantError)(errno.EACCES, text, status)
        return mapping

    def map_each(self, domid: int, grefs: Sequence[int], *, readonly: bool = False) -> tuple[Mapping, dict[int, int]]:
        """Maps what can be mapped.

        Returns:
            The mapping of those that succeeded, in order, and the status of each that failed, by reference.

        Raises:
            HypercallError, OSError: this process has no descriptors (EMFILE) or memory left; nothing is mapped then.
        """
        flags = gt.GNTMAP_host_map | (gt.GNTMAP_readonly if readonly else 0)
        operations = [gt.GnttabMapGrantRef(flags=flags, ref=gref, dom=domid) for gref in grefs]
        handles: list[int] = []
        places: list[tuple[int, int]] = []
        failed: dict[int, int] = {}
        batches = self._hypercalls.map_grants(operations)
        try:
            for done, fds in batches:
                for operation in done:
                    if operation.status != gt.GNTST_okay:
                        failed[operation.ref] = operation.status
                        continue
                    window, at = operation.dev_bus_addr >> 32, operation.dev_bus_addr & 0xFFFFFFFF
                    known = self._peer_windows.get(window)
                    if known is None:
                        known = self._peer_windows[window] = _PeerWindow(_map_whole(fds.pop(0)))
                    known.handles += 1
                    handles.append(operation.handle)
                    places.append((window, at))
        except OSError:
            # No memory for one of them.
            self._hypercalls.give_back(batches)
            self._forget([window for window, _ in places])
            raise
        return Mapping(self, handles, places), failed

    def _trace(self, event: int, a: int, b: int, c: int = 0, d: int = 0) -> None:
        if self._recorder is not None:
            self._recorder.trace(tr.XENLIKE_TRACE_GRANT, event, "", a, b, c, d)

    def _unmap(self, handles: list[int], windows: list[int]) -> None:
        self._trace(tr.XENLIKE_TRACE_UNMAPPED, handles[0], len(handles) - 1)
        self._hypercalls.unmap_grants(handles)
        self._forget(windows)

    def _forget(self, windows: list[int]) -> None:
        for window in windows:
            known = self._peer_windows[window]
            known.handles -= 1
            if not known.handles:
                # The next map of this window brings its descriptor again.
                del self._peer_windows[window]
                known.mapping.detach()

    def close(self) -> None:
        """Unmaps the table and what is left of the peers' windows."""
        for known in self._peer_windows.values():
            known.mapping.detach()
        self._peer_windows.clear()
        self._table = memoryview(b"")
        self._mapping.detach()


def _map_whole(fd: int) -> _core.Mapping:
    """Maps a window, writable if its seals allow that; closes the descriptor."""
    try:
        size = os.fstat(fd).st_size
        try:
            return _core.map_shared(fd, size)
        except PermissionError:
            return _core.map_shared(fd, size, prot_write=False)
    finally:
        os.close(fd)
