"""A block backend that dies where it is told to: in the middle of requests, and of the handshake.

The first argument of its domain names the plan (see `fate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.fate import Fate
from xenlike.abi.driver import Driver
from xenlike.backends.block import BlockBack
from xenlike.io.blk import BLK
from xenlike.xenbus import BackQueue, XenbusState

if TYPE_CHECKING:
    from xenlike.xenbus.negotiate import NodeValue

MORTAL = Driver("vbd", BLK, "xenlike.frontends.block:BlockFront", f"{__name__}:MortalBack")

REQUEST_PLACES = ("taken", "done", "pushed", "kicked", "aside")
"""With requests in private memory, carried out, answered, the frontend notified; or anywhere near there."""
HANDSHAKE_PLACES = ("setup", "before InitWait", "after InitWait", "connect", "before Connected", "after Connected")


_fates: list[Fate] = []


class MortalBack(BlockBack):
    """Serves a disk until its process's fate."""

    @property
    def fate(self) -> Fate:
        if not _fates:
            # What `Domain` has and drivers do not need: the toolstack's words.
            config: Mapping[str, Any] = self.domain.config  # type: ignore[attr-defined]
            _fates.append(Fate(Path(config["args"][0])))
        return _fates[0]

    async def setup(self) -> Mapping[str, NodeValue]:
        self.fate.pass_by("setup")
        return await super().setup()

    async def connect(self) -> Mapping[str, NodeValue]:
        self.fate.pass_by("connect")
        return await super().connect()

    async def _publish(self, new: XenbusState, nodes: Mapping[str, NodeValue] | None = None) -> bool:
        self.fate.pass_by(f"before {new.name}")
        written = await super()._publish(new, nodes)
        self.fate.pass_by(f"after {new.name}")
        return written

    async def serve(self, queue: BackQueue) -> None:
        fate, respond_raw, kick = self.fate, queue.respond_raw, queue.kick
        fresh = 0

        def respond_and_pass(entries: bytes, count: int) -> None:
            nonlocal fresh
            respond_raw(entries, count)
            fate.pass_by("pushed", count)
            fresh = count

        def kick_and_pass() -> None:
            nonlocal fresh
            kick()
            if fresh:
                fate.pass_by("kicked", fresh)
                fresh = 0

        queue.respond_raw = respond_and_pass  # type: ignore[method-assign, assignment]
        queue.kick = kick_and_pass  # type: ignore[method-assign]
        await super().serve(queue)

    async def _carry_out(self, group: Any) -> bytes:
        self.fate.pass_by("taken", len(group))
        self.fate.pass_aside(len(group))
        responses = await super()._carry_out(group)
        self.fate.pass_by("done", len(group))
        return responses
