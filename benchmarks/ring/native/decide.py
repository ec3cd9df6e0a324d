"""Which layout is the better one, for which size: what the matrix says."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import product

from xenlike.benchmarks.ring.native.programs import CACHELINE, RING_H, XEN
from xenlike.benchmarks.ring.native.races import AGAIN, BATCHES, ENTRIES, SLOTS, Race, Wait
from xenlike.benchmarks.ring.native.results import Results

WAITS: tuple[Wait, ...] = ("poll", "adaptive")
WORTH_IT = 1.05
"""Of Xen's own layout, over all batches and waits, or nobody should leave it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout for one size.

    Ratios are means over all batches, polled and with events: a single cell of the matrix is known no better than to
    some 15 %, as `noise` shows.

    Attributes:
        entry, slots: the size.
        layout: `xen` or `cacheline`.
        gain: how many times as fast the cacheline layout was as Xen's.
        speed: how many times as fast the chosen layout was as ring.h.
        worst: the same in the cell where it was least.
        noise: how many times as fast ring.h was as itself, in the cell where that was least; None if not measured.
    """

    entry: int
    slots: int
    layout: str
    gain: float
    speed: float
    worst: float
    noise: float | None


def decide(results: Results) -> list[Choice]:
    """Returns a choice for every size that was measured."""
    found = []
    for entry, slots in product(ENTRIES, SLOTS):
        cells = [
            Race(RING_H, "reqrsp", entry, slots, batch, wait)
            for batch, wait in product(BATCHES, WAITS)
            if batch <= slots
        ]
        gains = _ratios(results, cells, CACHELINE.name, XEN.name)
        speeds = {name: _ratios(results, cells, name, RING_H.name) for name in (XEN.name, CACHELINE.name)}
        if not gains or not all(speeds.values()):
            continue
        gain = statistics.geometric_mean(gains)
        layout = CACHELINE.name if gain >= WORTH_IT else XEN.name
        noise = min(_ratios(results, cells, AGAIN, RING_H.name), default=None)
        chosen = speeds[layout]
        found.append(Choice(entry, slots, layout, gain, statistics.geometric_mean(chosen), min(chosen), noise))
    return found


def _ratios(results: Results, cells: list[Race], one: str, other: str) -> list[float]:
    """The median ratio of each cell of a size; `AGAIN` stands for ring.h's control."""
    contestants = {XEN.name: XEN, CACHELINE.name: CACHELINE, RING_H.name: RING_H, AGAIN: RING_H}

    def race(cell: Race, name: str) -> Race:
        again = AGAIN if name == AGAIN else ""
        return Race(contestants[name], cell.mode, cell.entry, cell.slots, cell.batch, cell.wait, again)

    found = [results.ratios(race(cell, one), race(cell, other)) for cell in cells]
    return [statistics.median(ratios) for ratios in found if ratios]


def as_text(choices: list[Choice]) -> str:
    """Returns what was found, for the reader."""
    if not choices:
        return "layout for request rings: no size was measured whole"
    parts = []
    for layout in (CACHELINE.name, XEN.name):
        sizes = [f"{one.entry} B x {one.slots} ({one.gain:.2f}x)" for one in choices if one.layout == layout]
        if sizes:
            parts.append(f"{layout} at {', '.join(sizes)}")
    worst = min(choices, key=lambda one: one.worst)
    noise = min((one.noise for one in choices if one.noise is not None), default=None)
    beside = "" if noise is None else f"; ring.h against itself comes down to {noise:.2f}x"
    return (
        f"layout for request rings (cacheline by Xen's): {'; '.join(parts)}. The slowest cell of a chosen layout is "
        f"{worst.worst:.2f}x of ring.h, at {worst.entry} B x {worst.slots}{beside}"
    )
