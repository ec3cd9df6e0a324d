"""The block protocol: Xen's `io/blkif.h`, device type `vbd`.

Nodes written by the toolstack in the backend's directory:
    mode                 str, "r" or "w"
    params               str, what the image is (its path, in Xen; a name for it here)
    type                 str, "file", "phy", ...
    virtual-device       u32, the device number, such as 51712 for xvda (also in the frontend's)
    device-type          str, "disk" or "cdrom" (also in the frontend's)

Nodes written by the backend:
    sectors              u64, size of the disk in units of 512 bytes, whatever sector-size says
    sector-size          u32, default 512: the granularity of requests
    physical-sector-size u32, default sector-size
    info                 u32, default 0: VDISK_CDROM 1, VDISK_REMOVABLE 2, VDISK_READONLY 4
    feature-flush-cache  bool, default 0: takes BLKIF_OP_FLUSH_DISKCACHE
    feature-barrier      bool, default 0: takes BLKIF_OP_WRITE_BARRIER
    feature-persistent   bool, default 0: keeps grants mapped (either side)
    feature-discard      bool, default 0: takes BLKIF_OP_DISCARD
    feature-max-indirect-segments  u32, default 0: takes BLKIF_OP_INDIRECT of so many segments
    max-ring-page-order  u32, default 0: log2 of the ring's pages, at most

Nodes written by the frontend:
    ring-ref, or ring-ref0 .. ring-refN, with ring-page-order (u32, default 0)
    event-channel        u32
    protocol             str, "x86_64-abi"
    feature-persistent   bool, default 0: uses the same grants again and again

    frontend                              backend
    state = Initialising                  state = Initialising
    watches the other's state             opens the image
                                          writes features, max-ring-page-order
                                          state = InitWait
    grants the ring, makes a port,
    writes ring-ref, event-channel,
    protocol, features
    state = Initialised
                                          maps the ring, binds the port
                                          writes sectors, sector-size, info
                                          state = Connected
    reads sectors, sector-size, info
    state = Connected

Sector numbers count 512 bytes; `first_sect` and `last_sect` are inclusive, in the page. A response may
come in any order; `id` says whose it is.
"""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.driver import Driver
from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Array, gref_t, s16, u8, u16, u32, u64

BLKIF_OP_READ: Final = 0
BLKIF_OP_WRITE: Final = 1
BLKIF_OP_WRITE_BARRIER: Final = 2
BLKIF_OP_FLUSH_DISKCACHE: Final = 3
BLKIF_OP_RESERVED_1: Final = 4
BLKIF_OP_DISCARD: Final = 5
BLKIF_OP_INDIRECT: Final = 6

BLKIF_RSP_OKAY: Final = 0
BLKIF_RSP_ERROR: Final = -1
BLKIF_RSP_EOPNOTSUPP: Final = -2

BLKIF_MAX_SEGMENTS_PER_REQUEST: Final = 11
BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: Final = 8
BLKIF_DISCARD_SECURE: Final = 1

SEGMENTS_PER_INDIRECT_PAGE: Final = 512
SECTOR_SIZE: Final = 512
"""The unit of sector numbers, whatever the device's own sector size is."""

VDISK_CDROM: Final = 1
VDISK_REMOVABLE: Final = 2
VDISK_READONLY: Final = 4


class BlkifSegment(Struct, c="blkif_request_segment"):
    """Sectors of one granted page."""

    gref: gref_t = field("the page")
    first_sect: u8 = field("first sector in the page, inclusive", unit="sector_512", limit=7)
    last_sect: u8 = field("last sector in the page, inclusive", unit="sector_512", limit=7)


class BlkifRequest(Struct, c="blkif_request", typedef="blkif_request_t"):
    """Reads, writes or flushes; `unpack` builds only the `nr_segments` first segments."""

    operation: u8 = field("BLKIF_OP_*")
    nr_segments: u8 = field("segments in use, at most 11", limit=BLKIF_MAX_SEGMENTS_PER_REQUEST)
    handle: u16 = field("the virtual device, only for reads and writes")
    id: u64 = field("private to the frontend, echoed in the response")
    sector_number: u64 = field("where on the disk", unit="sector_512", limit="sectors")
    seg: Annotated[
        tuple[BlkifSegment, ...], Array(BlkifSegment, BLKIF_MAX_SEGMENTS_PER_REQUEST, count="nr_segments")
    ] = ()


