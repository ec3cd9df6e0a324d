"""Reads what domains have recorded: events from recorders, merged by time, in words, as JSON, and for Perfetto.

`xenlike.abi.recorder` has the format. A recorder is its domain's word: nothing in it is believed, and whatever is
in it can be read.
"""

from xenlike.toolstack.tracing.clock import Clock
from xenlike.toolstack.tracing.decode import Decoder, RingPlace, ring_places
from xenlike.toolstack.tracing.event import CLASSES, TraceEvent
from xenlike.toolstack.tracing.merge import Merger, last_events
from xenlike.toolstack.tracing.protocols import Protocols
from xenlike.toolstack.tracing.reader import Chunk, RecorderReader
from xenlike.toolstack.tracing.words import Words, describe, line

__all__ = [
    "CLASSES",
    "Chunk",
    "Clock",
    "Decoder",
    "Merger",
    "Protocols",
    "RecorderReader",
    "RingPlace",
    "TraceEvent",
    "Words",
    "describe",
    "last_events",
    "line",
    "ring_places",
]
