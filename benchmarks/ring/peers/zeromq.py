"""pyzmq: a PAIR of sockets over `ipc://`, each process with a context and an I/O thread of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol, cast

from xenlike.benchmarks.ring.link import Connection, Link
from xenlike.benchmarks.ring.peers.peer import Peer


class _Socket(Protocol):
    send: Callable[[bytes], object]
    recv: Callable[[], bytes]

    def bind(self, address: str) -> object: ...
    def connect(self, address: str) -> object: ...


class _Context(Protocol):
    def socket(self, kind: int) -> _Socket: ...


class _Module(Protocol):
    PAIR: int

    def Context(self) -> _Context:  # noqa: N802
        ...


_kept: list[_Context] = []
"""A context that is collected closes its sockets."""


def _socket() -> _Socket:
    module = cast("_Module", import_module("zmq"))
    context = module.Context()
    _kept.append(context)
    return context.socket(module.PAIR)


@contextmanager
def connect(_size: int) -> Generator[Connection]:
    """A socket in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="xenlike-bench-") as folder:
        address = f"ipc://{folder}/socket"

        def near() -> Link:
            socket = _socket()
            socket.connect(address)
            return Link(socket.send, socket.recv, waits=True)

        def far() -> Link:
            socket = _socket()
            socket.bind(address)
            return Link(socket.send, socket.recv, waits=True)

        yield near, far


PEERS = (Peer("pyzmq, ipc", connect, "zmq", "pyzmq"),)
