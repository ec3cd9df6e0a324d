"""What happened between two snapshots, a second; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xenlike.toolstack.statistics import DomainStatistics, QueueStatistics, Snapshot

COUNTERS = ("requests", "notifications", "spins_hit", "spins_missed", "sleeps")


@dataclass(frozen=True)
class Activity:
    """Of one queue, or of several together.

    Attributes:
        devices: how many devices they are of.
        requests_s: entries from front to back a second; each end of a ring counts them.
        notifications_s: those that this end sent, a second.
        spins_hit_s: spins that brought work, a second.
        spins_missed_s: spins that brought none, a second.
        sleeps_s: times it slept, a second.
        in_flight: slots that are not free.
        slots: of the rings.
        broken: whether any of them is.
    """

    devices: int
    requests_s: float
    notifications_s: float
    spins_hit_s: float
    spins_missed_s: float
    sleeps_s: float
    in_flight: int
    slots: int
    broken: bool

    @property
    def notifications_per_1000(self) -> float | None:
        """Notifications for 1,000 requests; None without requests."""
        return 1000 * self.notifications_s / self.requests_s if self.requests_s else None


@dataclass(frozen=True)
class DomainRates:
    """One domain's share of a moment.

    Attributes:
        domain: the later snapshot's.
        cpu: processors used on average; 0.5 is half of one.
        activity: of all its queues.
        queues: each by itself.
    """

    domain: DomainStatistics
    cpu: float
    activity: Activity
    queues: list[tuple[QueueStatistics, Activity]]


def rates(before: Snapshot | None, now: Snapshot) -> list[DomainRates]:
    """Compares two snapshots of a machine.

    Args:
        before: the earlier one; None, or one without time between, makes all rates 0.
        now: the later one.

    Returns:
        The later one's domains, in its order.
    """
    elapsed_s = now.time_s - before.time_s if before is not None else 0.0
    then = {domain.domid: domain for domain in before.domains} if before is not None and elapsed_s > 0 else {}
    return [_domain(then.get(domain.domid), domain, elapsed_s) for domain in now.domains]


def _domain(before: DomainStatistics | None, now: DomainStatistics, elapsed_s: float) -> DomainRates:
    if before is not None and before.pid != now.pid:
        before = None  # the number went to another domain
    then = {_key(queue): queue for queue in before.queues} if before is not None else {}
    changes = [(queue, _changes(then.get(_key(queue)), queue)) for queue in now.queues]
    per_s = 1 / elapsed_s if before is not None else 0.0
    used_s = now.cpu_s - before.cpu_s if before is not None else 0.0
    return DomainRates(
        domain=now,
        cpu=max(0.0, used_s) * per_s,
        activity=_activity(changes, per_s),
        queues=[(queue, _activity([(queue, change)], per_s)) for queue, change in changes],
    )


def _key(queue: QueueStatistics) -> tuple[int, str, str]:
    return queue.number, queue.name, queue.side


def _changes(before: QueueStatistics | None, now: QueueStatistics) -> list[int]:
    """How much the counters grew. One that fell is another ring's, or a liar's: then it began at nothing."""
    found = []
    for name in COUNTERS:
        then, value = (0 if before is None else getattr(before, name)), getattr(now, name)
        found.append(value - then if value >= then else value)
    return found


def _activity(changes: Iterable[tuple[QueueStatistics, list[int]]], per_s: float) -> Activity:
    queues = [queue for queue, _ in changes]
    requests, notifications, hit, missed, sleeps = (
        sum(column) * per_s for column in zip([0] * len(COUNTERS), *[change for _, change in changes], strict=True)
    )
    return Activity(
        devices=len({queue.name for queue in queues}),
        requests_s=requests,
        notifications_s=notifications,
        spins_hit_s=hit,
        spins_missed_s=missed,
        sleeps_s=sleeps,
        in_flight=sum(queue.in_flight or 0 for queue in queues),
        slots=sum(queue.slots for queue in queues if queue.in_flight is not None),
        broken=any(queue.broken for queue in queues),
    )
