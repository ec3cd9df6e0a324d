"""What `xenlike top` and `xenlike stats` draw. Words that a domain chose are never markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xenlike.cli.top import Sort
from xenlike.toolstack.rates import Activity, DomainRates
from xenlike.toolstack.statistics import DomainStatistics, QueueStatistics

STATES = {"building": "cyan", "shutdown": "yellow", "dying": "yellow", "dead": "red"}
BAR_CELLS = 5
EIGHTHS = " ▏▎▍▌▋▊▉"


KEYS: dict[Sort, Callable[[DomainRates], float]] = {
    Sort.cpu: lambda line: -line.cpu,
    Sort.memory: lambda line: -_used(line.domain),
    Sort.requests: lambda line: -line.activity.requests_s,
    Sort.notifications: lambda line: -line.activity.notifications_s,
    Sort.domid: lambda line: line.domain.domid,
}
"""The first letter of each, but `i` for `domid`, is its key in `top`."""


def ordered(lines: Sequence[DomainRates], sort: Sort) -> list[DomainRates]:
    """Sorts lines, the largest first; equal ones by domid."""
    return sorted(lines, key=lambda line: (KEYS[sort](line), line.domain.domid))


def top(
    name: str,
    lines: Sequence[DomainRates],
    *,
    sort: Sort = Sort.cpu,
    devices: bool = False,
    notes: Sequence[str] = (),
) -> RenderableType:
    """Draws a screen of `top`.

    Args:
        name: the machine's.
        lines: the domains.
        sort: their order.
        devices: also a line for each of their devices' rings.
        notes: what else is to be said, below the head.
    """
    head = f"machine {name}: {len(lines)} domains, {sum(line.cpu for line in lines):.0%} of a CPU, "
    head += f"{rate(sum(requests_served(line) for line in lines))} requests/s"
    table = _table(
        ("domain", "id", "cpu", "mem", "dev", "req/s", "not/s", "/1000", "hit/s", "miss/s", "slp/s"),
        right=("id", "cpu", "mem", "dev", "req/s", "not/s", "/1000", "hit/s", "miss/s", "slp/s"),
    )
    table.add_column("in flight", no_wrap=True)
    for line in ordered(lines, sort):
        domain = line.domain
        table.add_row(
            _name(domain),
            Text(str(domain.domid)),
            Text(f"{100 * line.cpu:.1f}%"),
            Text(size(_used(domain))),
            Text(str(line.activity.devices or "-")),
            *_activity(line.activity),
        )
        for queue, activity in line.queues if devices else ():
            table.add_row(Text(f"  {_short(queue.name)}"), *[Text()] * 4, *_activity(activity), style="dim")
    return Group(Text(head), *[Text(note, style="yellow") for note in notes], table)


def _name(domain: DomainStatistics) -> Text:
    name = Text(domain.name, style="bold")
    if domain.state != "running":
        name.append(f" ({domain.state})", style=STATES.get(domain.state, ""))
    return name


def _short(nodename: str) -> str:
    """Which end it is says the domain: what is left of `device/vbd/51712` is `vbd/51712`."""
    return nodename.removeprefix("device/").removeprefix("backend/")


def requests_served(line: DomainRates) -> float:
    """Requests a second, counted where they are served, so that no ring counts twice."""
    return sum(activity.requests_s for queue, activity in line.queues if queue.side in ("back", "consumer"))


def _activity(activity: Activity) -> list[Text]:
    if not activity.devices:
        return [Text("-")] * 6 + [Text("-")]
    per_1000 = activity.notifications_per_1000
    return [
        Text(rate(activity.requests_s)),
        Text(rate(activity.notifications_s)),
        Text("-" if per_1000 is None else rate(per_1000)),
        Text(rate(activity.spins_hit_s)),
        Text(rate(activity.spins_missed_s)),
        Text(rate(activity.sleeps_s)),
        Text("broken", style="red") if activity.broken else bar(activity.in_flight, activity.slots),
    ]


def counters(domains: Sequence[DomainStatistics]) -> RenderableType:
    """Draws the tables of `xenlike stats`: domains, and below them their queues."""
    table = _table(
        ("domain", "id", "state", "cpu s", "ram", "pool", "ports", "windows", "mapped", "foreign", "traced"),
        right=("id", "cpu s", "ram", "pool", "ports", "windows", "mapped", "foreign", "traced"),
    )
    for domain in domains:
        cells = (
            domain.name,
            domain.domid,
            domain.state,
            f"{domain.cpu_s:.2f}",
            f"{size(domain.ram_used)}/{size(domain.ram)}",
            f"{size(domain.pool_used)}/{size(domain.pool)}",
            domain.ports,
            domain.windows,
            domain.mapped_pages,
            domain.foreign_pages,
            domain.traced,
        )
        table.add_row(*[Text(str(cell)) for cell in cells])
    queues = [(domain, queue) for domain in domains for queue in domain.queues]
    return Group(table, Text(), _queues(queues)) if queues else table


def _queues(queues: Iterable[tuple[DomainStatistics, QueueStatistics]]) -> Table:
    numbers = ("requests", "responses", "kicks", "notif", "arms", "late", "hit", "missed", "sleeps", "spurious", "full")
    table = _table(("domain", "ring", "side", *numbers), right=numbers)
    table.add_column("in flight", no_wrap=True)
    for domain, queue in queues:
        cells = (
            domain.name,
            queue.name,
            queue.side,
            queue.requests,
            queue.responses,
            queue.kicks,
            queue.notifications,
            queue.arms,
            queue.late,
            queue.spins_hit,
            queue.spins_missed,
            queue.sleeps,
            queue.spurious,
            queue.full,
        )
        flight = "?" if queue.in_flight is None else f"{queue.in_flight}/{queue.slots}"
        table.add_row(*[Text(str(cell)) for cell in cells], Text(queue.broken or flight))
    return table


def _table(titles: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", no_wrap=True)
    return table


def _used(domain: DomainStatistics) -> int:
    return domain.ram_used + domain.pool_used


def bar(value: int, most: int) -> Text:
    """Returns a bar of five cells and the numbers, such as `██▌   32/64`."""
    if not most:
        return Text("-")
    eighths = min(8 * BAR_CELLS, -(-8 * BAR_CELLS * value // most))
    cells = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    return Text(cells.ljust(BAR_CELLS), style="cyan") + Text(f" {value}/{most}", style="")


def rate(value: float) -> str:
    """Returns a number in five characters or fewer: `0`, `4.2`, `980`, `12.3k`, `1.2M`."""
    if value < 0.05:
        return "0"
    if value < 9.95:
        return f"{value:.1f}"
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if not unit or value >= 99.95 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value * 1e15:.0e}"


def size(number: int) -> str:
    """Returns bytes in five characters or fewer where they are less than a petabyte: `4K`, `1.5M`, `64M`."""
    value = number / 1024
    for unit in "KMGT":
        if value < 1023.5 or unit == "T":
            return f"{value:.1f}{unit}" if value < 9.95 and value != int(value) else f"{value:.0f}{unit}"
        value /= 1024
    raise AssertionError("unreachable")
