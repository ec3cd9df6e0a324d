"""Runs one subject, shows what it has found, writes it down and compares it with the goals.

A subject is a module here with `measure(bench)`. It adds figures to the `Bench` as it goes, so that an
interrupted run still shows everything it has.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from xenlike.benchmarks.figures import Figure, Goal, GoalResult, compare
from xenlike.benchmarks.goals import GOALS
from xenlike.benchmarks.progress import progress_bar
from xenlike.benchmarks.surroundings import Meanwhile, surroundings
from xenlike.errors import MachineError

SUBJECTS = ("domains", "block", "ring", "idle", "trace")
PAGE_WIDTH = 130
"""Of a table that goes to a file, in characters."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        samples: of every figure that is a total or an average.
        forks: of the zygote.
        boots: of single guests, up to their first read.
        guests: that are started together.
        requests: of 4 KiB in one sample.
        sequential_mib: read in one sample.
        idle_guests: that are connected and do nothing.
        idle_s: how long they do nothing, in one sample.
        ring_s: how long the ring is driven in one sample.
        matrix: whether rings of every size are measured, too.
    """

    samples: int = 5
    forks: int = 100
    boots: int = 25
    guests: int = 100
    requests: int = 2000
    sequential_mib: int = 64
    idle_guests: int = 10
    idle_s: float = 10.0
    ring_s: float = 0.5
    matrix: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose of what only some subjects know.

    Attributes:
        peers: whether other projects' rings and queues are measured beside ours, where installed.
        plot: where a picture goes, if one is wanted.
        entry: bytes of an entry; None for the usual ones.
        slots: entries of a ring; None for the usual ones.
        batch: entries that are published at once; None for the usual ones.
        driver: which driver is measured, as `find_driver` takes it.
    """

    peers: bool = True
    plot: Path | None = None
    entry: int | None = None
    slots: int | None = None
    batch: int | None = None
    driver: str | None = None

    @property
    def chosen(self) -> bool:
        """Whether the user wants one configuration, not all."""
        return (self.entry, self.slots, self.batch) != (None, None, None)


FULL = Plan(matrix=True)
QUICK = Plan(samples=1, forks=10, boots=5, requests=500, sequential_mib=16, idle_s=2.0, ring_s=0.2)


