"""Clients that put load on a store daemon while using as little CPU as a client in Python can: it has the other CPU.

Requests are built before the time is taken, and answers of known length are waited for in one call.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_sync import SyncStore
from xenlike.domain.store_wire import HEADER, FrameReader, frame
from xenlike.errors import Conflict

VALUE = b"a value, as long as many are"
HOME = "/bench"
OPERATIONS = 30
"""Of a handshake: see `handshake`."""


@contextmanager
def connections(path: Path, count: int) -> Iterator[list[socket.socket]]:
    """Connects so many clients."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            # Without a timeout, or the kernel would refuse where a queue is full, and give out less than is asked for.
            sock.connect(str(path))
            made.append(sock)
        yield made


def receive(sock: socket.socket, size: int) -> bytes:
    """Waits for so many bytes."""
    data = sock.recv(size, socket.MSG_WAITALL)
    while len(data) < size:
        more = sock.recv(size - len(data), socket.MSG_WAITALL)
        if not more:
            raise ConnectionError("the daemon has closed the connection")
        data += more
    return data


def prepare(path: Path) -> None:
    """Makes the nodes that are read and written."""
    with SyncStore(path) as store:
        for number in range(64):
            store.write(f"{HOME}/{number}", VALUE)
        store.write(f"{HOME}/count", "0")


def per_second(path: Path, kind: int, seconds: float, *, clients: int, depth: int) -> float:
    """Returns how many READs or WRITEs a second so many clients get, each with so many in flight.

    One task serves all: while it takes one client's answers, the daemon has the others' requests.
    """
    tail = VALUE if kind == xs.XS_WRITE else b""
    answer = len(VALUE) if kind == xs.XS_READ else len(b"OK\0")
    with connections(path, clients) as socks:
        batches = []
        for number in range(clients):
            name = f"{HOME}/{number}\0".encode()
            batches.append(b"".join([frame(kind, index, 0, name + tail) for index in range(depth)]))
        size = depth * (HEADER.size + answer)
        for sock, batch in zip(socks, batches, strict=True):
            sock.sendall(batch)
        done = 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            for sock, batch in zip(socks, batches, strict=True):
                receive(sock, size)
                sock.sendall(batch)
            done += clients * depth
        for sock, batch in zip(socks, batches, strict=True):
            if HEADER.unpack_from(receive(sock, size))[0] != kind:
                raise RuntimeError(f"{batch[:40]!r} was refused")
    return done / elapsed


def latency_us(path: Path, seconds: float) -> tuple[float, list[float]]:
    """Returns the mean time of a READ by one client with one in flight, and the time of each."""
    times = []
    with connections(path, 1) as (sock,):
        request, size = frame(xs.XS_READ, 1, 0, f"{HOME}/0\0".encode()), HEADER.size + len(VALUE)
        now = time.perf_counter_ns
        before = start = now()
        end = start + int(seconds * 1e9)
        while before < end:
            sock.sendall(request)
            receive(sock, size)
            after = now()
            times.append((after - before) / 1000)
            before = after
    return (before - start) / 1000 / len(times), times


def transactions_per_second(path: Path, seconds: float, *, empty: bool) -> float:
    """Returns how many transactions a second one client gets that look at nothing, or add 1 to a number."""
    done = 0
    with SyncStore(path) as store:
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            with store.transaction() as tx:
                if not empty:
                    tx.write(f"{HOME}/count", int(tx.read(f"{HOME}/count")) + 1)
            done += 1
    return done / elapsed


def contended_per_second(path: Path, seconds: float, clients: int) -> tuple[float, float]:
    """Has clients add to one number in transactions that overlap completely, so that one of each round gets through.

    Returns:
        transactions that got through a second, and how often each of them was tried.
    """
    done = tried = 0
    with ExitStack() as stack:
        stores = [stack.enter_context(SyncStore(path)) for _ in range(clients)]
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            opened = [store.transaction() for store in stores]
            for tx in [transaction.__enter__() for transaction in opened]:
                tx.write(f"{HOME}/count", int(tx.read(f"{HOME}/count")) + 1)
            for transaction in opened:
                tried += 1
                try:
                    transaction.__exit__(None, None, None)
                    done += 1
                except Conflict:
                    pass
    return done / elapsed, tried / done


