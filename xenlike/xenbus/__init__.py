"""xenbus: the device state machine, the base classes of drivers, and how drivers are found.

A driver is a protocol and two classes; `xenlike.frontends.echo` and `xenlike.backends.echo` are the
ones to copy. What a driver author needs is importable from here, the words of protocols included.
"""

from xenlike.abi.driver import Driver
from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Array, Bytes, gref_t, s8, s16, s32, s64, u8, u16, u32, u64
from xenlike.abi.xenbus import XenbusState
from xenlike.xenbus.backend import Backend
from xenlike.xenbus.backqueue import BackQueue, BackQueueStatistics
from xenlike.xenbus.bus import BackendBus, FrontendBus
from xenlike.xenbus.calls import Completion, FrontQueueStatistics
from xenlike.xenbus.engine import run_engine
from xenlike.xenbus.frontend import Frontend, retried
from xenlike.xenbus.frontqueue import FrontQueue
from xenlike.xenbus.negotiate import NodeValue
from xenlike.xenbus.pages import ForeignPages, Page, PagePool, SharedPages
from xenlike.xenbus.registry import driver_types, load_backend, load_driver, load_frontend

__all__ = [
    "Array",
    "BackQueue",
    "BackQueueStatistics",
    "Backend",
    "BackendBus",
    "Bytes",
    "Completion",
    "Driver",
    "ForeignPages",
    "FrontQueue",
    "FrontQueueStatistics",
    "Frontend",
    "FrontendBus",
    "Node",
    "NodeValue",
    "Page",
    "PagePool",
    "Protocol",
    "SharedPages",
    "Struct",
    "XenbusState",
    "driver_types",
    "field",
    "gref_t",
    "load_backend",
    "load_driver",
    "load_frontend",
    "retried",
    "run_engine",
    "s8",
    "s16",
    "s32",
    "s64",
    "u8",
    "u16",
    "u32",
    "u64",
]
