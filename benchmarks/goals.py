"""What the figures of each subject should be, on two CPUs of a present-day server."""

from __future__ import annotations

from xenlike.benchmarks.figures import Goal

FORK = "zygote fork to first hypercall"
FIRST_READ = "spawn to first block read answered"
BATCH_PATH = "Python batch path, one way, polled"


def many_guests(count: int) -> str:
    """Names the figure of starting so many guests."""
    return f"{count} guests with a disk each"


def idle_guests(count: int) -> str:
    """Names the figure of so many guests that do nothing."""
    return f"CPU of {count} idle guests and their machine in 10 s"


GOALS: dict[str, dict[str, Goal]] = {
    "domains": {
        FORK: Goal(5.0),
        FIRST_READ: Goal(25.0),
        many_guests(100): Goal(5.0),
    },
    "block": {BATCH_PATH: Goal(25.0, "at least")},
    "ring": {BATCH_PATH: Goal(25.0, "at least")},
    "idle": {idle_guests(10): Goal(20.0)},
}
"""By subject and figure; in the unit of the figure."""
