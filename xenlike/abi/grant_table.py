"""Grants: table entries, operations and their status (Xen's `grant_table.h`).

A domain grants a page by filling an entry of its table: `frame` and `domid` first, then `flags`
with a store-release. It ends the grant by clearing `flags` with a compare-and-swap that fails while
`GTF_reading` or `GTF_writing` is set. xenlike uses version 1 entries only.
"""

from __future__ import annotations

from typing import Final

from xenlike.abi.struct import Struct, Union, field
from xenlike.abi.types import domid_t, grant_handle_t, gref_t, s16, u16, u32, u64, xen_pfn_t

GNTTAB_NR_RESERVED_ENTRIES: Final = 8
GNTTAB_RESERVED_CONSOLE: Final = 0
GNTTAB_RESERVED_XENSTORE: Final = 1

GTF_invalid: Final = 0
GTF_permit_access: Final = 1
GTF_accept_transfer: Final = 2
GTF_transitive: Final = 3
GTF_type_mask: Final = 3
GTF_readonly: Final = 1 << 2
GTF_reading: Final = 1 << 3
GTF_writing: Final = 1 << 4
GTF_sub_page: Final = 1 << 8

GNTTABOP_map_grant_ref: Final = 0
GNTTABOP_unmap_grant_ref: Final = 1
GNTTABOP_setup_table: Final = 2
GNTTABOP_dump_table: Final = 3
GNTTABOP_transfer: Final = 4
GNTTABOP_copy: Final = 5
GNTTABOP_query_size: Final = 6
GNTTABOP_unmap_and_replace: Final = 7
GNTTABOP_set_version: Final = 8
GNTTABOP_get_status_frames: Final = 9
GNTTABOP_get_version: Final = 10
GNTTABOP_swap_grant_ref: Final = 11
GNTTABOP_cache_flush: Final = 12

GNTMAP_device_map: Final = 1 << 0
GNTMAP_host_map: Final = 1 << 1
GNTMAP_readonly: Final = 1 << 2
GNTMAP_application_map: Final = 1 << 3
GNTMAP_contains_pte: Final = 1 << 4

GNTCOPY_source_gref: Final = 1 << 0
GNTCOPY_dest_gref: Final = 1 << 1

GNTST_okay: Final = 0
GNTST_general_error: Final = -1
GNTST_bad_domain: Final = -2
GNTST_bad_gntref: Final = -3
GNTST_bad_handle: Final = -4
GNTST_bad_virt_addr: Final = -5
GNTST_bad_dev_addr: Final = -6
GNTST_no_device_space: Final = -7
GNTST_permission_denied: Final = -8
GNTST_bad_page: Final = -9
GNTST_bad_copy_arg: Final = -10
GNTST_address_too_big: Final = -11
GNTST_eagain: Final = -12
GNTST_no_space: Final = -13

GNTST_TEXT: Final = {
    GNTST_okay: "okay",
    GNTST_general_error: "general undefined error",
    GNTST_bad_domain: "unrecognised domain id",
    GNTST_bad_gntref: "unrecognised or inappropriate gref",
    GNTST_bad_handle: "unrecognised or inappropriate handle",
    GNTST_bad_virt_addr: "inappropriate virtual address to map",
    GNTST_bad_dev_addr: "inappropriate device address to unmap",
    GNTST_no_device_space: "out of space in I/O MMU",
    GNTST_permission_denied: "not enough privilege for operation",
    GNTST_bad_page: "specified page was invalid for operation",
    GNTST_bad_copy_arg: "copy arguments cross page boundary",
    GNTST_address_too_big: "transfer page address too large",
    GNTST_eagain: "operation not done; try again",
    GNTST_no_space: "out of space",
}
"""What each status means, in Xen's words."""


class GrantEntryV1(Struct, c="grant_entry_v1", typedef="grant_entry_v1_t"):
    """One entry of a domain's grant table page."""

    flags: u16 = field("GTF_*; the hypervisor sets reading and writing")
    domid: domid_t = field("the domain that may use the page")
    frame: u32 = field("pfn of the page in the granting domain")


class GrantEntryHeader(Struct, c="grant_entry_header", typedef="grant_entry_header_t"):
    """Head of a version 2 entry."""

    flags: u16 = field()
    domid: domid_t = field()


class GrantEntryV2FullPage(Struct, c="grant_entry_v2_full_page", anonymous=True):
    """A whole page; anonymous in Xen's header."""

    hdr: GrantEntryHeader = field()
    pad0: u32 = field()
    frame: u64 = field()


class GrantEntryV2(Union, c="grant_entry_v2", typedef="grant_entry_v2_t"):
    """Version 2 entry, declared for its size; xenlike does not use it."""

    hdr: GrantEntryHeader = field()
    full_page: GrantEntryV2FullPage = field()


