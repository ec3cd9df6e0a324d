"""`xenlike stats --prometheus`: a machine's statistics for Prometheus, asked for anew by every scrape.

Names and labels follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from xenlike.errors import ConfigError, MachineError

if TYPE_CHECKING:
    from prometheus_client import Metric

    from xenlike.toolstack.statistics import DomainStatistics, Snapshot

LOOPBACK = "127.0.0.1"
PATIENCE_S = 2.0
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:]+):)?(?P<port>[0-9]{1,5})", re.ASCII)

DOMAIN = ["machine", "domid", "domain"]
RING = [*DOMAIN, "device", "side", "queue"]
RING_COUNTERS = {
    "requests": "Entries that went from front to back; each end of a ring counts them",
    "responses": "Entries that went from back to front",
    "kicks": "Announcements of entries",
    "notifications": "Announcements for which the other end had to be notified",
    "arms": "Times the end asked to be notified",
    "late": "Times it asked and found work already there",
    "sleeps": "Times it slept on its event channel",
    "spurious": "Wakes that brought nothing",
    "full": "Times somebody had to wait for room",
}


def parse_address(text: str) -> tuple[str, int]:
    """Returns host and port of `PORT` or `ADDRESS:PORT`; IPv6 addresses are in brackets.

    Raises:
        ConfigError: it is neither.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(f"{text!r} is neither a port nor ADDRESS:PORT, such as 9464 or 0.0.0.0:9464")
    return (match["host"] or LOOPBACK).strip("[]"), int(match["port"])


def serve(name: str, address: str) -> None:
    """Serves a machine's statistics until Ctrl-C or SIGTERM; while the machine is down, `xenlike_up` is 0.

    Raises:
        ConfigError: the address is none.
        MachineError: the package prometheus_client is missing.
        OSError: the address cannot be listened on.
    """
    host, port = parse_address(address)
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.registry import Collector
    except ImportError:
        raise MachineError(
            "--prometheus needs the package prometheus_client: pip install 'xenlike[prometheus]'"
        ) from None

    from xenlike.cli.running import orderly_end

    class Machine(Collector):
        def collect(self) -> Iterable[Metric]:
            return metrics(name, _look(name))

        def describe(self) -> Iterable[Metric]:
            return []

    registry = CollectorRegistry()
    registry.register(Machine())
    with orderly_end():
        server, thread = start_http_server(port, host, registry)
        try:
            where = f"[{host}]" if ":" in host else host
            typer.echo(f"statistics of machine {name} are at http://{where}:{server.server_port}/metrics")
            threading.Event().wait()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _look(name: str) -> Snapshot | None:
    import trio

    from xenlike.toolstack.statistics import fresh

    try:
        return trio.run(lambda: fresh(name, patience_s=PATIENCE_S))[0]
    except MachineError:
        return None


def metrics(name: str, snapshot: Snapshot | None) -> Iterator[Metric]:
    """Yields a machine's metrics.

    Args:
        name: the machine's.
        snapshot: None while it is down.
    """
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    up = GaugeMetricFamily("xenlike_up", "Whether the machine runs", labels=["machine"])
    up.add_metric([name], snapshot is not None)
    yield up
    if snapshot is None:
        return
    age = GaugeMetricFamily(
        "xenlike_statistics_age_seconds", "How old the other values are; they are when it is busy", labels=["machine"]
    )
    age.add_metric([name], snapshot.age_s)
    yield age
    own = CounterMetricFamily("xenlike_hypervisor_cpu_seconds", "Processor time of the hypervisor", labels=["machine"])
    own.add_metric([name], snapshot.hypervisor_cpu_s)
    yield own
    yield from _of_domains(name, snapshot.domains)
    yield from _of_rings(name, snapshot.domains)


def _of_domains(name: str, domains: list[DomainStatistics]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    state = GaugeMetricFamily("xenlike_domain_state", "1 for the state it is in", labels=[*DOMAIN, "state"])
    cpu = CounterMetricFamily("xenlike_domain_cpu_seconds", "Processor time of the domain's process", labels=DOMAIN)
    used = GaugeMetricFamily("xenlike_domain_memory_bytes", "Memory in use", labels=[*DOMAIN, "area"])
    limit = GaugeMetricFamily("xenlike_domain_memory_limit_bytes", "Memory at most", labels=[*DOMAIN, "area"])
    counts = {
        "ports": GaugeMetricFamily("xenlike_domain_event_channels", "Event channels", labels=DOMAIN),
        "windows": GaugeMetricFamily("xenlike_domain_windows", "Windows of grantable memory", labels=DOMAIN),
        "mapped_pages": GaugeMetricFamily("xenlike_domain_mapped_pages", "Its pages that others map", labels=DOMAIN),
        "foreign_pages": GaugeMetricFamily("xenlike_domain_foreign_pages", "Others' pages it maps", labels=DOMAIN),
    }
    for domain in domains:
        who = [name, str(domain.domid), domain.name]
        state.add_metric([*who, domain.state], 1)
        cpu.add_metric(who, domain.cpu_s)
        for area, values in (("ram", (domain.ram_used, domain.ram)), ("pool", (domain.pool_used, domain.pool))):
            used.add_metric([*who, area], values[0])
            limit.add_metric([*who, area], values[1])
        for attribute, metric in counts.items():
            metric.add_metric(who, getattr(domain, attribute))
    yield from (state, cpu, used, limit, *counts.values())


def _of_rings(name: str, domains: list[DomainStatistics]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    totals = {key: CounterMetricFamily(f"xenlike_ring_{key}", text, labels=RING) for key, text in RING_COUNTERS.items()}
    spins = CounterMetricFamily("xenlike_ring_spins", "Spins by whether they brought work", labels=[*RING, "result"])
    in_flight = GaugeMetricFamily("xenlike_ring_in_flight", "Slots that are not free", labels=RING)
    slots = GaugeMetricFamily("xenlike_ring_slots", "Slots of the ring", labels=RING)
    broken = GaugeMetricFamily("xenlike_ring_broken", "1 when nothing goes over the ring any more", labels=RING)
    seen = set()
    for domain in domains:
        for queue in domain.queues:
            labels = (name, str(domain.domid), domain.name, queue.name, queue.side, str(queue.number))
            # A domain could give two of its rings one name: Prometheus would refuse the others', too.
            if labels in seen:
                continue
            seen.add(labels)
            for key, metric in totals.items():
                metric.add_metric(labels, getattr(queue, key))
            spins.add_metric([*labels, "hit"], queue.spins_hit)
            spins.add_metric([*labels, "missed"], queue.spins_missed)
            slots.add_metric(labels, queue.slots)
            broken.add_metric(labels, bool(queue.broken))
            if queue.in_flight is not None:
                in_flight.add_metric(labels, queue.in_flight)
    yield from (*totals.values(), spins, in_flight, slots, broken)