def add_watches(sock: socket.socket, paths: Sequence[str]) -> float:
    """Registers watches, 64 at a time, and waits for the first event of each; returns the seconds it took."""
    messages = [frame(xs.XS_WATCH, 1, 0, f"{path}\0token\0".encode()) for path in paths]
    return _pipelined(sock, messages, answers=2)


def add_nodes(sock: socket.socket, paths: Sequence[str]) -> float:
    """Writes nodes, 64 at a time; returns the seconds it took."""
    return _pipelined(sock, [frame(xs.XS_WRITE, 1, 0, path.encode() + b"\0" + VALUE) for path in paths], answers=1)


def _pipelined(sock: socket.socket, messages: list[bytes], answers: int) -> float:
    reader = FrameReader()
    start = time.perf_counter()
    for first in range(0, len(messages), 64):
        batch = messages[first : first + 64]
        sock.sendall(b"".join(batch))
        for _ in range(len(batch) * answers):
            while (message := reader.take()) is None:
                reader.feed(sock.recv(1 << 16))
            if message[0] == xs.XS_ERROR:
                raise RuntimeError(f"refused with {message[3]!r}")
    return time.perf_counter() - start


def handshake(store: SyncStore, domid: int) -> None:
    """Does what connects one block device: 30 operations of a toolstack, a frontend and a backend, one after the other.

    Args:
        store: one connection, which stands for all three.
        domid: the guest.
    """
    front, back = f"/local/domain/{domid}/device/vbd/51712", f"/local/domain/0/backend/vbd/{domid}/51712"
    with store.transaction() as tx:
        tx.mkdir(front)
        tx.set_perms(front, ["n0", f"r{domid}"])
        tx.mkdir(back)
        tx.set_perms(back, ["n0", f"r{domid}"])
        for path, value in {
            f"{front}/backend": back,
            f"{front}/backend-id": "0",
            f"{front}/state": "1",
            f"{front}/virtual-device": "51712",
            f"{back}/frontend": front,
            f"{back}/frontend-id": str(domid),
            f"{back}/params": "aio:/images/guest.img",
            f"{back}/mode": "w",
            f"{back}/state": "1",
        }.items():
            tx.write(path, value)
    store.watch(f"{back}/state")
    store.read(f"{front}/backend")
    store.read(f"{back}/state")
    with store.transaction() as tx:
        tx.write(f"{front}/ring-ref", "8")
        tx.write(f"{front}/event-channel", "5")
        tx.write(f"{front}/protocol", "x86_64-abi")
    store.write(f"{front}/state", "3")
    store.read(f"{front}/ring-ref")
    store.read(f"{front}/event-channel")
    store.write(f"{back}/sectors", "2097152")
    store.write(f"{back}/state", "4")
    store.read(f"{back}/state")
    store.write(f"{front}/state", "4")


def forget_handshake(store: SyncStore, domid: int) -> None:
    """Takes away what a handshake left."""
    store.unwatch(f"/local/domain/0/backend/vbd/{domid}/51712/state")
    store.rm(f"/local/domain/{domid}")
    store.rm(f"/local/domain/0/backend/vbd/{domid}")
    while store.wait_event(0) is not None:
        pass


def populate(path: Path, count: int, socks: list[socket.socket]) -> None:
    """Makes the device nodes of so many domains, and five watches of each on a connection of its own."""
    with SyncStore(path) as store:
        for domid, sock in zip(range(1, count + 1), socks, strict=True):
            handshake(store, domid)
            store.unwatch(f"/local/domain/0/backend/vbd/{domid}/51712/state")
            home, back = f"/local/domain/{domid}", f"/local/domain/0/backend/vbd/{domid}/51712"
            add_watches(
                sock,
                [
                    f"{back}/state",
                    f"{home}/device",
                    f"{home}/control/shutdown",
                    f"{home}/memory/target",
                    f"{home}/data",
                ],
            )
            while store.wait_event(0) is not None:
                pass
