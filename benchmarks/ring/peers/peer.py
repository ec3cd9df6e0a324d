"""What a peer is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from xenlike.benchmarks.ring.link import Connection
from xenlike.benchmarks.ring.pair import Ends


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that carries messages between two processes.

    Attributes:
        name: as tables have it.
        connect: given the size of a message in bytes, makes what both processes share, and removes it in the end.
        needs: the module it comes from; empty if that is Python's own.
        package: what to install for it.
        batches: given entries a call, its own loops for so many entries of 64 B at once, where it has such calls.
        trips: whether a message goes out before the next is put, so that an answer can come.
    """

    name: str
    connect: Callable[[int], AbstractContextManager[Connection]]
    needs: str = ""
    package: str = ""
    batches: Callable[[int], Ends] | None = None
    trips: bool = True
