"""What else carries messages between two Python processes; one file each, and here the list of them.

Each is used in the fastest way that it documents for messages of a fixed size, and none is patched. Whatever has to
be installed is in the extra `peers`; the rest comes with Python.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import cast

from xenlike.benchmarks.ring.peers.peer import Peer
from xenlike.benchmarks.runner import Bench

CLOSEST = "subetha-ipc"
"""The peer that goals speak of."""

MODULES = (
    "subetha_ring",
    "pipe",
    "queues",
    "shared_memory",
    "posix_mq",
    "zeromq",
    "fifo",
    "iceoryx",
)
"""Files here that have `PEERS`."""


def peers() -> list[Peer]:
    """Returns all of them, installed or not."""
    return [
        peer
        for name in MODULES
        for peer in cast("tuple[Peer, ...]", import_module(f"xenlike.benchmarks.ring.peers.{name}").PEERS)
    ]


def missing(peer: Peer) -> str:
    """Says why a peer cannot be measured; empty if it can."""
    if not peer.needs or find_spec(peer.needs) is not None:
        return ""
    return f"not measured: {peer.package} is not installed (pip install 'xenlike[peers]')"


def installed(bench: Bench) -> list[Peer]:
    """Returns those that can be measured, and remarks on the others; none if the user wants none."""
    found: list[Peer] = []
    for peer in peers() if bench.options.peers else []:
        if why := missing(peer):
            if f"{peer.name}: {why}" not in bench.remarks:
                bench.remark(f"{peer.name}: {why}")
        else:
            found.append(peer)
    return found
