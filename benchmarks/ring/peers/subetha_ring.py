"""subetha-ipc: a lock-free ring in Rust, the closest peer. Single calls, and buffers of many entries a call.

`pop_buffer` returns what is there, at most what was asked for; `push_buffer` takes what there is room for.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from itertools import cycle, islice
from typing import Protocol, cast

from xenlike.benchmarks.ring.content import ENTRY, batches
from xenlike.benchmarks.ring.link import Connection, Link, wrong
from xenlike.benchmarks.ring.pair import Opener, Side
from xenlike.benchmarks.ring.peers.peer import Peer

CAPACITY = 1024
"""Of 128, 512, 1024 and 4096 slots none was faster beyond the spread."""


class _Ring(Protocol):
    push: Callable[[bytes], bool]
    pop: Callable[[], bytes | None]
    push_buffer: Callable[[bytes, int], int]
    pop_buffer: Callable[[int], tuple[bytes, int]]


class _Rings(Protocol):
    def __call__(self, path: str, capacity: int) -> _Ring: ...
    def open(self, path: str, capacity: int) -> _Ring: ...


def _rings() -> _Rings:
    return cast("_Rings", import_module("subetha").SpscRing)


@contextmanager
def _folder() -> Generator[str]:
    memory = "/dev/shm"
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="xenlike-bench-", dir=where) as folder:
        yield folder


@contextmanager
def connect(_size: int) -> Generator[Connection]:
    """A ring each way; its slots have 64 bytes."""
    rings = _rings()
    with _folder() as folder:
        there, back = f"{folder}/there", f"{folder}/back"

        def far() -> Link:
            return Link(rings(back, CAPACITY).push, rings(there, CAPACITY).pop, waits=False)

        def near() -> Link:
            return Link(rings.open(there, CAPACITY).push, rings.open(back, CAPACITY).pop, waits=False)

        yield near, far


@contextmanager
def buffers(batch: int) -> Generator[tuple[Opener, Opener]]:
    """One way, so many entries a call."""
    rings = _rings()
    contents = batches(batch)
    nbytes = batch * ENTRY
    with _folder() as folder:
        path = f"{folder}/there"

        def sender() -> Side:
            push = rings.open(path, CAPACITY).push_buffer

            def produce(count: int) -> None:
                for content in islice(cycle(contents), count):
                    sent = push(content, ENTRY)
                    while sent != batch:
                        sent += push(content[sent * ENTRY :], ENTRY)

            return produce

        def receiver() -> Side:
            pop = rings(path, CAPACITY).pop_buffer

            def consume(count: int) -> None:
                for wanted in islice(cycle(contents), count):
                    data, _ = pop(batch)
                    while len(data) != nbytes:
                        data += pop(batch - len(data) // ENTRY)[0]
                    if data != wanted:
                        raise wrong(data)

            return consume

        yield sender, receiver


PEERS = (Peer("subetha-ipc", connect, "subetha", "subetha-ipc", batches=buffers),)
