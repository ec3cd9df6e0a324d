"""`top`, `stats` and the exporter: what they draw and serve, also of domains that lie."""

from __future__ import annotations

import io
import sys

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from rich.console import Console

from tests.unit.test_statistics import PLACES, at, domain, queue
from xenlike.cli import prometheus, top_display
from xenlike.cli.prometheus import metrics, parse_address
from xenlike.cli.stats import chosen
from xenlike.cli.top import Sort, View
from xenlike.errors import ConfigError, MachineError
from xenlike.toolstack.rates import rates
from xenlike.toolstack.statistics import Snapshot


def ring(number: int = 1, name: bytes = b"device/echo/0", **members: int) -> bytes:
    return queue(name=name, in_use=1, queue=number, nr_slots=64, **members)


BEFORE = at(
    1,
    domain(0, name=b"Domain-0", state=1),
    domain(2, ring(name=b"backend/echo/3/0", side=1), name=b"driver", state=1, cpu_ns=0),
    domain(3, ring(), name=b"guest", state=1),
)
AFTER = at(
    2,
    domain(0, name=b"Domain-0", state=1, ram_pages=9),
    domain(2, ring(name=b"backend/echo/3/0", side=1, popped=2000, pushed=2000), name=b"driver", state=3),
    domain(3, ring(prod=32, pushed=2032, popped=2000, notifications=508), name=b"guest", state=1, cpu_ns=5 * 10**8),
)


def drawn(view: object, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# Drawing.


def test_top_fits_eighty_columns_and_counts_a_ring_once() -> None:
    text = drawn(top_display.top("lab", rates(BEFORE, AFTER), devices=True))
    head, titles, *lines = text.splitlines()
    assert head == "machine lab: 3 domains, 50% of a CPU, 2.0k requests/s"
    assert "…" not in text
    assert [line.split()[0] for line in lines] == ["guest", "echo/0", "Domain-0", "driver", "echo/3/0"]
    guest = dict(zip(titles.split(), lines[0].split(), strict=False))
    assert (guest["cpu"], guest["req/s"], guest["not/s"], guest["/1000"]) == ("50.0%", "2.0k", "508", "250")
    assert lines[0].rstrip().endswith("██▌   32/64")
    assert "(dying)" in lines[3]


@pytest.mark.parametrize(
    ("sort", "first"), [(Sort.cpu, 3), (Sort.memory, 0), (Sort.requests, 3), (Sort.notifications, 3), (Sort.domid, 0)]
)
def test_lines_are_in_the_order_asked_for(sort: Sort, first: int) -> None:
    lines = top_display.ordered(rates(BEFORE, AFTER), sort)
    assert lines[0].domain.domid == first
    assert len(lines) == 3


@given(PLACES, st.text(max_size=40))
def test_whatever_domains_say_is_drawn_as_text(places: list[bytes], name: str) -> None:
    snapshot = at(2, domain(1, *places, name=name.encode()[:64]), domain(2, ring(name=b"[bold]x[/nothing]")))
    for view in (top_display.top("lab", rates(BEFORE, snapshot), devices=True), top_display.counters(snapshot.domains)):
        text = drawn(view, 400)
        assert "[bold]x[/nothing]" in text
        assert "\x1b" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.04, "0"),
        (4.25, "4.2"),
        (42, "42"),
        (980, "980"),
        (12_340, "12.3k"),
        (3e6, "3.0M"),
        (2**64, "2e+19"),
    ],
)
def test_rates_take_five_characters(value: float, text: str) -> None:
    assert top_display.rate(value) == text


