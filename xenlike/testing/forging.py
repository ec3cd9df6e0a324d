"""Honest requests with one lie in them, over a connection that is otherwise in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from xenlike.errors import PeerGone, ProtocolError
from xenlike.testing.law import Broken, Inapplicable
from xenlike.testing.wellformed import Overheard, in_use, requests_of, status_of

if TYPE_CHECKING:
    from typing import Self

    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback, Plugged
    from xenlike.testing.wellformed import Place


@dataclass
class Answer:
    """What became of a forged request.

    Attributes:
        status: the response's; None where its protocol has none, or the connection ended.
        ended: whether the connection did.
        touched: pages of the guest that changed although no request named them, in words.
    """

    status: int | None
    ended: bool
    touched: str = ""

    @property
    def refused(self) -> bool:
        """Whether it was refused in one of the ways that are in order."""
        return self.ended or (self.status is not None and self.status < 0)

    def __str__(self) -> str:
        return "without a status" if self.status is None else f"with status {self.status}"


class Forger:
    """Overhears honest requests of a device, and sends them again with one number changed.

    Args:
        case: the law's.
        machine: a fresh one.
    """

    device: Plugged

    def __init__(self, case: Case, machine: Loopback) -> None:
        self._case = case
        self._machine = machine
        self._entries: list[bytes] = []

    async def __aenter__(self) -> Self:
        self._case.step("attach a device, and overhear its honest requests")
        self.device = await self._case.attach(self._machine)
        await self._overhear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def _overhear(self) -> None:
        overheard = Overheard(self.device.frontend)
        for _ in range(4):
            await self._case.exercise(self.device)
        await self._case.settle()
        self._entries = overheard.entries
        if not self._entries:
            raise Inapplicable("its operations send no requests through the frontend's queue")

    def nodes(self) -> dict[str, object]:
        """Returns the nodes of both ends, by name."""
        defaults = {node.name: node.default for node in self._case.protocol.nodes}
        return {**defaults, **self._case.front_nodes, **self.device.frontend.peer}

    def uses(self, place: Place) -> bool:
        """Says whether an honest request has anything there."""
        return any(in_use(self._case.protocol, entry, place) for entry in self._entries)

    async def send(self, place: Place, value: int) -> Answer:
        """Sends an honest request with one number changed; one in which it matters, as far as that can be seen."""
        used = [entry for entry in self._entries if in_use(self._case.protocol, entry, place)]
        honest = next((entry for entry in used if place.get(entry)), used[0])
        entry = bytearray(honest)
        place.put(entry, value)
        before = self._pages(entry)
        with trio.move_on_after(100) as scope:
            try:
                (response,) = await self.device.frontend.queue.submit_raw(bytes(entry), 1)
            except (PeerGone, ProtocolError):
                await self._case.settle()
                await self._mend()
                return Answer(None, ended=True)
        if scope.cancelled_caught:
            raise Broken(f"a request with {place.name} = {value} was never answered")
        return Answer(status_of(self._case.protocol, response), ended=False, touched=self._changed(before))

    def _pages(self, entry: bytearray) -> dict[int, bytes]:
        """Copies the guest's pages that no reference in a request names, by frame; not the ring's."""
        domain = self._machine.guest
        named = {place.get(entry) for place in requests_of(self._case.protocol) if place.is_gref}
        link = self.device.frontend._link
        skipped = {domain.grants.entries[gref].pfn for gref in named if gref in domain.grants.entries}
        skipped |= {domain.grants.entries[gref].pfn for gref in link.ring_pages.grefs}
        return {
            window.pfn + index: bytes(window.page(index))
            for window in domain.memory.windows.values()
            for index in range(window.nr_pages)
            if window.pfn + index not in skipped
        }

    def _changed(self, before: dict[int, bytes]) -> str:
        for pfn, content in before.items():
            found = self._machine.guest.memory.find(pfn)
            if found is not None and bytes(found[0].page(found[1])) != content:
                return f"page {pfn:#x}, which the request does not name"
        return ""

    async def _mend(self) -> None:
        """Has the device attached again, and its requests overheard again: their grants are new."""
        await self._case.detach(self.device)
        self.device = await self._case.attach(self._machine)
        await self._overhear()
