"""Pages that requests name: the frontend's, granted once and used again and again, and the backend's view.

Granting, mapping and their ends cost hypercalls, so drivers here keep what they have (Xen's *persistent
grants*). Both kinds belong to a connection: a new backend gets new pages, a new frontend new mappings.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Protocol

import outcome
import trio

from xenlike._core import STARVED
from xenlike.abi.types import PAGE_SIZE
from xenlike.errors import GrantBusy, HypercallError, PeerGone

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from xenlike.xenbus.interface import DomainLike, MappingLike


class SharedPages:
    """Pages of this domain, granted to one peer.

    Args:
        domain: this domain.
        peer: who may map them.
        nr_pages: how many, in one window.

    Attributes:
        grefs: one reference a page.
    """

    def __init__(self, domain: DomainLike, peer: int, nr_pages: int) -> None:
        self._grants = domain.grants
        self._window = domain.memory.alloc(peer, nr_pages)
        self.grefs: list[int] = []
        try:
            for pfn in range(self._window.pfn, self._window.pfn + nr_pages):
                self.grefs.append(self._grants.grant(pfn, peer))
        except BaseException:
            self.close()
            raise

    @property
    def buffer(self) -> memoryview:
        """All bytes of all pages."""
        return self._window.buffer

    def close(self) -> None:
        """Ends the grants and gives the pages back; idempotent.

        Raises:
            GrantBusy, HypercallError: the peer still maps a page. What is left stays; close again later.
        """
        while self.grefs:
            self._grants.revoke(self.grefs[-1])
            self.grefs.pop()
        self._window.close()


class Attic:
    """Pages to be given back that a peer still maps; they are never reused before it has let go."""

    def __init__(self) -> None:
        self._closes: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._closes)

    def put(self, close: Callable[[], None]) -> None:
        """Closes something now if that is possible, and at a later `sweep` if not."""
        self._closes.append(close)
        self.sweep()

    def sweep(self) -> None:
        """Tries again to close what is left."""
        left = []
        for close in self._closes:
            try:
                close()
            except (GrantBusy, HypercallError):
                left.append(close)
        self._closes = left


class Settling(Protocol):
    """What a pool needs of the queue beside it."""

    def when_settled(self, callback: Callable[[], None]) -> None:
        """As `FrontQueue.when_settled`."""
        ...


class Page:
    """One page of a pool.

    Attributes:
        gref: by which the backend maps it.
        data: its bytes, which the backend may change at any moment while a request names the page.
    """

    __slots__ = ("data", "gref")

    def __init__(self, gref: int, data: memoryview) -> None:
        self.gref = gref
        self.data = data


class PagePool:
    """Granted pages for a frontend's requests.

        async with pool.take() as page:
            page.data[:5] = b"hello"
            await queue.request(Request(gref=page.gref))

    A page whose request was cancelled goes back to the pool only when the backend has answered, so
    that nobody else's data is in it when the backend gets round to it.

    Args:
        pages: to be handed out.
        queue: that of the requests.
        counters: of the ring beside it, where tools see how many tasks wait for a page.
    """

    def __init__(self, pages: SharedPages, queue: Settling, counters: memoryview | None = None) -> None:
        self._queue = queue
        self._counters = memoryview(bytearray(8 * (STARVED + 1))).cast("Q") if counters is None else counters
        buffer = pages.buffer
        self._free = deque(
            Page(gref, buffer[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]) for index, gref in enumerate(pages.grefs)
        )
        # In the order of their coming, and each is handed its page: who comes later must not be quicker.
        self._waiting: dict[trio.lowlevel.Task, None] = {}
        self._closed = False

    def take(self) -> _Taken:
        """Returns an async context manager that waits for a free page.

        Entering it raises `PeerGone` if the connection ends first.
        """
        return _Taken(self)

    def close(self) -> None:
        """Sends those who wait for a page away; idempotent."""
        self._closed = True
        self._free.clear()
        waiting, self._waiting = self._waiting, {}
        for task in waiting:
            trio.lowlevel.reschedule(task, outcome.Error(PeerGone("the connection ended")))

    async def _wait(self) -> Page:
        task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[task] = None
        self._counters[STARVED] += 1
        try:
            page: Page = await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            self._counters[STARVED] -= 1
        if self._closed:
            # Between being handed the page and running.
            raise PeerGone("the connection ended")
        return page

    def _put(self, page: Page) -> None:
        if self._closed:
            return
        if self._waiting:
            task = next(iter(self._waiting))
            del self._waiting[task]
            trio.lowlevel.reschedule(task, outcome.Value(page))
        else:
            self._free.append(page)


class _Taken:
    __slots__ = ("_page", "_pool")

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Page:
        pool = self._pool
        await trio.lowlevel.checkpoint_if_cancelled()
        if pool._closed:
            await trio.lowlevel.checkpoint()
            raise PeerGone("the connection ended")
        self._page = pool._free.popleft() if pool._free else await pool._wait()
        return self._page

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pool, page = self._pool, self._page
        if error is None:
            pool._put(page)
        else:
            pool._queue.when_settled(lambda: pool._put(page))


class ForeignPages:
    """Pages of the frontend, as the backend maps them: each once, and kept.

    Args:
        domain: the backend's domain.
        peer: the frontend's domid.
        limit: pages kept mapped; the one unused for longest goes first.
    """

    def __init__(self, domain: DomainLike, peer: int, limit: int = 1024) -> None:
        self._grants = domain.grants
        self._peer = peer
        self._limit = limit
        self._mapped: OrderedDict[tuple[int, bool], MappingLike] = OrderedDict()

    def __len__(self) -> int:
        return len(self._mapped)

    def page(self, gref: int, *, readonly: bool = False) -> memoryview:
        """Returns a granted page, which the frontend may change at any moment: copy, then check.

        The view is good until `limit` other pages have been used.

        Raises:
            GrantDenied: the frontend did not grant it to this domain in this mode.
        """
        key = gref, readonly
        mapping = self._mapped.get(key)
        if mapping is None:
            mapping = self._grants.map(self._peer, [gref], readonly=readonly)
            self._mapped[key] = mapping
            if len(self._mapped) > self._limit:
                self._mapped.popitem(last=False)[1].unmap()
        else:
            self._mapped.move_to_end(key)
        return mapping.pages[0]

    def close(self) -> None:
        """Unmaps everything; idempotent."""
        while self._mapped:
            self._mapped.popitem()[1].unmap()
