"""How long it takes to make domains, and what memory they take.

* The fork: this process takes the hypervisor's place at a zygote, asks for a fork and waits for the first
  hypercall of the child, so both moments are read from one clock in one process.
  They follow each other so closely that the zygote forks none ahead.
* The first read: from the call of `spawn` to the moment when the guest has the bytes of its first block, with
  the driver domain running. The guest reads the same clock (CLOCK_MONOTONIC) and reports it afterwards.
* Many guests: they are started together, and it is over when each has read a block.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import trio

from xenlike import _core
from xenlike.benchmarks import goals
from xenlike.benchmarks.lab import Lab, open_lab
from xenlike.benchmarks.processes import memory_kib, processes
from xenlike.benchmarks.runner import Bench
from xenlike.hypervisor.births import Zygote
from xenlike.toolstack.guest import Guest

ENTRY = "xenlike.benchmarks.guests:first_read"
IMAGE_SIZE = 1 << 20
WARM_UP = 2
PAUSE_S = 0.2
"""Between two guests that are started alone: nobody starts them by the dozen and one at a time."""


def measure(bench: Bench) -> None:
    """Measures all of it."""
    _forks(bench)
    trio.run(_machine, bench)


def _forks(bench: Bench) -> None:
    figure = bench.figure(
        goals.FORK, "ms", "a zygote of its own; from the request to fork until the child's hypercall is received"
    )
    sockets: list[socket.socket] = []

    def new_socket(domid: int) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sockets.append(ours)
        return theirs

    zygote = Zygote(new_socket)
    # The domains become this process's children.
    _core.set_child_subreaper(True)
    try:
        zygote.start()
        # Its word that it is ready.
        zygote.hear()
        with bench.stage("forks of the zygote", bench.plan.forks) as step:
            for number in range(WARM_UP + bench.plan.forks):
                start = time.monotonic_ns()
                zygote.ask(1, b"bench", -1)
                first = sockets[-1].recv(4096)
                end = time.monotonic_ns()
                report = zygote.hear()
                # A domain whose socket is closed leaves.
                sockets.pop().close()
                if not first or report is None:
                    raise RuntimeError("the zygote did not fork")
                os.waitpid(report[1], 0)
                if number >= WARM_UP:
                    figure.add((end - start) / 1e6)
                    step()
    finally:
        zygote.stop()
        _core.set_child_subreaper(False)


async def _machine(bench: Bench) -> None:
    async with open_lab() as lab:
        await _boots(bench, lab)
        await _many(bench, lab)


async def _boots(bench: Bench, lab: Lab) -> None:
    answered = bench.figure(
        goals.FIRST_READ,
        "ms",
        f"one guest after the other, {PAUSE_S:g} s apart; the driver domain runs, the image is in the page cache",
    )
    called = bench.figure("   of which: until the guest's function is called", "ms")
    connected = bench.figure("   of which: from there until the disk is connected", "ms")
    read = bench.figure("   of which: from there until the first read is answered", "ms")
    at_once = bench.figure(
        "   the same without a pause", "ms", "the zygote has no time to fork ahead, and forks at the request"
    )
    image = lab.image("boot.img", IMAGE_SIZE)
    with bench.stage("single guests", 2 * bench.plan.boots) as step:
        for number in range(WARM_UP + bench.plan.boots):
            await trio.sleep(PAUSE_S)
            first, second, third = await _boot(lab, image)
            if number >= WARM_UP:
                called.add(first)
                connected.add(second - first)
                read.add(third - second)
                answered.add(third)
                step()
        # Its spare is the first one's.
        await _boot(lab, image)
        for _ in range(bench.plan.boots):
            at_once.add((await _boot(lab, image))[2])
            step()


async def _boot(lab: Lab, image: Path) -> list[float]:
    """Starts a guest and ends it; returns its three moments in ms after the call of `spawn`."""
    name = lab.name()
    start = time.monotonic_ns()
    guest = await lab.machine.spawn(name, ENTRY, devices=[lab.disk(image)])
    stamps = [(int(word) - start) / 1e6 for word in await lab.heard(name)]
    await guest.destroy()
    return stamps


async def _many(bench: Bench, lab: Lab) -> None:
    count = bench.plan.guests
    elapsed = bench.figure(
        goals.many_guests(count), "s", "started together, as many at once as there are; until the last has read a block"
    )
    memory = bench.figure("memory that each of them adds", "KiB")
    own = bench.figure("   of which: the guest's own process", "KiB")
    images = [lab.image(f"{number}.img", IMAGE_SIZE) for number in range(count)]
    with bench.stage(f"{count} guests at a time", bench.plan.samples) as step:
        for _ in range(bench.plan.samples):
            before, shares = _memory(lab)
            names = [lab.name() for _ in images]
            guests: list[Guest] = []

            async def start(name: str, image_number: int, guests: list[Guest] = guests) -> None:
                disk = lab.disk(images[image_number])
                guests.append(await lab.machine.spawn(name, ENTRY, devices=[disk]))
                await lab.heard(name)

            begin = time.monotonic()
            async with trio.open_nursery() as nursery:
                for number, name in enumerate(names):
                    nursery.start_soon(start, name, number)
            elapsed.add(time.monotonic() - begin)
            after, shares = _memory(lab)
            memory.add((after - before) / count)
            pids = [guest.pid for guest in guests]
            own.add(sum(memory_kib(pid)[0] for pid in pids if pid is not None) / count)
            memory.note = (
                "all processes of the machine with them, less all without them; shared pages count by their share (PSS)"
                if shares
                else "anonymous and shared pages (RSS without files): shares of shared pages (PSS) are root's to see"
            )
            async with trio.open_nursery() as nursery:
                for guest in guests:
                    nursery.start_soon(guest.destroy)
            step()


def _memory(lab: Lab) -> tuple[int, bool]:
    sizes = [memory_kib(pid) for pid in processes(lab.machine)]
    return sum(size for size, _ in sizes), all(shares for _, shares in sizes)