@given(st.integers(0, 1 << 64))
def test_no_number_is_too_large_to_be_drawn(number: int) -> None:
    assert len(top_display.rate(number)) <= 5
    assert top_display.size(number)
    assert len(top_display.bar(number, max(1, number // 2)).plain) >= 5


@pytest.mark.parametrize(("number", "text"), [(0, "0K"), (4096, "4K"), (1536 << 10, "1.5M"), (64 << 20, "64M")])
def test_sizes_are_short(number: int, text: str) -> None:
    assert top_display.size(number) == text


# The screen.


def screen() -> View:
    return View("lab", 1.0, Sort.cpu, devices=False)


def test_a_screen_begins_empty_and_ends_at_q() -> None:
    view = screen()
    assert "waiting" in drawn(view.draw())
    assert [view.press(key) for key in "cmrnidx"] == [True] * 7
    assert (view.sort, view.devices) == (Sort.domid, True)
    assert [view.press(key) for key in ("q", "Q", "\x03", "\x04")] == [False] * 4


def test_a_snapshot_that_was_seen_is_not_new_and_one_out_of_turn_does_not_shorten_the_look() -> None:
    view = screen()
    assert [view.take(BEFORE), view.take(BEFORE), view.take(AFTER)] == [True, False, True]
    # A birth, a moment later: two seconds' worth is still compared with the first.
    soon = at(2.05, domain(3, ring(pushed=4064), name=b"guest", state=1))
    assert view.take(Snapshot(9, *[getattr(soon, name) for name in soon.__struct_fields__[1:]]))
    assert "3.9k requests/s" not in drawn(view.draw())
    assert view._before is BEFORE


def test_old_figures_are_said_to_be_old(monkeypatch: pytest.MonkeyPatch) -> None:
    view = screen()
    view.take(BEFORE)
    view._began_s -= 100
    assert "old: the machine's own process is busy" in drawn(view.draw())


# stats.


def test_a_domain_goes_by_name_or_domid() -> None:
    assert [found.domid for found in chosen(AFTER.domains, "guest")] == [3]
    assert [found.domid for found in chosen(AFTER.domains, "2")] == [2]
    assert chosen(AFTER.domains, "nobody") == []


# Prometheus.


class Fixed(Collector):
    """A collector of one snapshot."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot

    def collect(self):
        return metrics("lab", self.snapshot)

    def describe(self):
        return []


def scraped(snapshot: Snapshot | None) -> dict[tuple[str, ...], float]:
    """What Prometheus makes of it, by name and labels; each once, or it refuses everything."""
    registry = CollectorRegistry()
    registry.register(Fixed(snapshot))
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            key = (sample.name, *[f"{name}={value}" for name, value in sorted(sample.labels.items())])
            assert key not in found
            found[key] = sample.value
    return found


def test_counters_have_the_names_that_prometheus_asks_for() -> None:
    found = scraped(AFTER)
    labels = ("device=device/echo/0", "domain=guest", "domid=3", "machine=lab", "queue=1")
    assert found["xenlike_ring_requests_total", *labels, "side=front"] == 2032
    assert found["xenlike_ring_spins_total", *labels, "result=hit", "side=front"] == 0
    assert found["xenlike_ring_in_flight", *labels, "side=front"] == 32
    assert found["xenlike_domain_cpu_seconds_total", "domain=guest", "domid=3", "machine=lab"] == 0.5
    assert found["xenlike_domain_state", "domain=driver", "domid=2", "machine=lab", "state=dying"] == 1
    assert found["xenlike_up", "machine=lab"] == 1


def test_a_machine_that_is_down_is_down_and_nothing_else() -> None:
    assert scraped(None) == {("xenlike_up", "machine=lab"): 0}


def test_one_domain_with_two_rings_of_one_name_does_not_hide_the_others() -> None:
    snapshot = at(1, domain(1, *[ring()] * 3), domain(2, ring(pushed=7)))
    assert 7 in scraped(snapshot).values()


@given(PLACES)
def test_whatever_domains_say_can_be_scraped(places: list[bytes]) -> None:
    assert scraped(at(1, domain(1, *places)))["xenlike_up", "machine=lab"] == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_loopbacks_where_none_is_given(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "x", ":80", "1:2:3", "70000", "a:99999", "[::1]", "-1"])
def test_what_is_no_address_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ConfigError, match="neither a port nor ADDRESS:PORT"):
        parse_address(text)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MachineError, match="needs the package prometheus_client: pip install"):
        prometheus.serve("lab", "0")


def test_prometheus_is_for_all_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from xenlike.cli.app import app

    done = CliRunner().invoke(app, ["-m", "lab", "stats", "guest", "--prometheus", "0"])
    assert (done.exit_code, isinstance(done.exception, SystemExit | typer.Exit)) == (2, True)
