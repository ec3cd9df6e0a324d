"""`posix_ipc.MessageQueue`: POSIX message queues, a system call for each message."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from xenlike.benchmarks.ring.link import Connection, Link
from xenlike.benchmarks.ring.peers.peer import Peer


class _Queue(Protocol):
    def send(self, message: bytes) -> None: ...
    def receive(self) -> tuple[bytes, int]: ...
    def close(self) -> None: ...
    def unlink(self) -> None: ...


class _Module(Protocol):
    O_CREX: int

    def MessageQueue(self, name: str, flags: int, *, max_messages: int, max_message_size: int) -> _Queue:  # noqa: N802
        ...


def _limit(name: str, otherwise: int) -> int:
    try:
        return int(Path(f"/proc/sys/fs/mqueue/{name}").read_text())
    except OSError:
        return otherwise


@contextmanager
def connect(size: int) -> Generator[Connection]:
    """A queue each way, as long as the host allows."""
    module = cast("_Module", import_module("posix_ipc"))
    queues: list[_Queue] = []
    try:
        for way in ("there", "back"):
            name = f"/xenlike-bench-{os.getpid()}-{way}"
            room = _limit("msg_max", 10)
            queues.append(module.MessageQueue(name, module.O_CREX, max_messages=room, max_message_size=size))
        there, back = queues
        yield (
            lambda: Link(there.send, _receiver(back), waits=True),
            lambda: Link(back.send, _receiver(there), waits=True),
        )
    finally:
        for queue in queues:
            queue.close()
            queue.unlink()


def _receiver(queue: _Queue) -> Callable[[], bytes]:
    receive = queue.receive
    return lambda: receive()[0]


PEERS = (Peer("posix_ipc MessageQueue", connect, "posix_ipc", "posix_ipc"),)
