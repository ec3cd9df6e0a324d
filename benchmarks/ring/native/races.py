"""What is run: a contestant, what it does, the size of everything, and how an end waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xenlike.benchmarks.ring.native.programs import Contestant
from xenlike.errors import MachineError

Mode = Literal["reqrsp", "roundtrip", "oneway"]
Wait = Literal["poll", "adaptive", "sleep"]

ENTRIES = (8, 16, 64, 112, 128)
SLOTS = (32, 64, 128, 256, 1024)
BATCHES = (1, 8, 32, 256)

MOST_BYTES = 4 << 20

AGAIN = "ring.h, once more"
"""The A/A control: the same configuration under another name."""

_MODES = {"reqrsp": "request/response", "roundtrip": "round trip", "oneway": "one way"}
_WAITS = {"poll": "polled", "adaptive": "events, awake", "sleep": "events, asleep"}


@dataclass(frozen=True, slots=True)
class Race:
    """One configuration.

    Attributes:
        contestant: who.
        mode: `reqrsp`, as many requests in flight as there are slots; `roundtrip`, one; `oneway`, entries only.
        entry: bytes of an entry.
        slots: of the ring.
        batch: entries that are published at once.
        wait: what an end with nothing to do does: `poll`, spin and then sleep (`adaptive`), or `sleep` at once.
        name: instead of the contestant's, for the same configuration a second time.
    """

    contestant: Contestant
    mode: Mode
    entry: int = 64
    slots: int = 32
    batch: int = 8
    wait: Wait = "poll"
    name: str = ""

    @property
    def course(self) -> str:
        """Everything but who, as tables have it."""
        push = "" if self.mode == "roundtrip" else f", {self.batch} at a time"
        return f"{_MODES[self.mode]}, {self.entry} B x {self.slots}{push}, {_WAITS[self.wait]}"

    @property
    def who(self) -> str:
        """The contestant, as tables have it."""
        return self.name or self.contestant.name

    def as_json(self) -> dict[str, object]:
        """Returns it for scripts."""
        return {
            "contestant": self.who,
            "mode": self.mode,
            "entry": self.entry,
            "slots": self.slots,
            "batch": self.batch,
            "wait": self.wait,
        }


def check(entry: int, slots: int, batch: int) -> None:
    """Refuses sizes that no ring can have.

    Raises:
        MachineError: which, and what would do.
    """
    if entry < 8 or entry % 8:
        raise MachineError(f"an entry of {entry} B: entries are compared word by word; take a multiple of 8")
    if slots < 1 or slots & (slots - 1):
        raise MachineError(f"a ring of {slots} entries: their number is a power of two, such as 32")
    if entry > 4096 or entry * slots > MOST_BYTES // 2:
        raise MachineError(
            f"{slots} entries of {entry} B are more than a ring holds: at most 4096 B each, 2 MiB in all"
        )
    if batch < 1:
        raise MachineError(f"a batch of {batch} moves nothing: take 1 or more")
    if batch > slots:
        raise MachineError(f"a batch of {batch} never fits into a ring of {slots}: take {slots} or less")
