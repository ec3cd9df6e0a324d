"""Which layout is the better one, for which size: what the matrix says."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import product

from xenlike.benchmarks.ring.native.programs import CACHELINE, RING_H, XEN, Contestant
from xenlike.benchmarks.ring.native.races import BATCHES, ENTRIES, SLOTS, Race, Wait
from xenlike.benchmarks.ring.native.results import Results

WAITS: tuple[Wait, ...] = ("poll", "adaptive")
NEVER_UNDER = 0.97
"""Of ring.h, at any batch and with either wait, or a layout is not chosen."""
WORTH_IT = 1.05
"""Of Xen's own layout, over all batches and waits, or nobody should leave it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout for one size.

    Attributes:
        entry, slots: the size.
        layout: `xen` or `cacheline`.
        gain: how many times as fast the cacheline layout was as Xen's, over all batches and both waits.
        worst: how many times as fast as ring.h the chosen layout was where it was slowest.
    """

    entry: int
    slots: int
    layout: str
    gain: float
    worst: float


def decide(results: Results) -> list[Choice]:
    """Returns a choice for every size that was measured whole."""
    found = []
    for entry, slots in product(ENTRIES, SLOTS):
        gains = _ratios(results, entry, slots, CACHELINE, XEN)
        if not gains:
            continue
        gain = statistics.geometric_mean(gains)
        worst = {who: min(_ratios(results, entry, slots, who, RING_H), default=0.0) for who in (XEN, CACHELINE)}
        better = gain >= WORTH_IT and worst[CACHELINE] >= NEVER_UNDER
        chosen = CACHELINE if better else XEN
        found.append(Choice(entry, slots, chosen.name, gain, worst[chosen]))
    return found


def _ratios(results: Results, entry: int, slots: int, one: Contestant, other: Contestant) -> list[float]:
    found = []
    for batch, wait in product(BATCHES, WAITS):
        ratios = results.ratios(
            Race(one, "reqrsp", entry, slots, batch, wait), Race(other, "reqrsp", entry, slots, batch, wait)
        )
        if ratios:
            found.append(statistics.median(ratios))
    return found


def as_text(choices: list[Choice]) -> str:
    """Returns one line for the reader."""
    cacheline = [f"{one.entry} B x {one.slots} ({one.gain:.2f}x)" for one in choices if one.layout == CACHELINE.name]
    if not cacheline:
        return "layout for request rings: Xen's own at every size; the cacheline layout gained nowhere"
    return f"layout for request rings: cacheline at {', '.join(cacheline)}; Xen's own at all other sizes"
