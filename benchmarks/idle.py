"""What a machine costs that has nothing to do: the CPU time of all its processes, domain 0's among them.

Nothing of the benchmark runs meanwhile: this process sleeps, and draws no progress.
"""

from __future__ import annotations

import os

import trio

from xenlike.benchmarks import goals
from xenlike.benchmarks.lab import Lab, open_lab
from xenlike.benchmarks.processes import cpu_ns, processes
from xenlike.benchmarks.runner import Bench

ENTRY = "xenlike.benchmarks.guests:first_read"
IMAGE_SIZE = 1 << 20
WINDOW_S = 10.0
SETTLING_S = 1.0
"""After the last guest has connected: queues spin for a moment before they sleep."""


def measure(bench: Bench) -> None:
    """Measures it."""
    trio.run(_machine, bench)


async def _machine(bench: Bench) -> None:
    count = bench.plan.idle_guests
    async with open_lab() as lab:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(_start, lab, number)
        await trio.sleep(SETTLING_S)
        total = bench.figure(goals.idle_guests(count), "ms")
        most = bench.figure("   of which: the process that used most", "ms")
        with bench.stage(f"{count} guests idle for {bench.plan.idle_s:g} s", bench.plan.samples) as step:
            for _ in range(bench.plan.samples):
                used, elapsed = await _window(lab, bench.plan.idle_s)
                share = WINDOW_S / elapsed
                total.add(sum(used.values()) * share)
                busiest = max(used, key=lambda name: used[name])
                most.add(used[busiest] * share)
                most.note = f"in the last sample {busiest}"
                step()
        if bench.plan.idle_s != WINDOW_S:
            total.note = f"measured over {bench.plan.idle_s:g} s and multiplied"


async def _start(lab: Lab, number: int) -> None:
    name = lab.name()
    await lab.machine.spawn(name, ENTRY, devices=[lab.disk(lab.image(f"{number}.img", IMAGE_SIZE))])
    await lab.heard(name)


async def _window(lab: Lab, seconds: float) -> tuple[dict[str, float], float]:
    """Sleeps, and returns what each process used meanwhile in ms, and how long it was in s.

    This process is read last before, and first after: reading is work of its own.
    """
    names = processes(lab.machine)
    own = os.getpid()
    others = [pid for pid in names if pid != own]
    begin = trio.current_time()
    before = {pid: cpu_ns(pid) for pid in (*others, own)}
    await trio.sleep(seconds)
    after = {pid: cpu_ns(pid) for pid in (own, *others)}
    elapsed = trio.current_time() - begin
    return {f"{name} ({pid})": (after[pid] - before[pid]) / 1e6 for pid, name in names.items()}, elapsed
