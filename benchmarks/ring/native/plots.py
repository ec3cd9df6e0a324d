"""Pictures for slides and documents; matplotlib is an extra (`pip install xenlike[plot]`)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenlike.benchmarks.runner import check_writable
from xenlike.errors import MachineError

if TYPE_CHECKING:
    from xenlike.benchmarks.ring.native.races import Race
    from xenlike.benchmarks.ring.native.results import Results
    from xenlike.benchmarks.ring.native.thrash import Thrash

COLORS = ("#9aa0a6", "#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")


def pyplot() -> Any:
    """Returns matplotlib's pyplot for pictures in files.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise MachineError("a plot needs matplotlib: pip install 'xenlike[plot]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def check(path: Path) -> None:
    """Refuses a picture that could not be drawn in the end, before anything is measured.

    Raises:
        MachineError: matplotlib is missing, or the file cannot be written.
    """
    pyplot()
    check_writable(path)


def _bars(axis: Any, names: Sequence[str], samples: Sequence[Sequence[float]], colors: Sequence[str]) -> None:
    """One horizontal bar each, with the range of its samples."""
    places = range(len(names))
    middles = [statistics.median(values) for values in samples]
    low = [middle - min(values) for middle, values in zip(middles, samples, strict=True)]
    high = [max(values) - middle for middle, values in zip(middles, samples, strict=True)]
    axis.barh(places, middles, xerr=[low, high], color=colors, error_kw={"elinewidth": 0.8, "ecolor": "#444444"})
    axis.set_yticks(places, names, fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def plot_thrash(thrash: Thrash, path: Path) -> None:
    """Draws the cache-thrash experiment: one panel for each entry size and batch."""
    from xenlike.benchmarks.ring.native.thrash import BATCHES, ENTRIES, FORMS

    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.2), sharey=True)
    rows = list(product(FORMS, (False, True)))
    names = [form + (" + fence" if fence else "") for form, fence in rows]
    colors = [COLORS[number] for number in range(len(FORMS)) for _ in (False, True)]
    for axis, (entry, batch) in zip(axes.flat, product(ENTRIES, BATCHES), strict=True):
        samples = [thrash.rates((form, fence, entry, batch)) for form, fence in rows]
        _bars(axis, names, samples, colors)
        # the panels share one axis
        axis.yaxis.set_inverted(True)
        axis.set_title(f"{entry} B an entry, {'one' if batch == 1 else batch} at a time", fontsize=10)
        axis.set_xlabel("M entries/s", fontsize=8)
    figure.suptitle("Cache lines are what a ring costs: one producer, one consumer, 128 slots", fontsize=12)
    figure.text(
        0.5,
        0.005,
        f"{thrash.where['cpu']}, one line there and back {thrash.line_ns:.0f} ns; same: both indices in one line; "
        "guarded: a line each; shadow: the other's index read only when needed; tag: no indices",
        ha="center",
        fontsize=7.5,
    )
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_rings(results: Results, races: Sequence[Race], path: Path, caption: str) -> None:
    """Draws the main courses: one panel for each, a bar for each contestant."""
    courses: dict[str, list[Race]] = {}
    for race in races:
        if results.samples(race):
            courses.setdefault(race.course, []).append(race)
    if not courses:
        return
    plt = pyplot()
    figure, axes = plt.subplots(
        (len(courses) + 1) // 2, 2, figsize=(12, 2.1 * ((len(courses) + 1) // 2)), squeeze=False
    )
    for axis in axes.flat[len(courses) :]:
        axis.set_visible(False)
    for axis, (course, field) in zip(axes.flat, courses.items(), strict=False):
        trip = field[0].mode == "roundtrip"
        samples = [[1e9 / one.rate if trip else one.rate / 1e6 for one in results.samples(race)] for race in field]
        colors = [COLORS[3] if race.contestant.ours else COLORS[0] for race in field]
        _bars(axis, [race.who for race in field], samples, colors)
        axis.yaxis.set_inverted(True)
        axis.set_title(course, fontsize=9)
        axis.set_xlabel("ns, less is better" if trip else "M/s", fontsize=8)
    figure.text(0.5, 0.003, caption, ha="center", fontsize=7.5)
    figure.tight_layout(rect=(0, 0.012, 1, 1))
    figure.savefig(path, dpi=140)
    plt.close(figure)
