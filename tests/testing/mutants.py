"""Drivers with one fault each: subclasses, or changes of what belongs to one object. Nothing shipped is changed."""

from __future__ import annotations

from typing import Any

import trio

from xenlike.backends.block import BlockBack
from xenlike.backends.echo import EchoBack
from xenlike.errors import XenlikeError
from xenlike.frontends.block import BlockFront
from xenlike.frontends.echo import EchoFront
from xenlike.io.blk import BLKIF_RSP_OKAY, BlkifResponse
from xenlike.io.echo import ECHOIF_RSP_OKAY, EchoRequest, EchoResponse
from xenlike.ring import BackRing

# Echo.


class NoBounds(EchoBack):
    """Does not check the size of a request."""

    async def handle(self, request):
        page = self.foreign.page(request.gref)
        page[: request.size] = bytes(page[: request.size]).upper()
        return EchoResponse(size=request.size)


class KeepsIds(EchoFront):
    """Does not clear an id when it was answered."""

    async def setup(self):
        class Sticky(list[Any]):
            def __setitem__(self, index, value):
                if value is not None:
                    super().__setitem__(index, value)

        self.queue._pending = Sticky(self.queue._pending)


class SkipsInitialised(EchoFront):
    """Says Connected where it should say Initialised."""

    async def _write_if_ours(self, writes):
        state = f"{self.nodename}/state"
        writes[state] = "4" if writes[state] == "3" else writes[state]
        return await super()._write_if_ours(writes)


class NeverKicks(EchoBack):
    """Publishes responses, and tells nobody."""

    async def connect(self):
        self.queue.kick = lambda: None  # type: ignore[method-assign]


class KicksFirst(EchoBack):
    """Notifies before it pushes."""

    async def connect(self):
        queue = self.queue
        kick, queue.kick = queue.kick, lambda: None  # type: ignore[method-assign]

        def respond(responses):
            kick()
            queue.respond_raw(b"".join(response.pack() for response in responses), len(responses))

        queue.respond = respond  # type: ignore[method-assign]


class _Blind(BackRing):
    __slots__ = ()

    def arm(self):
        super().arm()
        return False


class SleepsAfterArm(EchoBack):
    """Does not look again when it has armed the ring."""

    async def connect(self):
        self.queue._ring.__class__ = _Blind


class Litters(EchoBack):
    """Writes a node beside its directory, and never removes it."""

    async def setup(self):
        await self.domain.store.write_many({"data/echo-version": "1"})
        return await super().setup()


class NeverUnmaps(EchoBack):
    """Keeps the pages of a frontend that has gone."""

    async def connect(self):
        self.foreign.close = lambda: None  # type: ignore[method-assign]


class AnswersTwice(EchoBack):
    """Responds twice to each request."""

    async def serve(self, queue):
        async for requests in queue:
            for request in requests:
                response = await self.handle(request)
                response.id = request.id
                queue.respond((response, response))


class LeaksOnReconnect(EchoBack):
    """Maps a page by hand in each connection, and unmaps it only when the device goes."""

    async def setup(self):
        self.fresh = True
        self.kept = getattr(self, "kept", [])
        return await super().setup()

    async def handle(self, request):
        if self.fresh:
            self.kept.append(self.domain.grants.map(self.otherend_id, [request.gref]))
            self.fresh = False
        return await super().handle(request)

    async def run(self):
        try:
            await super().run()
        finally:
            for mapping in self.kept:
                mapping.unmap()


class BelievesNodes(EchoFront):
    """Takes the backend's word for how much fits into a page of its own."""

    @property
    def max_size(self):
        return self.peer["max-size"]


class HangsOnDetach(EchoBack):
    """Waits for ever when it is to let go."""

    async def disconnect(self):
        await trio.sleep_forever()


class Swallows(EchoBack):
    """Answers that all went well when it did not."""

    async def handle(self, request):
        try:
            return await super().handle(request)
        except XenlikeError:
            return EchoResponse(size=request.size, status=ECHOIF_RSP_OKAY)


class NeverSleeps(EchoBack):
    """Polls for ever."""

    async def serve(self, queue):
        while True:
            await trio.lowlevel.checkpoint()
            queue._left = queue._budget
            entries = queue.pop_raw()
            if entries:
                for request in EchoRequest.unpack_many(entries, len(entries) // self.protocol.request_size):
                    response = await self.handle(request)
                    response.id = request.id
                    queue.respond((response,))


# Block.


class NoSegmentBounds(BlockBack):
    """Takes any sector of a page for one that is there."""

    def _check(self, values):
        first = [values[0], values[1], values[2], values[3], values[4]]
        segments = [
            (gref, min(start, 7), min(end, 7))
            for gref, start, end in zip(values[5::3], values[6::3], values[7::3], strict=True)
        ]
        return super()._check((*first, *(number for segment in segments for number in segment)))


class LosesIds(BlockBack):
    """Answers with an id of its own."""

    async def _carry_out(self, group):
        size = BlkifResponse.__layout__.size
        packed = await super()._carry_out(group)
        found = [BlkifResponse.unpack(packed, at) for at in range(0, len(packed), size)]
        return b"".join(BlkifResponse(0, response.operation, response.status).pack() for response in found)


class BlockNeverUnmaps(BlockBack):
    """Forgets its pages in the place of unmapping them."""

    async def disconnect(self):
        self._pages = None


class AssumesSectors(BlockFront):
    """Takes a disk without a size for one of a megabyte."""

    async def _connect(self):
        self._raw = {**self._raw, "sectors": self._raw.get("sectors") or "2048"}
        await super()._connect()


class ForgetsSectors(BlockBack):
    """Says Connected, and not how large the disk is."""

    async def connect(self):
        return {name: value for name, value in (await super().connect()).items() if name != "sectors"}


class BlockNeverKicks(BlockBack):
    """Publishes responses, and tells nobody."""

    async def connect(self):
        self.queue.kick = lambda: None  # type: ignore[method-assign]
        return await super().connect()


class BlockSwallows(BlockBack):
    """Answers that all went well when a page was not granted."""

    def _transfer(self, disk, job):
        return BLKIF_RSP_OKAY if job.buffers is None else super()._transfer(disk, job)
