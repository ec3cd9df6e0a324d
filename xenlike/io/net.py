"""The network protocol's messages: Xen's `io/netif.h`, device type `vif`.

Three rings: `netif_tx` for packets that leave the guest, `netif_rx` for buffers that the backend fills,
`xen_netif_ctrl` for settings. A packet may span several requests (`*_more_data`), with descriptors of
another kind (`NetifExtraInfo`) between the first and the second.
"""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.protocol import Protocol
from xenlike.abi.struct import Struct, Union, field
from xenlike.abi.types import Array, gref_t, s16, u8, u16, u32

NETTXF_csum_blank: Final = 1 << 0
NETTXF_data_validated: Final = 1 << 1
NETTXF_more_data: Final = 1 << 2
NETTXF_extra_info: Final = 1 << 3

NETRXF_data_validated: Final = 1 << 0
NETRXF_csum_blank: Final = 1 << 1
NETRXF_more_data: Final = 1 << 2
NETRXF_extra_info: Final = 1 << 3
NETRXF_gso_prefix: Final = 1 << 4

NETIF_RSP_DROPPED: Final = -2
NETIF_RSP_ERROR: Final = -1
NETIF_RSP_OKAY: Final = 0
NETIF_RSP_NULL: Final = 1

XEN_NETIF_NR_SLOTS_MIN: Final = 18
XEN_NETIF_MAX_TX_SIZE: Final = 0xFFFF

XEN_NETIF_EXTRA_TYPE_NONE: Final = 0
XEN_NETIF_EXTRA_TYPE_GSO: Final = 1
XEN_NETIF_EXTRA_TYPE_MCAST_ADD: Final = 2
XEN_NETIF_EXTRA_TYPE_MCAST_DEL: Final = 3
XEN_NETIF_EXTRA_TYPE_HASH: Final = 4
XEN_NETIF_EXTRA_TYPE_MAX: Final = 5
XEN_NETIF_EXTRA_FLAG_MORE: Final = 1 << 0

XEN_NETIF_GSO_TYPE_NONE: Final = 0
XEN_NETIF_GSO_TYPE_TCPV4: Final = 1
XEN_NETIF_GSO_TYPE_TCPV6: Final = 2


class NetifTxRequest(Struct, c="netif_tx_request", typedef="netif_tx_request_t"):
    """Bytes of one granted page to send."""

    gref: gref_t = field("the page, granted read-only")
    offset: u16 = field("in the page")
    flags: u16 = field("NETTXF_*")
    id: u16 = field("echoed in the response")
    size: u16 = field("of the whole packet in its first request, else of this part", unit="B")


class NetifTxResponse(Struct, c="netif_tx_response", typedef="netif_tx_response_t"):
    """The page may be used again."""

    id: u16 = field("of the request")
    status: s16 = field("NETIF_RSP_*")


class NetifRxRequest(Struct, c="netif_rx_request", typedef="netif_rx_request_t"):
    """A page to be filled."""

    id: u16 = field("echoed in the response")
    pad: u16 = field()
    gref: gref_t = field("the page")


class NetifRxResponse(Struct, c="netif_rx_response", typedef="netif_rx_response_t"):
    """A page with bytes of a packet."""

    id: u16 = field("of the request")
    offset: u16 = field("in the page")
    flags: u16 = field("NETRXF_*")
    status: s16 = field("bytes, or NETIF_RSP_* when negative")


class NetifExtraGso(Struct, c="netif_extra_gso", anonymous=True):
    """Segmentation to be done by the receiver."""

    size: u16 = field("of a segment", unit="B")
    type: u8 = field("XEN_NETIF_GSO_TYPE_*")
    pad: u8 = field()
    features: u16 = field("0")


class NetifExtraMcast(Struct, c="netif_extra_mcast", anonymous=True):
    """A multicast address."""

    addr: Annotated[tuple[int, ...], Array(u8, 6)] = ()


class NetifExtraHash(Struct, c="netif_extra_hash", anonymous=True):
    """A packet's hash."""

    type: u8 = field()
    algorithm: u8 = field()
    value: Annotated[tuple[int, ...], Array(u8, 4)] = ()


class NetifExtraDetail(Union, c="netif_extra_detail", anonymous=True):
    """By type."""

    gso: NetifExtraGso = field()
    mcast: NetifExtraMcast = field()
    hash: NetifExtraHash = field()
    pad: Annotated[tuple[int, ...], Array(u16, 3)] = ()


class NetifExtraInfo(Struct, c="netif_extra_info", typedef="netif_extra_info_t"):
    """A descriptor in the place of a request or a response."""

    type: u8 = field("XEN_NETIF_EXTRA_TYPE_*")
    flags: u8 = field("XEN_NETIF_EXTRA_FLAG_MORE: another one follows")
    u: NetifExtraDetail = field()


class XenNetifCtrlRequest(Struct, c="xen_netif_ctrl_request"):
    """A setting."""

    id: u16 = field("echoed in the response")
    type: u16 = field("XEN_NETIF_CTRL_TYPE_*")
    data: Annotated[tuple[int, ...], Array(u32, 3)] = ()


class XenNetifCtrlResponse(Struct, c="xen_netif_ctrl_response"):
    """Its outcome."""

    id: u16 = field("of the request")
    type: u16 = field("of the request")
    status: u32 = field("XEN_NETIF_CTRL_STATUS_*")
    data: u32 = field()


class XenNetifGref(Struct, c="xen_netif_gref"):
    """A page to be kept mapped."""

    ref: gref_t = field()
    flags: u16 = field("1: read-only")
    status: u16 = field("out: XEN_NETIF_CTRL_STATUS_*")


NET_TX: Final = Protocol("netif_tx", NetifTxRequest, NetifTxResponse, doc="Packets from the guest.")
NET_RX: Final = Protocol("netif_rx", NetifRxRequest, NetifRxResponse, doc="Packets to the guest.")
NET_CTRL: Final = Protocol("xen_netif_ctrl", XenNetifCtrlRequest, XenNetifCtrlResponse, doc="Settings.")
