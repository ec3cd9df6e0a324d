"""More drivers with a fault, one for each law that `mutants` leaves out."""

from __future__ import annotations

import inspect
from functools import reduce

import trio

from xenlike.backends.block import BlockBack
from xenlike.backends.echo import EchoBack
from xenlike.errors import GrantDenied, NoSuchDevice, PeerGone, ProtocolError, XenlikeError
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import EchoRequest, EchoResponse
from xenlike.ring import FrontRing
from xenlike.xenbus import SharedPages, XenbusState
from xenlike.xenbus.state import FrontendAction


def spoil(thing: object, path: str, method: object) -> None:
    """Replaces a method of one object, of which the path tells."""
    *names, last = path.split(".")
    setattr(reduce(getattr, names, thing), last, method)


class OnePageForAll(EchoFront):
    """Does not wait until a page is free."""

    async def upper(self, text):
        await self.wait_connected()
        page = self.pages._free[0]
        page.data[: len(text)] = text
        await self.request(EchoRequest(gref=page.gref, size=len(text)))
        return bytes(page.data[: len(text)])


class OneCacheForAll(EchoBack):
    """Keeps pages by the number of the request, whosever they are."""

    cache: dict[int, memoryview] = {}  # noqa: RUF012 - the fault

    async def handle(self, request):
        page = self.cache.setdefault(request.id, self.foreign.page(request.gref))
        page[: request.size] = bytes(page[: request.size]).upper()
        return EchoResponse(size=request.size)


class NeedsInitWait(EchoFront):
    """Does not take a backend that is connected already."""

    async def _act(self, action):
        if action is FrontendAction.SETUP and self._raw["state"] != "2":
            return False
        return await super()._act(action)


class ReconnectsWhenTold(EchoFront):
    """Takes a repeated state for a new one."""

    async def _act(self, action):
        if action is FrontendAction.REFRESH:
            self.told += 1
            await self.write_nodes({"protocol": f"told {self.told} times"})
        return await super()._act(action)

    told = 0


class KeepsTheRing(EchoBack):
    """Never unmaps the ring."""

    async def connect(self):
        spoil(self._link, "mapping.unmap", lambda: None)


class OffersOnce(EchoBack):
    """Cannot begin again."""

    began = False

    async def setup(self):
        if self.began:
            raise RuntimeError("cannot begin again")
        self.began = True
        return await super().setup()


class ConnectsOnce(EchoFront):
    """Cannot connect to a second backend."""

    began = False

    async def setup(self):
        if self.began:
            raise RuntimeError("cannot connect again")
        self.began = True


class TakesNonsense(EchoFront):
    """Takes the default for whatever it does not understand."""

    async def _look(self, other, *, ahead=False):
        await super()._look(other, ahead=ahead)
        if not (self._raw.get("max-size") or "").isdigit():
            self._raw["max-size"] = "4096"


class TakesAnyProtocol(EchoBack):
    """Does not look at the layout of the requests."""

    async def _connect(self):
        self._raw["protocol"] = ""
        await super()._connect()


class NeedsPersistent(BlockBack):
    """Serves only guests that use their grants again."""

    async def connect(self):
        if not self.peer["feature-persistent"]:
            raise ProtocolError("I need persistent grants")
        return await super().connect()


class _Blind(FrontRing):
    __slots__ = ()

    def arm(self, ahead=1):
        super().arm(ahead)
        return False


class SleepsAfterArm(EchoFront):
    """Does not look again when it has armed the ring."""

    async def setup(self):
        self.queue._ring.__class__ = _Blind


class NeverCloses(EchoFront):
    """Does nothing when it is to be closed."""

    async def close(self):
        await trio.lowlevel.checkpoint()


class LeaksPages(EchoFront):
    """Allocates pages for each backend, and never gives them back."""

    async def setup(self):
        SharedPages(self.domain, self.otherend_id, 1)


class DoesNotDrain(EchoFront):
    """Is quiet before all is answered."""

    async def setup(self):
        spoil(self, "queue.drained", trio.lowlevel.checkpoint)


class NeverResumes(EchoFront):
    """Stays suspended."""

    async def revive(self):
        await trio.lowlevel.checkpoint()


class MakesAnswersUp(EchoFront):
    """Returns what it was given when its backend dies."""

    async def upper(self, text):
        await self.wait_connected()
        try:
            return await inspect.unwrap(EchoFront.upper)(self, text)
        except PeerGone:
            return b"?" + text


class KeepsPagesOfTheDead(EchoBack):
    """Keeps the pages of a guest that has died."""

    async def connect(self):
        spoil(self, "foreign.close", lambda: None)


class CannotBeCancelled(EchoFront):
    """Waits for its answer whatever its caller wants."""

    async def upper(self, text):
        with trio.CancelScope(shield=True):
            return await super().upper(text)


class NeverGivesUp(EchoFront):
    """Tries again, even when the device is gone."""

    async def upper(self, text):
        while True:
            try:
                return await super().upper(text)
            except XenlikeError:
                await trio.sleep(1)


class WaitsForItsGuest(EchoBack):
    """Does not offer anything before the frontend has done its part."""

    async def setup(self):
        if (await self.read_otherend("event-channel"))["event-channel"] is None:
            await trio.sleep_forever()


class LosesPatience(EchoFront):
    """Takes silence for an answer."""

    async def upper(self, text):
        with trio.move_on_after(0.001):
            return await super().upper(text)
        return text


class IgnoresBrokenRings(EchoBack):
    """Keeps a connection whose ring is broken."""

    async def serve(self, queue):
        try:
            await super().serve(queue)
        except ProtocolError:
            await trio.sleep_forever()


class IgnoresBrokenAnswers(EchoFront):
    """Keeps a connection whose responses are impossible."""

    async def setup(self):
        spoil(self, "queue._break", lambda error: None)


class BelievesAnswers(EchoFront):
    """Uses a number of the response without a look at it."""

    async def upper(self, text):
        await self.wait_connected()
        async with self.pages.take() as page:
            page.data[: len(text)] = text
            response = await self.request(EchoRequest(gref=page.gref, size=len(text)))
            page.data[response.size]
            return bytes(page.data[: len(text)])


class HangsOnBadGrants(EchoBack):
    """Waits for a grant that is not there."""

    async def handle(self, request):
        try:
            return await super().handle(request)
        except GrantDenied:
            await trio.sleep_forever()


class HatesEvents(EchoBack):
    """Gives a connection up because of events that come too early."""

    async def connect(self):
        def useless():
            raise ProtocolError("an event with nothing behind it")

        spoil(self, "queue._patience.useless", useless)


class ForgetsItsCallers(EchoFront):
    """Does not tell callers that the device was taken away."""

    async def upper(self, text):
        try:
            return await super().upper(text)
        except NoSuchDevice:
            await trio.sleep_forever()


class StopsTheOther(EchoBack):
    """Gives the newer of two devices the older one's place."""

    latest: StopsTheOther | None = None

    async def connect(self):
        if StopsTheOther.latest is not None and StopsTheOther.latest.state is XenbusState.Connected:
            StopsTheOther.latest._fail(ProtocolError("there is another one now"))
        StopsTheOther.latest = self
