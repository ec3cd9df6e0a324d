"""Rings in shared pages: the two ends of a request ring, one-way rings, byte streams, adaptive waiting.

A ring here is pure: it has no descriptors and never waits. `push` publishes, `kick` says whether to notify,
`pop` copies into private memory, `arm` asks for a notification. What breaks the rules of a ring is a peer, so
it raises `ProtocolError`, once and for ever after.
"""

from xenlike._core import Incoming, Outgoing, RingEnd, RingStatistics, SpinnerStatistics, StreamStatistics
from xenlike.ring.back import BackRing
from xenlike.ring.front import FrontRing
from xenlike.ring.layout import CACHELINE, CACHELINE_TAG, LAYOUTS, XEN, preferred, slots, stride
from xenlike.ring.oneway import Consumer, Producer
from xenlike.ring.stream import ByteStream, ConsoleStreams, XenstoreStreams
from xenlike.ring.wait import Spinner

__all__ = [
    "CACHELINE",
    "CACHELINE_TAG",
    "LAYOUTS",
    "XEN",
    "BackRing",
    "ByteStream",
    "ConsoleStreams",
    "Consumer",
    "FrontRing",
    "Incoming",
    "Outgoing",
    "Producer",
    "RingEnd",
    "RingStatistics",
    "Spinner",
    "SpinnerStatistics",
    "StreamStatistics",
    "XenstoreStreams",
    "preferred",
    "slots",
    "stride",
]
