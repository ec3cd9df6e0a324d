"""xenbus: the device state machine, the base classes of drivers, and how drivers are found.

A driver is a protocol and two classes; `xenlike.frontends.echo` and `xenlike.backends.echo` are the
ones to copy. What a driver author needs is importable from here.
"""

from xenlike.abi.xenbus import XenbusState
from xenlike.xenbus.backend import Backend
from xenlike.xenbus.backqueue import BackQueue, BackQueueStatistics
from xenlike.xenbus.bus import BackendBus, FrontendBus
from xenlike.xenbus.frontend import Frontend, retried
from xenlike.xenbus.frontqueue import Completion, FrontQueue, FrontQueueStatistics
from xenlike.xenbus.negotiate import NodeValue
from xenlike.xenbus.pages import ForeignPages, Page, PagePool, SharedPages
from xenlike.xenbus.registry import driver_types, load_backend, load_driver, load_frontend

__all__ = [
    "BackQueue",
    "BackQueueStatistics",
    "Backend",
    "BackendBus",
    "Completion",
    "ForeignPages",
    "FrontQueue",
    "FrontQueueStatistics",
    "Frontend",
    "FrontendBus",
    "NodeValue",
    "Page",
    "PagePool",
    "SharedPages",
    "XenbusState",
    "driver_types",
    "load_backend",
    "load_driver",
    "load_frontend",
    "retried",
]
