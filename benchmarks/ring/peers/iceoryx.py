"""iceoryx2: publish and subscribe without copies, polled; here with one copy in and one out, as everybody has.

A publisher that finds no room waits instead of overwriting.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from xenlike.benchmarks.ring.link import Connection, Link
from xenlike.benchmarks.ring.peers.peer import Peer

if TYPE_CHECKING:
    from typing import Any

ROOM = 128
"""Messages that may wait."""

_kept: list[object] = []
"""Nodes and services; a port does not keep them."""


def _ports(size: int, folder: str, prefix: str, out: str, into: str) -> Link:
    iox: Any = import_module("iceoryx2")
    iox.set_log_level(iox.LogLevel.Error)
    config = iox.config.default()
    places = config.global_cfg
    places.root_path, places.prefix = iox.Path.new(folder), iox.FileName.new(prefix)
    node = iox.NodeBuilder.new().config(config).create(iox.ServiceType.Ipc)
    kind = iox.Slice[ctypes.c_uint8]

    def service(name: str) -> Any:
        builder = node.service_builder(iox.ServiceName.new(name)).publish_subscribe(kind)
        made = builder.enable_safe_overflow(False).subscriber_max_buffer_size(ROOM).open_or_create()
        _kept.append(made)
        return made

    _kept.append(node)
    publisher = service(out).publisher_builder().initial_max_slice_len(size).create()
    subscriber = service(into).subscriber_builder().buffer_size(ROOM).create()
    return Link(_put(publisher, size), _get(subscriber), waits=False)


def _put(publisher: Any, size: int) -> Callable[[bytes], bool]:
    loan, move = publisher.loan_slice_uninit, ctypes.memmove

    def put(message: bytes) -> bool:
        sample = loan(size)
        move(sample.payload_ptr, message, size)
        sample.assume_init().send()
        return True

    return put


def _get(subscriber: Any) -> Callable[[], bytes | None]:
    receive, string_at = subscriber.receive, ctypes.string_at

    def get() -> bytes | None:
        sample = receive()
        if sample is None:
            return None
        payload = sample.payload()
        message = string_at(payload.data_ptr, payload.number_of_elements)
        sample.delete()
        return message

    return get


@contextmanager
def connect(size: int) -> Generator[Connection]:
    """A service each way, with files under names of its own: who is killed leaves them."""
    prefix = f"xenlike-bench-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        try:
            yield (
                lambda: _ports(size, folder, prefix, "there", "back"),
                lambda: _ports(size, folder, prefix, "back", "there"),
            )
        finally:
            for left in Path("/dev/shm").glob(f"{prefix}*"):
                left.unlink(missing_ok=True)


PEERS = (Peer("iceoryx2", connect, "iceoryx2", "iceoryx2"),)