class GnttabMapGrantRef(Struct, c="gnttab_map_grant_ref"):
    """Maps a page that another domain granted.

    In xenlike the caller maps the window's descriptor itself: `dev_bus_addr` comes back as
    `window << 32 | byte offset of the page in the window`.
    """

    host_addr: u64 = field("echoed")
    flags: u32 = field("GNTMAP_*")
    ref: gref_t = field("the granting domain's reference")
    dom: domid_t = field("the granting domain")
    status: s16 = field("out: GNTST_*")
    handle: grant_handle_t = field("out: names the mapping when it is to end")
    dev_bus_addr: u64 = field("out: window id and offset")


class GnttabUnmapGrantRef(Struct, c="gnttab_unmap_grant_ref"):
    """Ends a mapping."""

    host_addr: u64 = field("ignored")
    dev_bus_addr: u64 = field("ignored")
    handle: grant_handle_t = field("of the mapping")
    status: s16 = field("out: GNTST_*")


class GnttabSetupTable(Struct, c="gnttab_setup_table"):
    """Not used by xenlike: the table comes with the bootstrap call."""

    dom: domid_t = field()
    nr_frames: u32 = field()
    status: s16 = field("out: GNTST_*")
    frame_list: u64 = field("a pointer in Xen")


class GnttabDumpTable(Struct, c="gnttab_dump_table"):
    """Debugging aid of Xen."""

    dom: domid_t = field()
    status: s16 = field("out: GNTST_*")


class GnttabTransfer(Struct, c="gnttab_transfer"):
    """Gives a page away; not used by xenlike."""

    mfn: xen_pfn_t = field()
    domid: domid_t = field()
    ref: gref_t = field()
    status: s16 = field("out: GNTST_*")


class GnttabCopyAddress(Union, c="gnttab_copy_address", anonymous=True):
    """A reference, or a frame of the caller's own; anonymous in Xen's header."""

    ref: gref_t = field("with GNTCOPY_*_gref")
    gmfn: xen_pfn_t = field("without")


class GnttabCopyPtr(Struct, c="gnttab_copy_ptr"):
    """One end of a copy."""

    u: GnttabCopyAddress = field("what to copy from or to")
    domid: domid_t = field("whose")
    offset: u16 = field("in the page")


class GnttabCopy(Struct, c="gnttab_copy"):
    """Copies bytes between two pages, each granted or the caller's own."""

    source: GnttabCopyPtr = field()
    dest: GnttabCopyPtr = field()
    len: u16 = field("bytes; neither end may cross its page's end")
    flags: u16 = field("GNTCOPY_*")
    status: s16 = field("out: GNTST_*")


class GnttabQuerySize(Struct, c="gnttab_query_size"):
    """Asks how many pages a domain's grant table has."""

    dom: domid_t = field("DOMID_SELF, or any for a privileged domain")
    nr_frames: u32 = field("out: pages now")
    max_nr_frames: u32 = field("out: pages at most")
    status: s16 = field("out: GNTST_*")


class GnttabUnmapAndReplace(Struct, c="gnttab_unmap_and_replace"):
    """Not used by xenlike."""

    host_addr: u64 = field()
    new_addr: u64 = field()
    handle: grant_handle_t = field()
    status: s16 = field("out: GNTST_*")


class GnttabSetVersion(Struct, c="gnttab_set_version"):
    """Chooses the layout of the table; xenlike has version 1 only."""

    version: u32 = field("in: wanted; out: in effect")


class GnttabGetStatusFrames(Struct, c="gnttab_get_status_frames"):
    """Part of version 2; not used by xenlike."""

    nr_frames: u32 = field()
    dom: domid_t = field()
    status: s16 = field("out: GNTST_*")
    frame_list: u64 = field("a pointer in Xen")


class GnttabGetVersion(Struct, c="gnttab_get_version"):
    """Asks for the layout of a domain's table."""

    dom: domid_t = field()
    pad: u16 = field()
    version: u32 = field("out")


class GnttabSwapGrantRef(Struct, c="gnttab_swap_grant_ref"):
    """Not used by xenlike."""

    ref_a: gref_t = field()
    ref_b: gref_t = field()
    status: s16 = field("out: GNTST_*")


class GnttabCacheFlushAddress(Union, c="gnttab_cache_flush_address", anonymous=True):
    """Anonymous in Xen's header."""

    dev_bus_addr: u64 = field()
    ref: gref_t = field()


class GnttabCacheFlush(Struct, c="gnttab_cache_flush"):
    """Arm only; not used by xenlike."""

    a: GnttabCacheFlushAddress = field("which page")
    offset: u16 = field()
    length: u16 = field()
    op: u32 = field()
