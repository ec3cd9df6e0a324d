"""A domain's first moments, played without a hypervisor, so that what they run is in memory and warm.

    stage: private pages, pipes without a peer, a dictionary for the store
    bus    finds  device/vbd/51712                    backend's state 2
    front  shares its ring, state 3           ->      (the play itself) sectors …, state 4
    front  connects, state 4, sends a read            nobody answers; the curtain falls

What runs for real is what takes the time of a domain's birth: trio, the bus, the block frontend, its ring and
queue. The stage knows what they need of a domain (`xenbus.interface`) and not a word more.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import trio

from xenlike.abi.types import PAGE_SIZE
from xenlike.xenbus import FrontendBus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xenlike.xenbus.interface import DomainLike

T = TypeVar("T")

FRONT = "device/vbd/51712"
BACK = "/local/domain/1/backend/vbd/2/51712"
OFFER = {"state": "2", "feature-persistent": "1", "feature-flush-cache": "1", "feature-barrier": "1"}
GEOMETRY = {"sectors": "2048", "sector-size": "512", "info": "0"}
PATIENCE_S = 1.0
"""A rehearsal that does not come to its end is given up."""


class _Window:
    pfn = 1

    def __init__(self, nr_pages: int) -> None:
        self.buffer = memoryview(mmap.mmap(-1, nr_pages * PAGE_SIZE))

    def close(self) -> None: ...


class _Memory:
    def alloc(self, peer: int, nr_pages: int, *, readonly: bool = False) -> _Window:
        return _Window(nr_pages)


class _Grants:
    def grant(self, pfn: int, peer: int, *, readonly: bool = False) -> int:
        return 8

    def revoke(self, gref: int) -> None: ...


class _Channel:
    port = 1

    def __init__(self) -> None:
        self._rx_fd, self.tx_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self._rx_fd)
        os.read(self._rx_fd, 1)

    def close(self) -> None:
        if self.tx_fd >= 0:
            os.close(self._rx_fd)
            os.close(self.tx_fd)
            self.tx_fd = -1


class _Events:
    def __init__(self) -> None:
        self.channels: list[_Channel] = []

    def alloc_unbound(self, remote_domid: int) -> _Channel:
        self.channels.append(_Channel())
        return self.channels[-1]


class _Store:
    def __init__(self) -> None:
        self.nodes = {"device": "", "device/vbd": "", FRONT: ""}
        self.nodes |= {f"{FRONT}/backend": BACK, f"{FRONT}/backend-id": "1", f"{FRONT}/state": "1"}
        self.nodes |= {f"{BACK}/{name}": value for name, value in OFFER.items()}
        self._watches: list[tuple[str, trio.MemorySendChannel[str]]] = []

    async def read_many(self, paths: Sequence[str], tx: object = None) -> list[str | None]:
        await trio.lowlevel.checkpoint()
        return [self.nodes.get(path) for path in paths]

    async def write_many(self, nodes: Mapping[str, str], tx: object = None) -> None:
        await trio.lowlevel.checkpoint()
        self.nodes |= nodes
        for path in nodes:
            for watched, told in self._watches:
                if path.startswith(watched):
                    told.send_nowait(path)

    async def ls(self, path: str, tx: object = None) -> list[str]:
        await trio.lowlevel.checkpoint()
        return [name for above, _, name in (node.rpartition("/") for node in self.nodes) if above == path]

    @asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        tell, told = trio.open_memory_channel[str](100)
        self._watches.append((path, tell))
        tell.send_nowait(path)
        yield told

    async def transact(self, action: Callable[[object], Awaitable[T]]) -> T:
        return await action(None)


class Stage:
    """What the play has for a domain.

    Attributes:
        store: its nodes, which tell how far the play got.
    """

    domid = 2

    def __init__(self) -> None:
        self.store = _Store()
        self.memory = _Memory()
        self.grants = _Grants()
        self.events = _Events()

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Stage]:
        """Opens a stage, and clears it afterwards."""
        stage = cls()
        try:
            yield stage
        finally:
            for channel in stage.events.channels:
                channel.close()


class _Disk(Protocol):
    async def read(self, offset: int, length: int) -> bytes: ...


async def play(stage: Stage) -> None:
    """Plays it once."""
    bus = FrontendBus(cast("DomainLike", stage), {"vbd": "xenlike.io.blk:DRIVER"})
    with trio.move_on_after(PATIENCE_S):
        async with bus.running(), trio.open_nursery() as nursery:
            nursery.start_soon(_be_backend, stage.store)
            disk = await bus.device("vbd", "xvda")
            nursery.start_soon(cast("_Disk", disk).read, 0, PAGE_SIZE)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def _be_backend(store: _Store) -> None:
    async with store.watch(f"{FRONT}/state") as changes:
        async for _ in changes:
            if store.nodes[f"{FRONT}/state"] == "3":
                await store.write_many({f"{BACK}/{name}": value for name, value in (GEOMETRY | {"state": "4"}).items()})
                return
