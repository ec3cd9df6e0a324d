"""`xenlike lab cache-thrash`: what each idea in a ring is worth, by itself, on this machine."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from xenlike.benchmarks.progress import progress_bar
from xenlike.benchmarks.ring.native.programs import Contestant, workshop
from xenlike.benchmarks.ring.native.races import Race
from xenlike.benchmarks.ring.native.results import DISTURBED, Results, Sample
from xenlike.benchmarks.ring.pair import two_cpus
from xenlike.benchmarks.surroundings import surroundings
from xenlike.errors import MachineError

FORMS = {
    "same": "indices in one line",
    "guarded": "indices in lines of their own",
    "shadow": "... and the other's looked at only when it must be",
    "tag": "no indices, a tag in each slot",
}
ENTRIES = (8, 64)
BATCHES = (1, 32)
SLOTS = 128

_AGAIN = "indices in one line, once more"

Key = tuple[str, bool, int, int]
"""Form, fence, bytes of an entry, entries at a time."""


def _races() -> dict[Key, Race]:
    found = {}
    for entry, batch, fence, (number, form) in product(ENTRIES, BATCHES, (False, True), enumerate(FORMS)):
        who = Contestant(form, "thrash.c", ("oneway",), (f"-DFORM={number}", f"-DFENCE={int(fence)}"))
        found[form, fence, entry, batch] = Race(who, "oneway", entry, SLOTS, batch)
    return found


class Thrash:
    """What came out.

    Attributes:
        samples: of each configuration, round by round.
        control: the first form's, measured a second time under another name, by entry size and batch.
        where: the machine, for the reader.
    """

    def __init__(self) -> None:
        self.samples: dict[Key, list[Sample]] = {}
        self.control: dict[tuple[int, int], list[Sample]] = {}
        self.where = surroundings()

    def add(self, samples: dict[Key, Sample], again: dict[tuple[int, int], Sample]) -> None:
        """Takes one round."""
        for key, sample in samples.items():
            self.samples.setdefault(key, []).append(sample)
        for place, sample in again.items():
            self.control.setdefault(place, []).append(sample)

    @property
    def placement(self) -> str:
        """Where the two CPUs were to each other most of the time, `near` or `far`; only that is shown."""
        seen = Counter(sample.placement for samples in self.samples.values() for sample in samples)
        del seen[DISTURBED]
        return seen.most_common(1)[0][0] if seen else DISTURBED

    def rates(self, key: Key | tuple[int, int]) -> list[float]:
        """Returns M entries/s of a configuration, or of the control; those of that placement, if there are."""
        samples = self.control[key] if len(key) == 2 else self.samples[key]
        return [one.rate / 1e6 for one in samples if one.placement == self.placement] or [
            one.rate / 1e6 for one in samples
        ]

    def median(self, form: str, entry: int, batch: int, *, fence: bool = False) -> float:
        """Returns the middle rate of a configuration in M entries/s."""
        return statistics.median(self.rates((form, fence, entry, batch)))

    @property
    def line_ns(self) -> float:
        """One cache line, there and back."""
        lines = [
            sum(one.line_ns) / 2 for many in self.samples.values() for one in many if one.placement == self.placement
        ]
        return statistics.median(lines or [0.0])


def measure(rounds: int, seconds: float) -> Thrash:
    """Runs the experiment.

    Args:
        rounds: in each of which every configuration runs once.
        seconds: of one run.

    Raises:
        MachineError: there is one CPU only, or no compiler.
        KeyboardInterrupt: it was interrupted before the first round was complete; later, what there is comes back.
    """
    cpus = two_cpus()
    races = _races()
    again = {
        (entry, batch): Race(races["same", False, entry, batch].contestant, "oneway", entry, SLOTS, batch, name=_AGAIN)
        for entry, batch in product(ENTRIES, BATCHES)
    }
    thrash = Thrash()
    wanted = [(race.contestant, race.entry) for race in races.values()]
    with workshop() as programs, progress_bar() as progress:
        task = progress.add_task("compiling", total=len(wanted))
        for _ in programs.make(wanted):
            progress.advance(task)
        for one in wanted:
            if why := programs.missing(*one):
                raise MachineError(why)
        order = [*races.values(), *again.values()]
        progress.update(task, description="moving entries", total=rounds * len(order), completed=0)
        results = Results()
        try:
            for _ in range(rounds):
                results.take(programs, order, cpus, seconds, 1, lambda: progress.advance(task))
                taken = results.rounds[-1]
                thrash.add(
                    {key: taken[race] for key, race in races.items()},
                    {place: taken[race] for place, race in again.items()},
                )
        except KeyboardInterrupt:
            if not thrash.samples:
                raise
    return thrash


def explain(thrash: Thrash) -> str:
    """Returns the paragraph that goes with the picture, with this run's figures in it."""

    def times(form: str, entry: int, batch: int) -> str:
        return f"{thrash.median(form, entry, batch) / thrash.median('same', entry, batch):.1f}x"

    def fence(entry: int, batch: int) -> str:
        with_it = thrash.median("shadow", entry, batch, fence=True)
        return f"{thrash.median('shadow', entry, batch) / with_it:.1f}x"

    spread = max(
        abs(statistics.median(thrash.rates(place)) / thrash.median("same", *place) - 1) for place in thrash.control
    )
    return (
        f"A cache line that one CPU writes and the other reads takes {thrash.line_ns:.0f} ns there and back, and every "
        "line that both touch pays it. With both indices in one line, each side's store takes the line away from the "
        "other, which needs it for its own: the line thrashes. At 8 bytes, one at a time, a line for each index gives "
        f"{times('guarded', 8, 1)} of that; a shadow copy of the other's index, looked at again only when it says full "
        f"or empty, {times('shadow', 8, 1)}; a tag in each slot, which needs no index at all, {times('tag', 8, 1)}. "
        "With 64 bytes the entry's own line has to travel whatever the indices do: shadows give "
        f"{times('shadow', 64, 1)}. 32 at a time the indices are touched so rarely that their place matters little: "
        f"{times('shadow', 64, 32)} for shadows, {times('tag', 64, 32)} for tags, which cost a word in every slot. A "
        "full fence after every publication, which a ring needs that asks “must I wake you?”, has the producer wait "
        f"until its line has arrived: without it shadows are {fence(64, 1)} as fast one at a time and {fence(64, 32)} "
        f"with 32. The first form, measured twice, differed by up to {100 * spread:.0f} %: smaller differences mean "
        "nothing here."
    )


