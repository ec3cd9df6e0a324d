"""The backend's half of a device: what drivers of driver domains subclass.

    class EchoBack(Backend[EchoRequest, EchoResponse], protocol=ECHO):
        async def handle(self, request: EchoRequest) -> EchoResponse:
            page = self.foreign.page(request.gref)
            page[: request.size] = bytes(page[: request.size]).upper()
            return EchoResponse(size=request.size)

The base class maps the ring, serves it, and gives the connection up on the first broken rule. A driver
that does better than one request at a time overrides `serve`; a raw one uses the raw calls of its queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import trio

from xenlike.errors import PeerGone, ProtocolError
from xenlike.ring import BackRing
from xenlike.xenbus.backqueue import BackQueue
from xenlike.xenbus.device import XenbusDevice, innermost
from xenlike.xenbus.negotiate import (
    LAYOUTS,
    MAX_RING_PAGE_ORDER,
    NodeValue,
    accept_ring,
    frontend_nodes,
    parse_features,
    parse_gref,
    parse_port,
    ring_ref_names,
)
from xenlike.xenbus.pages import ForeignPages
from xenlike.xenbus.state import BackendAction, XenbusState, backend_action
from xenlike.xenbus.typevars import RequestT, ResponseT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xenlike.xenbus.interface import ChannelLike, DomainLike, MappingLike


class _HasId(Protocol):
    id: int


class _Link:
    """What one frontend shares."""

    def __init__(self) -> None:
        self.mapping: MappingLike | None = None
        self.channel: ChannelLike | None = None
        self.queue: BackQueue | None = None
        self.foreign: ForeignPages | None = None
        self.scope = trio.CancelScope()
        self.serving = False
        self.ended = trio.Event()


class Backend(XenbusDevice[RequestT, ResponseT]):
    """Base class of backends; `Args` and `Attributes` as `XenbusDevice`.

    A driver overrides `handle`, or `serve`, and hooks as it needs them: `setup`, `connect`,
    `disconnect`, `suspend`, `resume`.
    """

    ring_layouts: ClassVar[tuple[str, ...]] = LAYOUTS
    max_ring_page_order: ClassVar[int] = MAX_RING_PAGE_ORDER
    """It maps rings of up to 1 << order pages."""
    budget: ClassVar[int] = 256
    """Requests it takes before other devices of its domain get a turn."""

    _side = "backend"
    _own_names = ("frontend", "frontend-id", "state", "online")

    def __init__(self, domain: DomainLike, nodename: str) -> None:
        super().__init__(domain, nodename)
        self._link: _Link | None = None
        self._began = False
        # Whether the frontend has said something since our offer, so that its other nodes are worth reading.
        self._heard = False

    # For the driver.

    async def handle(self, request: RequestT) -> ResponseT:
        """Answers one request, a private copy that the driver has yet to check.

        The response's `id` is set by the caller. Whatever this raises ends the connection: answer with
        an error status where the frontend should hear of it and go on.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither `handle` nor `serve`")

    async def serve(self, queue: BackQueue[RequestT, ResponseT]) -> None:
        """Serves a queue for as long as it is connected, one request after the other.

        Runs in a task of its own, between `connect` and `disconnect`. It ends by being cancelled; clean
        up, such as stopping a thread, in `finally` under a shield: the ring is unmapped after that.
        """
        async for requests in queue:
            for request in requests:
                response = await self.handle(request)
                cast("_HasId", response).id = cast("_HasId", request).id
                queue.respond((response,))

    async def connect(self) -> Mapping[str, NodeValue] | None:
        """The ring is mapped, the frontend's nodes are in `peer`; returns nodes to publish with Connected."""
        return None

    @property
    def queue(self) -> BackQueue[RequestT, ResponseT]:
        """The queue of the present connection.

        Raises:
            PeerGone: there is no connection.
        """
        if self._link is None or self._link.queue is None:
            raise PeerGone(f"{self.nodename} is not connected")
        return self._link.queue

    @property
    def foreign(self) -> ForeignPages:
        """The frontend's pages, mapped on first use; of the present connection.

        Raises:
            PeerGone: there is no connection.
        """
        if self._link is None or self._link.foreign is None:
            raise PeerGone(f"{self.nodename} is not connected")
        return self._link.foreign

    async def announce(self, nodes: Mapping[str, NodeValue]) -> None:
        """Tells a connected frontend that nodes changed, such as a disk's size; its `resize` is called."""
        if self.state == XenbusState.Connected:
            # Writing the state again fires the frontend's watch, as Linux's xen-blkback does it.
            await self._publish(XenbusState.Connected, nodes)

    # The control task.

    def _is_ours(self, otherend: str | None, state: str | None) -> bool:
        return otherend == self.otherend

    async def _advance(self) -> None:
        waiting = self.state in (XenbusState.InitWait, XenbusState.Initialised)
        await self._look_over(waiting and self._heard)
        if not await self._is_complete():
            return
        own = self._own
        target = self._check_otherend(own["frontend"], own["frontend-id"])
        if target != (self.otherend, self.otherend_id):
            if self.otherend:
                raise ProtocolError(f"the frontend of {self.nodename} changed from {self.otherend} to {target[0]}")
            self.otherend, self.otherend_id = target
            self._move(XenbusState.Initialising)
            self._watch_otherend()
        if self.state == XenbusState.Closed and own["state"] == str(int(XenbusState.Closing)):
            # The toolstack asks for what has happened already.
            await self._publish(XenbusState.Closed)
        frontend, online = self._other_state(), own["online"] != "0"
        if backend_action(self.state, frontend, online=online) is BackendAction.CONNECT and len(self._raw) == 1:
            # It was ready before us.
            self._raw_changed = True
            await self._look_over(True)
            frontend = self._other_state()
        while await self._act(backend_action(self.state, frontend, online=online)):
            pass

    async def _look_over(self, everything: bool) -> None:
        """Looks at the frontend's state, or at all that it tells; then it probably is to be connected."""
        names = frontend_nodes(self.protocol) if everything else ()
        await self._look(("state", *names), ahead=everything)

    def _hear(self) -> None:
        self._heard = True
        super()._hear()

    async def _act(self, action: BackendAction) -> bool:
        """Takes one step; returns whether there may be another with what was read."""
        if action is BackendAction.OFFER:
            await self._offer()
            return False
        if action is BackendAction.CONNECT:
            await self._connect()
            return False
        if action is BackendAction.CLOSING:
            await self._publish(XenbusState.Closing)
        elif action is BackendAction.CLOSE:
            await self._disconnect()
            await self._publish(XenbusState.Closed)
        return action is not BackendAction.WAIT

    async def _offer(self) -> None:
        """Publishes what it can do; InitWait."""
        await self._disconnect()
        nodes: dict[str, NodeValue] = {"ring-layout": " ".join(self.ring_layouts)}
        if self.max_ring_page_order:
            nodes["max-ring-page-order"] = self.max_ring_page_order
        self._began = True
        extra = await self.setup() or {}
        await self._publish(XenbusState.InitWait, {**nodes, **extra})
        # The frontend may have been waiting for this, with its own part done already.
        self._heard = False
        self._raw_changed = True
        self._bell.ring()

    async def _connect(self) -> None:
        """Maps the ring, binds the event channel, begins to serve; Connected."""
        peer, raw = self.otherend_id, self._raw
        self.peer = parse_features(self.protocol, "frontend", raw, peer)
        choice = accept_ring(raw, self.ring_layouts, self.max_ring_page_order, peer)
        names = ring_ref_names(choice, raw)
        texts = await self.read_otherend(*names) if choice.page_order else raw
        grefs = [parse_gref(name, texts[name], peer) for name in names]
        port = parse_port(raw["event-channel"], peer)
        await self._capture()
        link = self._link = _Link()
        link.mapping = self.domain.grants.map(peer, grefs)
        pages = link.mapping.contiguous
        if pages is None:
            raise ProtocolError(f"{', '.join(names)} are not consecutive pages of one window", peer)
        ring = BackRing(
            pages,
            choice.layout,
            self.protocol.request_size,
            self.protocol.response_size,
            entry_size=self.protocol.entry_size,
            domid=peer,
            recorder=self.domain.recorder,
            name=self.nodename,
        )
        link.channel = self.domain.events.bind(peer, port)
        link.queue = BackQueue(ring, link.channel, self.protocol, budget=self.budget)
        link.foreign = ForeignPages(self.domain, peer)
        extra = await self.connect()
        link.serving = True
        self._nursery.start_soon(self._serve, link, link.queue)
        await self._publish(XenbusState.Connected, extra)

    async def _serve(self, link: _Link, queue: BackQueue[RequestT, ResponseT]) -> None:
        try:
            with link.scope:
                await self.serve(queue)
                self._fail(PeerGone(f"{type(self).__name__}.serve has ended"))
        except Exception as error:
            self._fail(innermost(error))
        finally:
            link.ended.set()

    async def _disconnect(self) -> None:
        link = self._link
        began, self._began = self._began, False
        with trio.CancelScope(shield=True):
            if link is not None and link.serving:
                link.scope.cancel()
                await link.ended.wait()
            if began:
                await self._call_disconnect()
        self._link = None
        if link is None:
            return
        if link.queue is not None:
            link.queue.close()
        if link.foreign is not None:
            link.foreign.close()
        if link.channel is not None:
            link.channel.close()
        if link.mapping is not None:
            link.mapping.unmap()

    async def _lose(self, reason: Exception) -> None:
        if self.state in (XenbusState.Closing, XenbusState.Closed):
            return
        self.log.info("%s", reason)
        await self._disconnect()
        await self._publish(XenbusState.Closed)

    async def _abandon(self, reason: Exception) -> None:
        await self._disconnect()
