"""`multiprocessing.shared_memory` as one would use it: a ring in pure Python, polled, two indices and slots.

An index is stored by one interpreter and loaded by another without a fence, which is enough on x86 only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from typing import cast

from xenlike.benchmarks.ring.link import Connection, Link
from xenlike.benchmarks.ring.peers.peer import Peer

SLOTS = 128
HEADER = 128
"""Of bytes: the writer's index at 0, the reader's at 64."""


def _writer(memory: SharedMemory, size: int) -> Callable[[bytes], bool]:
    buffer = cast("memoryview", memory.buf)
    indices = buffer[:HEADER].cast("Q")
    index = 0

    def put(message: bytes) -> bool:
        nonlocal index
        if index - indices[8] >= SLOTS:
            return False
        at = HEADER + index % SLOTS * size
        buffer[at : at + size] = message
        index += 1
        indices[0] = index
        return True

    return put


def _reader(memory: SharedMemory, size: int) -> Callable[[], bytes | None]:
    buffer = cast("memoryview", memory.buf)
    indices = buffer[:HEADER].cast("Q")
    index = 0

    def get() -> bytes | None:
        nonlocal index
        if indices[0] == index:
            return None
        at = HEADER + index % SLOTS * size
        message = bytes(buffer[at : at + size])
        index += 1
        indices[8] = index
        return message

    return get


@contextmanager
def connect(size: int) -> Generator[Connection]:
    """A block each way."""
    blocks: list[SharedMemory] = []
    try:
        blocks.append(SharedMemory(create=True, size=HEADER + SLOTS * size))
        blocks.append(SharedMemory(create=True, size=HEADER + SLOTS * size))
        there, back = blocks
        yield (
            lambda: Link(_writer(there, size), _reader(back, size), waits=False),
            lambda: Link(_writer(back, size), _reader(there, size), waits=False),
        )
    finally:
        for block in blocks:
            block.close()
            block.unlink()


PEERS = (Peer("shared_memory, a ring in Python", connect),)
