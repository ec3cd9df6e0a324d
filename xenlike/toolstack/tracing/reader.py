"""Reads one domain's recorder from a position on, and the mask in its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from xenlike import _core
from xenlike.abi import recorder as abi
from xenlike.toolstack.tracing.decode import RingPlace, ring_places

if TYPE_CHECKING:
    from typing_extensions import Buffer

_HEAD = abi.RecorderHead.__layout__
_AT_ONCE = 2048


class Chunk(msgspec.Struct, frozen=True):
    """Records that were read at once, and what is needed to understand them.

    Attributes:
        domid: whose.
        records: 32 bytes each.
        lost: how many were overwritten before these.
        clock: what their times count, `RecorderHead.clock`.
        places: the rings, if they are not those of the chunk before; else None.
    """

    domid: int
    records: bytes
    lost: int = 0
    clock: int = 0
    places: list[RingPlace] | None = None


class RecorderReader:
    """Reads what a domain records.

    Args:
        domid: whose recorder it is.
        memory: the recorder.
        from_now: leave out what is there already.
    """

    def __init__(self, domid: int, memory: Buffer, *, from_now: bool = False) -> None:
        self.domid = domid
        self._memory = memoryview(memory)
        self._position = _word(self._memory, "prod", 8) if from_now else 0
        self._places: dict[int, RingPlace] | None = None

    def read(self, limit: int = _AT_ONCE, *, everything: bool = False) -> Chunk:
        """Reads on.

        Args:
            limit: at most so many records.
            everything: also step over what is incomplete, since its writer is gone.
        """
        records, self._position, lost = _core.read_trace(self._memory, self._position, limit, everything=everything)
        new_places = None
        # After the records: whatever ring they are about has its place by now.
        if self._places is None or records or lost:
            places = ring_places(self._memory)
            if places != self._places:
                self._places, new_places = places, list(places.values())
        return Chunk(self.domid, records, lost, _word(self._memory, "clock", 4), new_places)

    @property
    def mask(self) -> int:
        """The classes that are recorded."""
        return _word(self._memory, "mask", 4)

    def ask(self, add: int = 0, drop: int = 0) -> None:
        """Has classes recorded, and others not any more."""
        _core.ask_trace(self._memory, add, drop)


def _word(memory: memoryview, name: str, size: int) -> int:
    at = _HEAD.fields[name].offset
    return int.from_bytes(memory[at : at + size], "little")
