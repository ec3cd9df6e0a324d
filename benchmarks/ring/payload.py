"""Payloads of 4 KiB to 16 MiB between two processes: by granted pages, and by what else there is.

The window is what a grant gives to two domains: a sealed memfd that both have mapped. The sender copies the payload
into free pages of it and names them in a request; the receiver checks that they are in the window, copies them into
memory of its own, and answers, which frees the pages. It polls, as iceoryx2 does; those with a pipe sleep in it.
Everybody receives into memory that is reused, where there is a call for that, and compares every byte.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import struct
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection as PipeEnd
from multiprocessing.shared_memory import SharedMemory
from typing import cast

from xenlike import _core
from xenlike.benchmarks import goals
from xenlike.benchmarks.ring.content import payload
from xenlike.benchmarks.ring.contest import Contest, Contestant, Unit
from xenlike.benchmarks.ring.link import Connection, Link, one_way, round_trips
from xenlike.benchmarks.ring.pair import Ends, Opener, two_cpus
from xenlike.benchmarks.ring.peers import installed
from xenlike.benchmarks.ring.peers.peer import Peer
from xenlike.benchmarks.runner import Bench
from xenlike.errors import ProtocolError
from xenlike.ring import XEN, BackRing, FrontRing

SIZES = {4096: "4 KiB", 1 << 16: "64 KiB", 1 << 20: "1 MiB", 16 << 20: "16 MiB"}
GOAL_SIZE = 1 << 20
AT_A_FIRST_LOOK = (4096, 1 << 20)
"""Sizes that are measured where there is one sample of each."""
REQUEST = struct.Struct("<IIQ")
"""First page, a number that comes back, size in bytes."""
RESPONSE = struct.Struct("<II")

PERIOD = {4096: 61, 1 << 16: 31, 1 << 20: 5, 16 << 20: 2}
"""Payloads that take turns, by size."""


def in_flight(size: int) -> int:
    """Returns how many payloads may wait: 8, or as many as 32 MiB hold."""
    return max(2, min(8, (32 << 20) // size))


@cache
def contents(size: int, first: int) -> list[bytes]:
    """Returns the payloads that take turns."""
    return [payload(size, first + number) for number in range(PERIOD[size])]


def _touch(memory: memoryview) -> None:
    """Has the process own every page beforehand, as pools of pages do; a first touch costs more than the copy."""
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = memory[at]


def _sender(ring: FrontRing, window: memoryview, size: int) -> Callable[[bytes], bool]:
    incoming = ring.incoming(in_flight(size))
    _touch(window)
    pages = size // mmap.PAGESIZE
    free = deque(range(in_flight(size)))

    def put(data: bytes) -> bool:
        if not free:
            free.extend(ident for ident, _ in islice(RESPONSE.iter_unpack(incoming.data), incoming.pop()))
            if not free:
                return False
        place = free.popleft()
        window[place * size : (place + 1) * size] = data
        ring.push(REQUEST.pack(place * pages, place, len(data)))
        return True

    return put


def _receiver(ring: BackRing, window: memoryview, size: int) -> Callable[[], bytearray | None]:
    incoming = ring.incoming(1)
    _touch(window)
    private = bytearray(size)
    into = memoryview(private)

    def get() -> bytearray | None:
        if not incoming.pop():
            return None
        page, ident, length = REQUEST.unpack(incoming.data)
        at = page * mmap.PAGESIZE
        if length != size or at + length > len(window):
            raise ProtocolError(f"{length} bytes from page {page} on are not in a window of {len(window)} bytes")
        into[:] = window[at : at + length]
        ring.push(RESPONSE.pack(ident, 0))
        return private

    return get


@contextmanager
def granted(size: int) -> Generator[Connection]:
    """A window and a ring each way."""
    with ExitStack() as stack:
        ways = []
        for _ in range(2):
            nbytes = size * in_flight(size)
            fd = _core.memfd_create("payload", nbytes)
            _core.seal(fd, _core.F_SEAL_SHRINK | _core.F_SEAL_GROW | _core.F_SEAL_SEAL)
            window = stack.enter_context(_core.map_shared(fd, nbytes))
            os.close(fd)
            memory = mmap.mmap(-1, 4096)
            ways.append((window.buffer, memory, FrontRing(memory, XEN, REQUEST.size, RESPONSE.size)))

        def link(out: int) -> Link:
            window, _, front = ways[out]
            put = _sender(front, window, size)
            window, memory, _ = ways[1 - out]
            back = BackRing(memory, XEN, REQUEST.size, RESPONSE.size)
            return Link(put, _receiver(back, window, size), waits=False)

        yield (lambda: link(0)), (lambda: link(1))
        ways.clear()


@contextmanager
def piped(size: int) -> Generator[Connection]:
    """`multiprocessing.Pipe`, received into memory that is reused."""
    near, far = multiprocessing.Pipe()

    def link(end: PipeEnd) -> Link:
        private = bytearray(size)

        def get() -> bytearray:
            end.recv_bytes_into(private)
            return private

        return Link(end.send_bytes, get, waits=True)

    with near, far:
        yield (lambda: link(near)), (lambda: link(far))


@contextmanager
def shared(size: int) -> Generator[Connection]:
    """`shared_memory` for the bytes, a `Pipe` each way for which of them there are and which are free again."""
    with ExitStack() as stack:
        blocks, pipes = [], []
        for _ in range(2):
            block = SharedMemory(create=True, size=size * in_flight(size))
            stack.callback(block.unlink)
            stack.callback(block.close)
            blocks.append(block)
            pipes.append([stack.enter_context(end) for end in multiprocessing.Pipe()])

        def link(out: int) -> Link:
            into, back = cast("memoryview", blocks[out].buf), pipes[out][0]
            of, ahead = cast("memoryview", blocks[1 - out].buf), pipes[1 - out][1]
            _touch(into)
            _touch(of)
            free = deque(range(in_flight(size)))
            private = bytearray(size)
            private_view = memoryview(private)

            def put(data: bytes) -> None:
                if not free:
                    free.append(int.from_bytes(back.recv_bytes(), "little"))
                place = free.popleft()
                into[place * size : (place + 1) * size] = data
                back.send_bytes(place.to_bytes(4, "little"))

            def get() -> bytearray:
                word = ahead.recv_bytes()
                place = int.from_bytes(word, "little")
                private_view[:] = of[place * size : (place + 1) * size]
                ahead.send_bytes(word)
                return private

            return Link(put, get, waits=True)

        yield (lambda: link(0)), (lambda: link(1))


GRANTED = Peer("granted pages", granted)
ALWAYS = (Peer("multiprocessing Pipe", piped), Peer("shared_memory and a Pipe", shared))
CARRIERS = frozenset({"pyzmq, ipc", "iceoryx2"})
"""Of the installed ones, those that are made for payloads too."""


@contextmanager
def stream(peer: Peer, size: int) -> Generator[tuple[Opener, Opener]]:
    """One way, as many as go through."""
    with peer.connect(size) as connection, one_way(connection, contents(size, 0)) as ends:
        yield ends


@contextmanager
def trips(peer: Peer, size: int) -> Generator[tuple[Opener, Opener]]:
    """The payload there and another one back."""
    there, back = contents(size, 0), contents(size, PERIOD[size])
    with peer.connect(size) as connection, round_trips(connection, there, back) as ends:
        yield ends


def measure(bench: Bench) -> None:
    """Measures GB/s and round trips of all sizes, and adds the ratio that has a goal.

    Raises:
        MachineError: there are no two CPUs, a payload arrived wrong, or a process failed.
    """
    others = [*ALWAYS, *(peer for peer in installed(bench) if peer.name in CARRIERS)] if bench.options.peers else []
    if not others:
        bench.waive(goals.PAYLOAD_TO_PEER)
    sizes = AT_A_FIRST_LOOK if bench.plan.samples == 1 else tuple(SIZES)
    for size in sizes:
        text = SIZES[size]
        rounds = bench.plan.samples
        contest = Contest(bench, two_cpus(), bench.plan.ring_s / 4)
        ours = _enter(contest, f"payload of {text}: granted pages", GRANTED, size, "GB/s")
        control = _enter(contest, "   the same once more (A/A control)", GRANTED, size, "GB/s")
        found = [_enter(contest, f"   {text}: {peer.name}", peer, size, "GB/s") for peer in others]
        for peer in (GRANTED, *others):
            _enter(contest, f"   {text}, there and back: {peer.name}", peer, size, "µs")
        try:
            contest.measure(f"payloads of {text}", rounds)
        finally:
            contest.ratio(f"   A/A: payload of {text} against itself", control, ours)
            if (best := contest.best(found)) is not None:
                name = goals.PAYLOAD_TO_PEER if size == GOAL_SIZE else f"   {text}, as fast as the best of the others"
                contest.ratio(name, ours, best)


def _enter(contest: Contest, name: str, peer: Peer, size: int, unit: Unit) -> Contestant:
    def ends() -> Ends:
        return stream(peer, size) if unit == "GB/s" else trips(peer, size)

    return contest.add(Contestant(name, unit, ends, size, first_count=max(4, min(50, (16 << 20) // size))))