def show(thrash: Thrash) -> None:
    """Prints the table and the paragraph."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 130
    table = Table(title=f"M entries/s, median (range); the two CPUs {thrash.placement}", show_edge=False)
    table.add_column("", overflow="fold")
    columns = list(product(ENTRIES, BATCHES))
    for entry, batch in columns:
        table.add_column(f"{entry} B, {batch} at a time", justify="right", no_wrap=True)
    for fence, form in product((False, True), FORMS):
        cells = [_cell(thrash.rates((form, fence, entry, batch))) for entry, batch in columns]
        table.add_row(FORMS[form] + (", fence" if fence else ""), *cells)
    table.add_row(f"[dim]{_AGAIN}[/]", *(f"[dim]{_cell(thrash.rates(place))}[/]" for place in columns))
    console.print(table)
    console.print()
    console.print(explain(thrash), highlight=False)


def _cell(rates: list[float]) -> str:
    return f"{statistics.median(rates):.1f} ({min(rates):.1f}-{max(rates):.1f})"


def write_json(thrash: Thrash, path: Path) -> None:
    """Writes everything for scripts."""
    rows = [
        {"form": form, "fence": fence, "entry": entry, "batch": batch, "slots": SLOTS, "unit": "entries/s"}
        | {"median": thrash.median(form, entry, batch, fence=fence) * 1e6}
        | {"samples": [{"rate": one.rate, "placement": one.placement} for one in samples]}
        for (form, fence, entry, batch), samples in thrash.samples.items()
    ]
    document = {
        "experiment": "cache-thrash",
        "environment": thrash.where,
        "placement": thrash.placement,
        "line_ns": thrash.line_ns,
        "rows": rows,
        "explanation": explain(thrash),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
