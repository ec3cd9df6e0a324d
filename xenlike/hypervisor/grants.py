"""Grant table operations: map, unmap, copy.

The granter's table is a shared page that it writes at any moment; one entry is read once and its in-use
bits are set by the same compare-and-swap (in C), as `_set_status_v1` in Xen's `grant_table.c` does. What
the entry's frame says is then checked against the window that holds it: a window serves one peer in one
mode, whatever the table claims.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from xenlike import _core
from xenlike.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTMAP_readonly,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_general_error,
    GNTST_no_device_space,
    GNTST_okay,
    GNTST_permission_denied,
    GnttabCopy,
    GnttabCopyPtr,
    GnttabMapGrantRef,
    GnttabUnmapGrantRef,
    GTF_reading,
    GTF_writing,
)
from xenlike.abi.xen import DOMID_SELF
from xenlike.hypervisor.domain import NR_REFS, Domain, GrantMapping, Pins
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.frames import PAGE, Window

# Bytes that one GNTTABOP_copy message may move: a domain cannot hold the hypervisor up for longer.
COPY_LIMIT = 1 << 20
# Handles of one mapper: as many as Xen's default `gnttab_max_maptrack_frames` hold.
MAX_HANDLES = 1 << 18
LAST_HANDLE = 0x7FFF_FFFF


class _Bad(Exception):
    """One entry of a batch failed; the others go on."""

    def __init__(self, status: int) -> None:
        self.status = status


class Grants:
    """The grant operations over a table of domains."""

    def __init__(self, domains: dict[int, Domain]) -> None:
        self._domains = domains

    # -- pinning -----------------------------------------------------------------------------------

    def _granter(self, domid: int, caller: Domain) -> Domain:
        granter = caller if domid == DOMID_SELF else self._domains.get(domid)
        if granter is None or granter.table_fd < 0 or not granter.alive:
            raise _Bad(GNTST_bad_domain)
        return granter

    def _pin(self, granter: Domain, ref: int, mapper: Domain, *, readonly: bool) -> tuple[Window, int]:
        """Marks a reference in use; returns the window that holds its page, and the byte offset there."""
        if ref >= NR_REFS:
            raise _Bad(GNTST_bad_gntref)
        status, frame = _core.gnttab_pin(granter.table.buffer, ref, mapper.domid, readonly)
        if status != GNTST_okay:
            raise _Bad(status)
        pins = granter.pins.setdefault(ref, Pins())
        if readonly:
            pins.readers += 1
        else:
            pins.writers += 1
        window = granter.pool.find(frame)
        if (
            window is None
            or window.peer != mapper.domid
            or window.revoked
            or not window.sealed
            or (window.readonly and not readonly)
        ):
            self._unpin(granter, ref, readonly=readonly)
            raise _Bad(GNTST_permission_denied)
        return window, (frame - window.pfn) * PAGE

    def _unpin(self, granter: Domain, ref: int, *, readonly: bool) -> None:
        pins = granter.pins[ref]
        if readonly:
            pins.readers -= 1
        else:
            pins.writers -= 1
        clear = 0 if pins.writers else GTF_writing
        if not pins.readers and not pins.writers:
            clear |= GTF_reading
            del granter.pins[ref]
        if granter.table_fd >= 0 and clear:
            _core.gnttab_unpin(granter.table.buffer, ref, clear)

    # -- map and unmap -----------------------------------------------------------------------------

    def map(self, caller: Domain, operations: Sequence[GnttabMapGrantRef]) -> list[int]:
        """Maps a batch.

        Returns:
            The descriptors the caller needs: one for every window of which it had no other handle.
        """
        needed: list[int] = []
        for operation in operations:
            try:
                self._map_one(caller, operation, needed)
            except _Bad as bad:
                operation.status = bad.status
        return needed

    def _map_one(self, caller: Domain, operation: GnttabMapGrantRef, needed: list[int]) -> None:
        readonly = bool(operation.flags & GNTMAP_readonly)
        granter = self._granter(operation.dom, caller)
        if len(caller.mappings) >= MAX_HANDLES:
            raise _Bad(GNTST_no_device_space)
        window, offset = self._pin(granter, operation.ref, caller, readonly=readonly)
        held = caller.windows_held.get(window.identity, 0)
        if held == 0:
            needed.append(window.fd)
        caller.windows_held[window.identity] = held + 1
        window.mapped += 1
        while (handle := caller.next_handle) in caller.mappings:
            caller.next_handle = handle % LAST_HANDLE + 1
        caller.next_handle = handle % LAST_HANDLE + 1
        caller.mappings[handle] = GrantMapping(granter.domid, operation.ref, readonly, granter.pool, window.pfn)
        operation.handle = handle
        operation.dev_bus_addr = window.identity << 32 | offset
        operation.status = GNTST_okay

    def unmap(self, caller: Domain, operations: Sequence[GnttabUnmapGrantRef]) -> set[int]:
        """Ends a batch of handles.

        Returns:
            The domids of the granters: one of them may be a zombie that can go now.
        """
        touched: set[int] = set()
        for operation in operations:
            mapping = caller.mappings.pop(operation.handle, None)
            if mapping is None:
                operation.status = GNTST_bad_handle
                continue
            self._end(caller, mapping)
            touched.add(mapping.granter)
            operation.status = GNTST_okay
        return touched

    def release_all(self, mapper: Domain) -> set[int]:
        """A mapper died: ends all its handles, and returns the granters."""
        mappings = list(mapper.mappings.values())
        mapper.mappings.clear()
        for mapping in mappings:
            self._end(mapper, mapping)
        return {mapping.granter for mapping in mappings}

    def _end(self, mapper: Domain, mapping: GrantMapping) -> None:
        window = mapping.window_owner.windows[mapping.window_pfn]
        window.mapped -= 1
        held = mapper.windows_held[window.identity] - 1
        if held:
            mapper.windows_held[window.identity] = held
        else:
            del mapper.windows_held[window.identity]
        granter = self._domains.get(mapping.granter)
        if granter is not None and mapping.ref in granter.pins:
            self._unpin(granter, mapping.ref, readonly=mapping.readonly)

    # -- copy --------------------------------------------------------------------------------------

    def copy(self, caller: Domain, operations: Sequence[GnttabCopy]) -> None:
        """Copies between pages, by descriptor: a fault is an error number, never a signal.

        Raises:
            Refused: E2BIG when the batch moves more than `COPY_LIMIT` bytes.
        """
        if sum(operation.len for operation in operations) > COPY_LIMIT:
            raise Refused(errno.E2BIG)
        for operation in operations:
            try:
                self._copy_one(caller, operation)
                operation.status = GNTST_okay
            except _Bad as bad:
                operation.status = bad.status
            except OSError:
                # A descriptor's flags belong to all its holders, and one of them made it append, for example.
                operation.status = GNTST_general_error

    def _copy_one(self, caller: Domain, operation: GnttabCopy) -> None:
        source, dest, length = operation.source, operation.dest, operation.len
        if source.offset + length > PAGE or dest.offset + length > PAGE:
            raise _Bad(GNTST_bad_copy_arg)
        data = self._page(caller, source, None, length, bool(operation.flags & GNTCOPY_source_gref))
        self._page(caller, dest, data, length, bool(operation.flags & GNTCOPY_dest_gref))

    def _page(self, caller: Domain, where: GnttabCopyPtr, data: bytes | None, length: int, by_ref: bool) -> bytes:
        """Reads from a page, or writes `data` to it; pins it meanwhile if it is named by reference."""
        readonly = data is None
        if by_ref:
            granter = self._granter(where.domid, caller)
            window, base = self._pin(granter, where.u.ref, caller, readonly=readonly)
            try:
                return _transfer(window, base + where.offset, data, length)
            finally:
                self._unpin(granter, where.u.ref, readonly=readonly)
        if where.domid not in (DOMID_SELF, caller.domid):
            raise _Bad(GNTST_permission_denied)
        pfn = where.u.gmfn
        if pfn < caller.nr_pages:
            ram = Window(0, caller.domid, 0, caller.nr_pages, caller.domid, False, caller.ram_fd)
            return _transfer(ram, pfn * PAGE + where.offset, data, length)
        own = caller.pool.find(pfn)
        if own is None:
            raise _Bad(GNTST_general_error)
        return _transfer(own, (pfn - own.pfn) * PAGE + where.offset, data, length)


def _transfer(window: Window, offset: int, data: bytes | None, length: int) -> bytes:
    if data is None:
        return window.read(offset, length)
    window.write(offset, data)
    return data
