"""How fast rings are, beside what else there is; one file for each kind of contest."""

from __future__ import annotations

from collections.abc import Sequence

from xenlike.benchmarks import goals
from xenlike.benchmarks.figures import Figure
from xenlike.benchmarks.ring import batch
from xenlike.benchmarks.runner import Bench

_LAYOUTS = {"": "no ring", "xen": "Xen's layout", "cacheline": "cacheline layout"}


def measure(bench: Bench, ways: Sequence[str] = tuple(batch.WAYS)) -> None:
    """Measures ways of `batch`, in turns."""
    figures: dict[str, Figure] = {}
    with bench.stage("entries through a ring", bench.plan.samples) as step:
        for _ in range(bench.plan.samples):
            for row in batch.measure(bench.plan.ring_s, 1, list(ways)):
                name = goals.BATCH_PATH if row["name"] == batch.ONE_WAY else f"   {row['name']}"
                if name not in figures:
                    figures[name] = bench.figure(name, row["unit"])
                figures[name].add(row["median"])
                figures[name].note = (
                    f"{_LAYOUTS[row['layout']]}, {row['batch']} entries of {row['entry_size']} B a call, each compared "
                    f"at the other side, two pinned processes; {row['notifications_per_1000']:.2f} notifications "
                    "per 1,000 entries"
                )
            step()
