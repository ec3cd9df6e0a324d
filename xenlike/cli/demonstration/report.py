"""The demo from outside: its steps one after the other, what is shown meanwhile, and the closing table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from xenlike.cli.demonstration import image
from xenlike.cli.demonstration.host import STORAGE, Demo, Outcome
from xenlike.cli.demonstration.image import Originals
from xenlike.cli.running import orderly_end, watch_signals
from xenlike.toolstack.sizes import format_size


class Display:
    """Shows news, and progress below them.

    Args:
        console: where.
        silent: shows nothing.
    """

    def __init__(self, console: Console, silent: bool = False) -> None:
        self._console = Console(quiet=True) if silent else console
        self._progress = Progress(
            TextColumn("[bold]reading[/]"),
            BarColumn(),
            TextColumn("{task.fields[files]:,} files"),
            TransferSpeedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        """One line of news."""
        self._console.print(text, soft_wrap=True)

    def progress(self, nr_files: int, nr_bytes: int) -> None:
        """So much is read in all."""
        if self._task is not None:
            self._progress.update(self._task, completed=nr_bytes, files=nr_files)

    @contextmanager
    def reading(self, nr_bytes: int) -> Iterator[None]:
        """Shows the bar meanwhile."""
        with self._progress:
            self._task = self._progress.add_task("", total=nr_bytes, files=0)
            yield
        self._task = None


@dataclass
class Report:
    """What the demo found.

    Attributes:
        originals: what was there to read.
        outcome: what the machine did.
        different: paths that the guest read wrongly or not at all.
        found_written: the second image holds what the guest wrote.
        clean: e2fsck had nothing to say about the first.
        total_s: from start to end, images and checks included.
    """

    originals: Originals
    outcome: Outcome
    different: list[str]
    found_written: bool
    clean: bool
    total_s: float

    @property
    def is_good(self) -> bool:
        """Whether all went as it must."""
        recovered = self.outcome.recovery_s is not None
        return not self.different and self.found_written and self.clean and recovered

    def figures(self) -> dict[str, object]:
        """Returns the table for scripts."""
        out = self.outcome
        recovery = None if out.recovery_s is None else round(out.recovery_s * 1000, 1)
        return {
            "good": self.is_good,
            "files": len(self.originals.sums),
            "files_different": self.different,
            "bytes_read": out.read_bytes,
            "bytes_written": out.written[1] if out.written else 0,
            "written_found": self.found_written,
            "filesystem_clean": self.clean,
            "requests": out.stats.get("requests", 0),
            "notifications_per_1000": self._per_thousand("notifications"),
            "wakes_per_1000": self._per_thousand("wakes"),
            "read_s": round(out.read_s, 3),
            "recovery_ms": recovery,
            "total_s": round(self.total_s, 3),
            "domains": out.domains,
        }

    def _per_thousand(self, what: str) -> float:
        requests = self.outcome.stats.get("requests", 0)
        return round(1000 * self.outcome.stats.get(what, 0) / requests, 1) if requests else 0.0

    def print(self, console: Console) -> None:
        """Prints the verdict, the table, and where to go next."""
        out = self.outcome
        for good, text in (
            (not self.different, f"all {len(self.originals.sums):,} SHA-256 sums equal the originals'"),
            (
                self.found_written,
                f"the second image holds exactly the {out.written[1] if out.written else 0:,} bytes written",
            ),
            (self.clean, "e2fsck -fn finds nothing"),
        ):
            console.print(f"[green]yes[/]  {text}" if good else f"[bold red]NO[/]   {text}")
        for path in self.different[:5]:
            console.print(f"     differs: {path}", markup=False)
        table = Table(box=None, show_header=False, pad_edge=False)
        again = f", then d{out.storage_again}" if out.storage_again else ""
        domains = ", ".join(
            f"{info.name} (d{info.domid}{again if info.name == STORAGE else ''})" for info in out.domains
        )
        recovery = "-" if out.recovery_s is None else f"{out.recovery_s * 1000:.0f} ms"
        speed = out.read_bytes / out.read_s / 1e6 if out.read_s else 0.0
        written = format_size(out.written[1]) if out.written else "nothing"
        sent, waits = self._per_thousand("notifications"), self._per_thousand("wakes")
        for name, value in (
            ("domains", domains),
            ("requests", f"{out.stats.get('requests', 0):,}"),
            ("bytes", f"{format_size(out.read_bytes)} read ({speed:.0f} MB/s), {written} written"),
            ("per 1,000 requests", f"{sent} notifications sent, {waits} waits for one"),
            ("time", f"{self.total_s:.1f} s, of which reading {out.read_s:.1f} s"),
            ("recovery", f"{recovery} from the death of {STORAGE} until the guest was connected again"),
        ):
            table.add_row(f"[dim]{name}[/]", value)
        console.print(table)
        console.print(
            "Next: [bold]xenlike doctor[/], [bold]xenlike --help[/], and README.md: a driver of your own in 40 lines.",
            soft_wrap=True,
        )


def run_demo(source: Path | None, limit: int, display: Display) -> Report:
    """Does the whole job.

    Raises:
        XenlikeError: a step failed; nothing is left behind.
        KeyboardInterrupt: likewise.
    """
    image.need("mke2fs", "e2fsck")
    with orderly_end(), tempfile.TemporaryDirectory(prefix="xenlike-demo-", dir=image.work_folder()) as folder:
        return _run_in(Path(folder), source, limit, display)


def _run_in(folder: Path, source: Path | None, limit: int, display: Display) -> Report:
    start = time.monotonic()
    originals = image.gather(folder / "files", source, limit)
    images = folder / "disk.img", folder / "empty.img"
    image.make_ext4(originals, images[0])
    image.make_empty(images[1], (originals.folder / originals.largest).stat().st_size)
    size = format_size(images[0].stat().st_size)
    display.say(f"{len(originals.sums):,} files, {format_size(originals.nr_bytes)}, in an ext4 image of {size}")
    with display.reading(originals.nr_bytes):
        outcome = trio.run(_run, Demo(originals, images, display))
    different = [path for path, digest in originals.sums.items() if outcome.sums.get(path) != digest]
    different += sorted(set(outcome.sums) - set(originals.sums))
    found = outcome.written is not None and image.holds(images[1], originals.folder / originals.largest)
    clean = image.is_clean(images[0])
    return Report(originals, outcome, different, found, clean, time.monotonic() - start)


async def _run(demo: Demo) -> Outcome:
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals)
        outcome = await demo.run()
        nursery.cancel_scope.cancel()
    return outcome
