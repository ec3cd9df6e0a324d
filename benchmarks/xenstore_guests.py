"""Guests that connect to their disk all at once: what the store makes of it when everybody wants something of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from xenlike.benchmarks import goals
from xenlike.benchmarks.guests import report
from xenlike.benchmarks.lab import Lab, open_lab
from xenlike.benchmarks.runner import Bench
from xenlike.errors import NoSuchDevice

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain
    from xenlike.toolstack.guest import Guest

ENTRY = "xenlike.benchmarks.xenstore_guests:connect"
IMAGE_SIZE = 1 << 20
COUNTS = (1, 10, 100, 200)


async def connect(domain: Domain) -> None:
    """Is a guest: connects to its disk, reports how often its transactions were tried again, and idles."""
    while True:
        try:
            await domain.disk("xvda")
            break
        except NoSuchDevice:
            # Not within 10 s: a slow host needs longer for so many. Whether all get there is what is asked.
            continue
    statistics = domain.store.statistics()
    report(statistics.conflicts, statistics.most_retries)
    await trio.sleep_forever()


def measure(bench: Bench) -> None:
    """Measures it."""
    trio.run(_measure, bench)


async def _measure(bench: Bench) -> None:
    async with open_lab() as lab:
        image = lab.image("guest.img", IMAGE_SIZE)
        each = {
            count: bench.figure(
                f"{count} guest{'s' * (count > 1)} connecting at once, each",
                "ms",
                "from the first spawn until the last disk is connected, by the number of guests" if count == 1 else "",
            )
            for count in COUNTS
        }
        retries = bench.figure(
            goals.MOST_RETRIES,
            "",
            f"with {COUNTS[-1]} guests, in any of them and in domain 0; every handshake finished",
        )
        own = bench.figure("   of which: in the guests", "")
        samples = min(2, bench.plan.samples)
        with bench.stage("guests connecting at once", len(COUNTS) * samples) as step:
            for _ in range(samples):
                for count, figure in each.items():
                    elapsed, most = await _together(lab, count, image)
                    figure.add(1000 * elapsed / count)
                    if count == COUNTS[-1]:
                        own.add(most)
                        retries.add(max(most, lab.machine.domain0.store.statistics().most_retries))
                    step()


async def _together(lab: Lab, count: int, image: Path) -> tuple[float, int]:
    """Starts guests at once and ends them; returns seconds until all were connected, and the most retries."""
    guests: list[Guest] = []
    most: list[int] = []

    async def start(name: str) -> None:
        guests.append(await lab.machine.spawn(name, ENTRY, devices=[lab.disk(image)]))
        most.append(int((await lab.heard(name))[1]))

    begin = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(start, lab.name())
    elapsed = time.monotonic() - begin
    async with trio.open_nursery() as nursery:
        for guest in guests:
            nursery.start_soon(guest.destroy)
    return elapsed, max(most)