class BlkifRequestDiscard(Struct, c="blkif_request_discard", typedef="blkif_request_discard_t"):
    """A request when `operation` is BLKIF_OP_DISCARD."""

    operation: u8 = field("BLKIF_OP_DISCARD")
    flag: u8 = field("BLKIF_DISCARD_SECURE or 0")
    handle: u16 = field("the virtual device")
    id: u64 = field("private to the frontend, echoed in the response")
    sector_number: u64 = field("where on the disk", unit="sector_512", limit="sectors")
    nr_sectors: u64 = field("how many", unit="sector_512", limit="sectors")


class BlkifRequestIndirect(Struct, c="blkif_request_indirect", typedef="blkif_request_indirect_t"):
    """A request when `operation` is BLKIF_OP_INDIRECT: its segments lie in granted pages."""

    operation: u8 = field("BLKIF_OP_INDIRECT")
    indirect_op: u8 = field("BLKIF_OP_READ or BLKIF_OP_WRITE")
    nr_segments: u16 = field("segments in the pages together", limit="feature-max-indirect-segments")
    id: u64 = field("private to the frontend, echoed in the response")
    sector_number: u64 = field("where on the disk", unit="sector_512", limit="sectors")
    handle: u16 = field("the virtual device")
    indirect_grefs: Annotated[tuple[int, ...], Array(gref_t, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST)] = field(
        "pages of segments"
    )


class BlkifResponse(Struct, c="blkif_response", typedef="blkif_response_t"):
    """The outcome of one request."""

    id: u64 = field("of the request")
    operation: u8 = field("of the request")
    status: s16 = field("BLKIF_RSP_*")


BLK: Final = Protocol(
    "blkif",
    (BlkifRequest, BlkifRequestDiscard, BlkifRequestIndirect),
    BlkifResponse,
    nodes=[
        Node("mode", str, side="backend", default="w", doc='"r" or "w"'),
        Node("params", str, side="backend", default="", doc="what the image is"),
        Node("type", str, side="backend", default="", doc="kind of image"),
        Node("sectors", u64, side="backend", doc="size of the disk", unit="sector_512"),
        Node("sector-size", u32, side="backend", default=512, doc="granularity of requests", unit="B"),
        Node("physical-sector-size", u32, side="backend", default=512, doc="of the medium", unit="B"),
        Node("info", u32, side="backend", default=0, doc="VDISK_*"),
        Node("feature-flush-cache", bool, side="backend", default=False, doc="takes flushes"),
        Node("feature-barrier", bool, side="backend", default=False, doc="takes write barriers"),
        Node("feature-persistent", bool, side="backend", default=False, doc="keeps grants mapped"),
        Node("feature-discard", bool, side="backend", default=False, doc="takes discards"),
        Node("feature-max-indirect-segments", u32, side="backend", default=0, doc="0: takes no indirect requests"),
        Node("max-ring-page-order", u32, side="backend", default=0, doc="log2 of the ring's pages, at most"),
        Node("virtual-device", u32, side="frontend", doc="device number"),
        Node("device-type", str, side="frontend", default="disk", doc='"disk" or "cdrom"'),
        Node("ring-page-order", u32, side="frontend", default=0, doc="log2 of the ring's pages"),
        Node("protocol", str, side="frontend", default="x86_64-abi", doc="layout of the requests"),
        Node("feature-persistent", bool, side="frontend", default=False, doc="uses the same grants again"),
    ],
    doc="Reads and writes sectors of a disk.",
)

DRIVER: Final = Driver(
    "vbd",
    BLK,
    frontend="xenlike.frontends.block:BlockFront",
    backend="xenlike.backends.block:BlockBack",
    doc="A disk.",
    exercise="xenlike.frontends.block.exercise:exercise",
)
