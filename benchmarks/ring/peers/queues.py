"""`multiprocessing.Queue`, with its feeder thread and its pickling, and `SimpleQueue`, which has only the latter."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from contextlib import contextmanager

from xenlike.benchmarks.ring.link import Connection, Link
from xenlike.benchmarks.ring.peers.peer import Peer

ROOM = 1024
"""Messages that may wait; a queue without a bound would only fill memory."""


@contextmanager
def connect(_size: int) -> Generator[Connection]:
    """A queue each way."""
    context = multiprocessing.get_context("fork")
    there, back = context.Queue(ROOM), context.Queue(ROOM)
    try:
        yield (lambda: Link(there.put, back.get, waits=True), lambda: Link(back.put, there.get, waits=True))
    finally:
        there.close()
        back.close()


@contextmanager
def connect_simple(_size: int) -> Generator[Connection]:
    """A queue each way."""
    context = multiprocessing.get_context("fork")
    there, back = context.SimpleQueue(), context.SimpleQueue()
    try:
        yield (lambda: Link(there.put, back.get, waits=True), lambda: Link(back.put, there.get, waits=True))
    finally:
        there.close()
        back.close()


PEERS = (Peer("multiprocessing Queue", connect), Peer("multiprocessing SimpleQueue", connect_simple))
