"""faster-fifo: a queue in shared memory under a process-shared mutex; bytes go in as they are, without pickling."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol, cast

from xenlike.benchmarks.ring.link import Connection, Link
from xenlike.benchmarks.ring.peers.peer import Peer

ROOM = 1024
"""Messages that may wait."""


class _Queue(Protocol):
    put: Callable[[bytes], None]
    get: Callable[[], bytes]

    def close(self) -> None: ...


class _Module(Protocol):
    def Queue(  # noqa: N802
        self, max_size_bytes: int, *, loads: Callable[[bytes], bytes], dumps: Callable[[bytes], bytes]
    ) -> _Queue: ...


@contextmanager
def connect(size: int) -> Generator[Connection]:
    """A queue each way."""
    module = cast("_Module", import_module("faster_fifo"))
    there, back = (module.Queue(ROOM * (size + 64), loads=bytes, dumps=bytes) for _ in range(2))
    try:
        yield (lambda: Link(there.put, back.get, waits=True), lambda: Link(back.put, there.get, waits=True))
    finally:
        there.close()
        back.close()


PEERS = (Peer("faster-fifo", connect, "faster_fifo", "faster-fifo"),)