class Bench:
    """What a subject is given: how much to measure, where to put the figures, how to show progress.

    Attributes:
        plan: how much.
        options: what else the user chose.
        figures: what was found so far.
        waived: goals that this run cannot judge, because what they compare with is not here or was not asked for.
        remarks: what a reader has to know, such as a peer that is not installed.
        attachments: tables for scripts only, by name.
    """

    def __init__(self, plan: Plan, progress: Progress, options: Options | None = None) -> None:
        self.plan = plan
        self.options = options or Options()
        self.figures: list[Figure] = []
        self.waived: set[str] = set()
        self.remarks: list[str] = []
        self.attachments: dict[str, object] = {}
        self._progress = progress

    def figure(self, name: str, unit: str, note: str = "") -> Figure:
        """Adds a figure, to be filled with samples."""
        figure = Figure(name, unit, note=note)
        self.figures.append(figure)
        return figure

    def waive(self, *goals: str) -> None:
        """Takes goals out of this run, by the names of their figures."""
        self.waived.update(goals)

    def remark(self, text: str) -> None:
        """Adds a line below the table."""
        self.remarks.append(text)

    def attach(self, name: str, table: object) -> None:
        """Adds something to the JSON that is too long for the table."""
        self.attachments[name] = table

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Shows a line of progress; yields what is to be called after each of `total` steps.

        Nothing is drawn between two steps: this process is domain 0 of what is measured.
        """
        task = self._progress.add_task(title, total=total)
        self._progress.refresh()

        def step() -> None:
            self._progress.advance(task)
            self._progress.refresh()

        try:
            yield step
        finally:
            self._progress.remove_task(task)


def check_writable(path: Path) -> None:
    """Refuses a file that could not be written in the end, before anything is measured.

    Raises:
        MachineError: why not.
    """
    if path.is_dir():
        raise MachineError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise MachineError(f"there is no folder {path.parent} for {path.name}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise MachineError(f"{path} cannot be written: {path.parent} is not ours to write to")


def run(
    subject: str,
    *,
    json_path: Path | None = None,
    check: bool = False,
    repeat: int = 5,
    quick: bool = False,
    plan: Plan | None = None,
    options: Options | None = None,
) -> int:
    """Measures a subject and prints the table.

    Args:
        subject: one of `SUBJECTS`.
        json_path: where the results are written to, too.
        check: compare with the goals.
        repeat: samples of every figure.
        quick: a fraction of the time, for a first look; too few samples to quote.
        plan: exactly how much is measured, instead of `repeat` and `quick`.
        options: what else was chosen; subjects that do not know an option ignore it.

    Returns:
        How many goals were missed; 0 without `check`.

    Raises:
        KeyboardInterrupt: it was interrupted; what it had was printed and written.
    """
    if plan is None:
        plan = QUICK if quick else dataclasses.replace(FULL, samples=repeat)
    measure = cast("Callable[[Bench], None]", import_module(f"xenlike.benchmarks.{subject}").measure)
    if json_path is not None:
        check_writable(json_path)
    where = surroundings()
    meanwhile = Meanwhile()
    progress = progress_bar()
    bench = Bench(plan, progress, options)
    goals: dict[str, Goal] = {}
    results: list[GoalResult] = []
    complete = False
    try:
        with progress:
            measure(bench)
        complete = True
    finally:
        where |= meanwhile.report()
        where["plan"] = dataclasses.asdict(plan)
        goals = {name: goal for name, goal in GOALS.get(subject, {}).items() if name not in bench.waived}
        results = compare(goals, bench.figures)
        if complete or bench.figures:
            _show(subject, where, bench, goals, complete=complete)
        if json_path is not None:
            document: dict[str, object] = {
                "subject": subject,
                "complete": complete,
                "environment": where,
                "figures": [figure.summary() for figure in bench.figures],
                "remarks": bench.remarks,
                "waived": sorted(bench.waived),
            } | bench.attachments
            if check:
                document["goals"] = results
            json_path.write_text(json.dumps(document, indent=2) + "\n")
    missed = [result for result in results if not result["met"]] if check else []
    for result in missed:
        value = result["value"]
        found = "was not measured" if value is None else f"is {_number(value)}"
        print(f"goal missed: {result['name']} {found}, and should be {goals[result['name']]}")
    return len(missed)


def _show(subject: str, where: dict[str, object], bench: Bench, goals: dict[str, Goal], *, complete: bool) -> None:
    figures = bench.figures
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = PAGE_WIDTH
    console.print(
        f"[bold]{subject}[/bold] at {where['commit']}, Python {where['python']}, Linux {where['kernel']}, "
        f"{where['cpus']} x {where['cpu']}",
        highlight=False,
    )
    console.print(
        f"{where['placement']}; {where['priority']}; load {where['load_before']:.1f} before and "
        f"{where['load_after']:.1f} after; other programs used {where['others_cpu_percent']} % of a CPU, "
        f"the host's host took {where['stolen_percent']} %",
        highlight=False,
    )
    if not complete:
        console.print("[yellow]not finished: this is what there was[/yellow]")
    table = Table(show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("unit", no_wrap=True)
    for column in ("median", "min", "max", "p99", "n", "goal"):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in figures:
        if not figure.samples:
            continue
        summary = figure.summary()
        goal = goals.get(figure.name)
        mark = ""
        if goal is not None:
            mark = f"{goal} [green]met[/]" if goal.is_met(figure.median) else f"{goal} [red]missed[/]"
        numbers = [_number(cast("float | None", summary[name])) for name in ("median", "min", "max", "p99")]
        table.add_row(figure.name, figure.unit, *numbers, str(summary["count"]), mark)
    console.print(table)
    for figure in figures:
        if figure.samples and figure.note:
            console.print(f"[dim]{figure.name}: {figure.note}[/dim]", highlight=False)
    for remark in bench.remarks:
        console.print(f"[yellow]{remark}[/yellow]", highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
