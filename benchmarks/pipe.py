"""What a Python programmer would write without xenlike: a process that reads a file for another, over a `Pipe`.

The question is a packed offset and length, the answer the bytes: `send_bytes` and `recv_bytes`, without
pickling, which is the fastest use of a `multiprocessing.Pipe`.
"""

from __future__ import annotations

import multiprocessing
import os
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from xenlike.benchmarks.guests import DEPTH, verify

QUESTION = struct.Struct("<QI")
PATIENCE_S = 5


def serve(connection: Connection, path: str) -> None:
    """The other process: answers until the asking end is closed."""
    fd = os.open(path, os.O_RDONLY)
    while True:
        try:
            offset, length = QUESTION.unpack(connection.recv_bytes())
            connection.send_bytes(os.pread(fd, length, offset))
        except (EOFError, OSError, KeyboardInterrupt):
            return


@contextmanager
def pipe_reader(path: Path) -> Iterator[Connection]:
    """Starts the other process; yields the asking end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, str(path)), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()


def read(connection: Connection, offsets: Sequence[int], length: int, depth: int) -> int:
    """Reads with so many in flight, verifies it, and returns the ns that it took.

    As many questions as answers fit into the socket's buffer are asked ahead: `depth` of 4 KiB do.
    """
    pack, send, receive = QUESTION.pack, connection.send_bytes, connection.recv_bytes
    blocks: list[bytes] = []
    waiting: deque[int] = deque(offsets[depth:])
    start = time.perf_counter_ns()
    for offset in offsets[:depth]:
        send(pack(offset, length))
    for _ in offsets:
        blocks.append(receive())
        if waiting:
            send(pack(waiting.popleft(), length))
    elapsed = time.perf_counter_ns() - start
    verify(blocks, offsets, length)
    return elapsed


__all__ = ["DEPTH", "pipe_reader", "read"]
