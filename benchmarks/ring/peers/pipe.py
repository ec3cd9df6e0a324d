"""`multiprocessing.Pipe`: `send_bytes` and `recv_bytes`, without pickling, which is its fastest use."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from contextlib import contextmanager

from xenlike.benchmarks.ring.link import Connection, Link
from xenlike.benchmarks.ring.peers.peer import Peer


@contextmanager
def connect(_size: int) -> Generator[Connection]:
    """A pair of sockets."""
    near, far = multiprocessing.Pipe()
    try:
        yield (
            lambda: Link(near.send_bytes, near.recv_bytes, waits=True),
            lambda: Link(far.send_bytes, far.recv_bytes, waits=True),
        )
    finally:
        near.close()
        far.close()


PEERS = (Peer("multiprocessing Pipe", connect),)
