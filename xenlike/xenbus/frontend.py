"""The frontend's half of a device: what a guest's drivers subclass.

    class EchoFront(Frontend[EchoRequest, EchoResponse], protocol=ECHO):
        pool_pages = 8

        @retried
        async def upper(self, text: bytes) -> bytes:
            async with self.pages.take() as page:
                page.data[: len(text)] = text
                await self.request(EchoRequest(gref=page.gref, size=len(text)))
                return bytes(page.data[: len(text)])

The base class shares ring, event channel and pages with the backend, reconnects when the backend died
and the toolstack names another, and tells callers what became of their requests.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar, Concatenate, Literal, ParamSpec, TypeVar

import trio

from xenlike.abi.types import PAGE_SIZE
from xenlike.errors import GrantBusy, NoSuchDevice, PeerGone, ProtocolError
from xenlike.ring import FrontRing, preferred
from xenlike.xenbus.device import XenbusDevice
from xenlike.xenbus.frontqueue import FrontQueue
from xenlike.xenbus.negotiate import backend_nodes, choose_ring, parse_features, ring_nodes
from xenlike.xenbus.pages import Attic, PagePool, SharedPages
from xenlike.xenbus.state import FrontendAction, XenbusState, frontend_action
from xenlike.xenbus.typevars import RequestT, ResponseT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from xenlike.xenbus.interface import ChannelLike, DomainLike
    from xenlike.xenbus.negotiate import NodeValue

BUSY_ATTEMPTS = 8
BUSY_FIRST_S = 0.01
"""Doubled each time: two and a half seconds in all, for a backend that is about to unmap."""

P = ParamSpec("P")
T = TypeVar("T")
FrontendT = TypeVar("FrontendT", bound="Frontend")


def retried(
    method: Callable[Concatenate[FrontendT, P], Awaitable[T]],
) -> Callable[Concatenate[FrontendT, P], Coroutine[object, object, T]]:
    """Makes a driver's operation survive its backend: waits until connected, runs it, and again on `PeerGone`.

    An operation may thus take effect twice, which reads, writes and flushes of a block do not mind. With
    `on_peer_gone = "fail"` the caller gets the `PeerGone` instead. Every attempt uses the connection of
    its own time: `self.pages` and `self.queue` are new after a reconnection.
    """

    async def operation(self: FrontendT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            await self.wait_connected()
            try:
                return await method(self, *args, **kwargs)
            except PeerGone:
                if self.on_peer_gone == "fail":
                    raise
                # Trying again must not keep those from running who are to find out that there is nobody.
                await trio.lowlevel.checkpoint()

    functools.update_wrapper(operation, method)
    return operation


class _Link:
    """What is shared with one backend."""

    def __init__(self) -> None:
        self.ring_pages: SharedPages | None = None
        self.pool_pages: SharedPages | None = None
        self.channel: ChannelLike | None = None
        self.queue: FrontQueue | None = None
        self.pool: PagePool | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.began = False


class Frontend(XenbusDevice[RequestT, ResponseT]):
    """Base class of frontends; `Args` and `Attributes` as `XenbusDevice`.

    A driver overrides hooks as it needs them: `setup`, `connect`, `disconnect`, `resize`, `suspend`,
    `resume`. It adds operations that use `request` or `queue`.
    """

    ring_page_order: ClassVar[int] = 0
    """The ring it would like has 1 << order pages; it gets what the backend maps."""
    pool_pages: ClassVar[int] = 0
    """Pages granted to the backend for requests, in `pages`."""
    on_peer_gone: Literal["retry", "fail"] = "retry"
    """What becomes of `retried` operations whose backend died: they wait for its return, or fail."""

    _side = "frontend"
    _own_names = ("backend", "backend-id", "state")

    def __init__(self, domain: DomainLike, nodename: str) -> None:
        super().__init__(domain, nodename)
        self._link: _Link | None = None
        self._attic = Attic()
        self._stored: str | None = None
        self._ready = False
        self._was_ready = False
        self._error: Exception | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._wish: Literal["", "suspend", "resume", "close"] = ""
        self._suspended = False

    @classmethod
    def device_id(cls, name: int | str) -> str:
        """Returns the directory name of a device that users call `name`, such as 51712 for `xvda`."""
        return str(name)

    # For the driver.

    @property
    def connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._ready

    @property
    def queue(self) -> FrontQueue[RequestT, ResponseT]:
        """The queue of the present connection; from `setup` on.

        Raises:
            PeerGone: there is no connection.
        """
        if self._link is None or self._link.queue is None:
            raise PeerGone(f"{self.nodename} is not connected")
        return self._link.queue

    @property
    def pages(self) -> PagePool:
        """The page pool of the present connection.

        Raises:
            PeerGone: there is no connection.
            TypeError: the class asks for no pool.
        """
        if self._link is None:
            raise PeerGone(f"{self.nodename} is not connected")
        if self._link.pool is None:
            raise TypeError(f"{type(self).__name__} has no pages: set `pool_pages`")
        return self._link.pool

    async def request(self, request: RequestT) -> ResponseT:
        """Sends one request over the present connection; errors as `FrontQueue.request`."""
        return await self.queue.request(request)

    async def wait_connected(self) -> None:
        """Waits until requests can be sent. A checkpoint if it has to wait, and if it is cancelled.

        Raises:
            NoSuchDevice: the device was taken away.
            PeerGone: its backend died, and `on_peer_gone` says not to wait for another.
            ProtocolError: its backend broke the rules; the device is closed until it gets another.
        """
        if self._ready:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._removed:
                raise NoSuchDevice(f"{self.nodename} was taken away")
            if self._error is not None:
                if isinstance(self._error, ProtocolError):
                    raise ProtocolError(*self._error.args)
                raise PeerGone(f"{self.nodename} was given up: {self._error}") from self._error
            if self.on_peer_gone == "fail" and self._was_ready and not self._suspended:
                raise PeerGone(f"the backend of {self.nodename} is gone")
            await self._changed.park()

    def give_back(self, close: Callable[[], None]) -> None:
        """Gives pages of the driver's own back, as soon as the backend has let go of them.

        Args:
            close: as `SharedPages.close`: raises `GrantBusy` or `HypercallError` for as long as one is mapped, and can
                be called again. Called now, and again at the device's later steps.
        """
        self._attic.put(close)

    async def connect(self) -> None:
        """The backend is there, and all its nodes are in `peer`; requests are possible from here on."""

    # For the domain.

    async def close(self) -> None:
        """Closes the device from this side; returns when it is Closed, or gone."""
        await self._ask("close", lambda: self.state == XenbusState.Closed)

    async def quiesce(self) -> None:
        """Stops for a suspend: new operations wait, those in flight are answered, `suspend` is called."""
        await self._ask("suspend", lambda: self._suspended)

    async def revive(self) -> None:
        """Goes on after `quiesce`: `resume` is called, and the handshake begins anew."""
        await self._ask("resume", lambda: not self._suspended)

    async def _ask(self, wish: Literal["suspend", "resume", "close"], granted: Callable[[], bool]) -> None:
        self._wish = wish
        self._bell.ring()
        await trio.lowlevel.checkpoint()
        while not granted() and not self._removed:
            await self._changed.park()

    # The control task.

    def _move(self, new: XenbusState) -> None:
        super()._move(new)
        self._changed.unpark_all()

    async def _publish(self, new: XenbusState, nodes: Mapping[str, NodeValue] | None = None) -> bool:
        written = await super()._publish(new, nodes)
        if written:
            self._stored = str(int(new))
        return written

    def _is_ours(self, otherend: str | None, state: str | None) -> bool:
        return otherend == self.otherend and not self._is_restart(state)

    def _is_restart(self, state: str | None) -> bool:
        """Whether the toolstack has put us back to the beginning, as it does for a new backend."""
        return state == "1" and self._stored != "1"

    async def _advance(self) -> None:
        self._attic.sweep()
        if self._wish:
            await self._grant_wish()
        if self._suspended:
            return
        while True:
            beginning = self.state in (XenbusState.Initialising, XenbusState.Initialised)
            await self._look(("state", *backend_nodes(self.protocol)), ahead=beginning)
            if not await self._is_complete():
                if self._removed:
                    self._changed.unpark_all()
                elif self._link is not None:
                    await self._lose(PeerGone("the backend was taken away"))
                return
            target = self._check_otherend(self._own["backend"], self._own["backend-id"])
            if target == (self.otherend, self.otherend_id) and not self._is_restart(self._own["state"]):
                break
            await self._relink(*target, self._own["state"])
        backend = self._other_state()
        while await self._act(frontend_action(self.state, backend)):
            pass

    async def _act(self, action: FrontendAction) -> bool:
        """Takes one step; returns whether there may be another."""
        if action is FrontendAction.SETUP:
            await self._share()
        elif action is FrontendAction.CONNECT:
            await self._connect()
        elif action is FrontendAction.REFRESH:
            peer = parse_features(self.protocol, "backend", self._raw, self.otherend_id)
            if peer != self.peer:
                self.peer = peer
                await self.resize()
            return False
        elif action is FrontendAction.CLOSE:
            await self._disconnect(PeerGone("the backend is closing"))
            await self._publish(XenbusState.Closed)
        elif action is FrontendAction.LOST:
            await self._lose(PeerGone("the backend vanished"))
            return False
        return action is FrontendAction.SETUP

    async def _relink(self, otherend: str, otherend_id: int, stored: str | None) -> None:
        if self.otherend:
            self.log.info("now served by %s", otherend)
        await self._disconnect(PeerGone("the backend was replaced"))
        self.otherend, self.otherend_id, self._stored = otherend, otherend_id, stored
        self._error = self._failure = None
        self._move(XenbusState.Initialising)
        self._raw = {}
        self._watch_otherend()

    async def _share(self) -> None:
        """Shares ring, event channel and pages; Initialised."""
        raw = self._raw
        self.peer = parse_features(self.protocol, "backend", raw, self.otherend_id, partial=True)
        layouts = self.ring_layouts or preferred(PAGE_SIZE << self.ring_page_order, self.protocol.entry_size)
        choice = choose_ring(raw, layouts, self.ring_page_order, self.otherend_id)
        await self._capture()
        link = self._link = _Link()
        link.ring_pages = SharedPages(self.domain, self.otherend_id, choice.nr_pages)
        link.channel = self.domain.events.alloc_unbound(self.otherend_id)
        ring = FrontRing(
            link.ring_pages.buffer,
            choice.layout,
            self.protocol.request_size,
            self.protocol.response_size,
            entry_size=self.protocol.entry_size,
            domid=self.otherend_id,
            recorder=self.domain.recorder,
            name=self.nodename,
        )
        link.queue = FrontQueue(ring, link.channel, self.protocol, self._path_failed)
        if self.pool_pages:
            link.pool_pages = SharedPages(self.domain, self.otherend_id, self.pool_pages)
            link.pool = PagePool(link.pool_pages, link.queue, ring.counters)
        self._nursery.start_soon(self._receive, link, link.queue)
        link.began = True
        extra = await self._set_up() or {}
        nodes = ring_nodes(choice, link.ring_pages.grefs, link.channel.port)
        await self._publish(XenbusState.Initialised, {**nodes, **extra})

    async def _set_up(self) -> Mapping[str, NodeValue] | None:
        """Calls `setup`, again if the backend of before has not let go of every page yet: it may be about to."""
        for attempt in range(BUSY_ATTEMPTS):
            try:
                return await self.setup()
            except GrantBusy as error:
                self.log.debug("%s; once more", error)
                await trio.sleep(BUSY_FIRST_S * (1 << attempt))
        return await self.setup()

    async def _receive(self, link: _Link, queue: FrontQueue) -> None:
        try:
            with link.scope:
                await queue.run()
        finally:
            link.ended.set()

    async def _connect(self) -> None:
        self.peer = parse_features(self.protocol, "backend", self._raw, self.otherend_id)
        await self.connect()
        if self._failure is not None:
            return  # the backend died meanwhile, which the next look is about
        self._ready = self._was_ready = True
        # Callers need not wait until the store has heard of it.
        self._move(XenbusState.Connected)
        await self._publish(XenbusState.Connected)

    def _path_failed(self, error: Exception) -> None:
        self._ready = False
        self._fail(error)

    async def _disconnect(self, reason: Exception) -> None:
        self._ready = False
        link = self._link
        if link is None:
            return
        if link.queue is not None:
            link.queue.close(reason)
        if link.pool is not None:
            link.pool.close()
        with trio.CancelScope(shield=True):
            if link.began:
                link.scope.cancel()
                await link.ended.wait()
                await self._call_disconnect()
        self._link = None
        if link.channel is not None:
            link.channel.close()
        for pages in (link.ring_pages, link.pool_pages):
            if pages is not None:
                self._attic.put(pages.close)

    async def _lose(self, reason: Exception) -> None:
        was = self.state
        if was in (XenbusState.Closing, XenbusState.Closed):
            return
        self.log.warning("%s; waiting for another", reason)
        await self._disconnect(reason)
        self._move(XenbusState.Unknown)
        if was not in (XenbusState.Unknown, XenbusState.Initialising):
            # It may be closing in the store, or be replaced already.
            self._look_again()

    async def _abandon(self, reason: Exception) -> None:
        if not self._removed and not isinstance(reason, PeerGone):
            self._error = reason
        await self._disconnect(reason)
        self._attic.sweep()
        self._changed.unpark_all()

    def _left_behind(self) -> None:
        self._attic.sweep()
        if len(self._attic):
            self.log.warning("the backend still maps pages of ours, which stay allocated")

    async def _grant_wish(self) -> None:
        wish, self._wish = self._wish, ""
        if wish == "close" and self.state not in (XenbusState.Closing, XenbusState.Closed):
            # The backend serves on until we are Closed, so what is in flight is answered.
            self._ready = False
            await self._publish(XenbusState.Closing)
        elif wish == "suspend" and not self._suspended:
            self._ready = False
            if self._link is not None and self._link.queue is not None:
                # An operation that had begun, and waited for a page, may have a request yet to send.
                self._link.queue.hold()
                await self._link.queue.drained()
            await self.suspend()
            self._suspended = True
        elif wish == "resume" and self._suspended:
            await self.resume()
            self._suspended = False
            if self.state not in (XenbusState.Closing, XenbusState.Closed):
                await self._disconnect(PeerGone("the domain was suspended"))
                # The old backend must begin again first: to it we are Initialising, to us it is nobody.
                if await self._publish(XenbusState.Initialising):
                    self._move(XenbusState.Unknown)
        self._changed.unpark_all()
