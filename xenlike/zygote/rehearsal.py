"""A domain's first moments, played without a hypervisor, so that what they run is in memory and warm.

    stage: memory, grants, event channels and a store ring of its own, without anybody at their other ends
    bus    finds  device/vbd/51712                    backend's state 2
    front  shares its ring, state 3           ->      (the play itself) sectors …, state 4
    front  connects, state 4, sends a read            nobody answers; the curtain falls

What runs for real is what takes the time of a domain's birth: trio, the store's client, the bus, the block
frontend, its ring and queue, memory, grants and events. Played are the hypervisor, which hands out memory and
pipes, and the store's daemon, which knows a handful of nodes. Nothing of it is left but warmth: no descriptor,
no mapping, no task, no node (see `tests/unit/zygote`).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast

import trio

from xenlike._core import Recorder
from xenlike.abi import xs_wire as xs
from xenlike.abi.start_info import StartInfo
from xenlike.abi.types import PAGE_SIZE
from xenlike.domain.events import Events
from xenlike.domain.grants import GrantTable
from xenlike.domain.hypercalls import Ends
from xenlike.domain.memory import Memory
from xenlike.domain.store import Store
from xenlike.domain.store_wire import FrameReader, frame
from xenlike.ring.stream import XenstoreStreams
from xenlike.xenbus import FrontendBus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xenlike.domain.events import EventChannel
    from xenlike.domain.hypercalls import Hypercalls
    from xenlike.xenbus.interface import DomainLike

FRONT = "device/vbd/51712"
BACK = "/local/domain/1/backend/vbd/2/51712"
OFFER = {"state": "2", "feature-persistent": "1", "feature-flush-cache": "1", "feature-barrier": "1"}
GEOMETRY = {"sectors": "2048", "sector-size": "512", "info": "0", "state": "4"}
PATIENCE_S = 1.0
"""A rehearsal that does not come to its end is given up."""


class _Hypercalls:
    """What a hypervisor would hand out."""

    def __init__(self) -> None:
        self._next_pfn = 1
        self._peers: list[int] = []

    def alloc_window(self, peer: int, nr_pages: int, readonly: bool) -> tuple[int, int]:
        pfn, self._next_pfn = self._next_pfn, self._next_pfn + nr_pages
        return pfn, _memfd(nr_pages)

    def free_window(self, pfn: int) -> None: ...

    def alloc_unbound(self, remote_domid: int) -> tuple[int, Ends]:
        ours, theirs = self.channel()
        self._peers += theirs
        return 1, ours

    def channel(self) -> tuple[Ends, Ends]:
        """Returns both ends of an event channel."""
        there, back = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC), os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return Ends(back[0], there[1]), Ends(there[0], back[1])

    def close_port(self, port: int) -> None: ...

    def close(self) -> None:
        for fd in self._peers:
            os.close(fd)


class _Daemon:
    """A store's daemon: its nodes, and one client who is told of every change that it watches."""

    def __init__(self, page: memoryview, channel: EventChannel) -> None:
        self.nodes = {f"{FRONT}/backend": BACK, f"{FRONT}/backend-id": "1", f"{FRONT}/state": "1"}
        self.nodes |= {f"{BACK}/{name}": value for name, value in OFFER.items()}
        self._streams = XenstoreStreams(page)
        self._channel = channel
        self._watches: dict[bytes, bytes] = {}
        self._events: list[bytes] = []

    async def run(self) -> None:
        reader = FrameReader()
        try:
            while True:
                while data := self._streams.requests.read():
                    reader.feed(data)
                    while (message := reader.take()) is not None:
                        kind, req_id, tx_id, payload = message
                        self._say(frame(kind, req_id, tx_id, self._answer(kind, payload)))
                        self._tell()
                if self._streams.kick():
                    self._channel.notify()
                await self._channel.wait()
        finally:
            self._streams.close()

    def write(self, nodes: dict[str, str]) -> None:
        """Changes nodes."""
        self.nodes |= nodes
        for path in nodes:
            for token, watched in self._watches.items():
                if path.encode().startswith(watched):
                    self._events.append(path.encode() + b"\0" + token + b"\0")

    def _tell(self) -> None:
        """Sends what is to be told, and plays the backend."""
        if self.nodes[f"{FRONT}/state"] == "3" and self.nodes[f"{BACK}/state"] == "2":
            self.write({f"{BACK}/{name}": value for name, value in GEOMETRY.items()})
        for event in self._events:
            self._say(frame(xs.XS_WATCH_EVENT, 0, 0, event))
        self._events.clear()

    def _say(self, message: bytes) -> None:
        # What does not fit is lost, and the play with it.
        self._streams.responses.write(message)

    def _answer(self, kind: int, payload: bytes) -> bytes:
        path, _, rest = payload.partition(b"\0")
        name = path.decode()
        if kind == xs.XS_READ:
            return self.nodes.get(name, "").encode()
        if kind == xs.XS_DIRECTORY:
            below = {node[len(name) + 1 :].partition("/")[0] for node in self.nodes if node.startswith(f"{name}/")}
            return "".join(f"{child}\0" for child in below).encode()
        if kind == xs.XS_TRANSACTION_START:
            return b"1\0"
        if kind == xs.XS_WRITE:
            self.write({name: rest.decode()})
        elif kind == xs.XS_WATCH:
            self._watches[rest[:-1]] = path
            self._events.append(payload)
        return b"OK\0"


class Stage:
    """What the play has for a domain.

    Attributes:
        daemon: has the nodes, which tell how far the play got.
    """

    domid = 2

    def __init__(self) -> None:
        self._hypercalls = _Hypercalls()
        hypercalls = cast("Hypercalls", self._hypercalls)
        pool_pages = 1024
        info = StartInfo(nr_pages=1, pool_pages=pool_pages, pool_base_pfn=1)
        self.memory = Memory(hypercalls, info, _memfd(1), fixed=False)
        self.recorder = Recorder.private()
        self.grants = GrantTable(hypercalls, _memfd(1), 1)
        self.events = Events(hypercalls)
        self._page = self.memory.alloc(1, 1)
        ours, theirs = self._hypercalls.channel()
        self._channel = self.events.adopt(2, 1, *ours)
        self._far = self.events.adopt(3, 2, *theirs)
        self.daemon = _Daemon(self._page.buffer, self._far)
        self.store: Store

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Stage]:
        """Opens a stage, and clears it afterwards."""
        stage = cls()
        try:
            yield stage
        finally:
            stage.events.close()
            stage.grants.close()
            stage.memory.close()
            stage._hypercalls.close()


class _Disk(Protocol):
    async def read(self, offset: int, length: int) -> bytes: ...


async def play(stage: Stage) -> None:
    """Plays it once."""
    bus = FrontendBus(cast("DomainLike", stage), {"vbd": "xenlike.io.blk:DRIVER"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.daemon.run)
        async with Store.over_ring(stage._page.buffer, stage._channel) as stage.store, bus.running():
            with trio.move_on_after(PATIENCE_S):
                disk = cast("_Disk", await bus.device("vbd", "xvda"))
                async with trio.open_nursery() as reading:
                    reading.start_soon(disk.read, 0, PAGE_SIZE)
                    while stage.daemon.nodes[f"{FRONT}/state"] != "4":
                        await trio.lowlevel.checkpoint()
                    reading.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


def _memfd(nr_pages: int) -> int:
    fd = os.memfd_create("stage")
    os.truncate(fd, nr_pages * PAGE_SIZE)
    return fd
