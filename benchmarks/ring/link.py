"""Messages one by one, there or there and back: the loops that every contestant goes through.

A contestant gives each process something to `put` a message with and something to `get` one with. Where these wait
by themselves they are called once; where they return at once they are called until they have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice

from xenlike.benchmarks.ring.pair import Ends, Opener, Side
from xenlike.errors import MachineError


@dataclass(frozen=True, slots=True)
class Link:
    """One process's hold of both directions.

    Attributes:
        put: sends a message; False if there was no room, unless `waits`.
        get: returns a message; None if there is none, unless `waits`.
        waits: whether both wait, so that one call is enough.
        flush: sends what `put` has kept.
    """

    put: Callable[[bytes], object]
    get: Callable[[], bytes | bytearray | None]
    waits: bool
    flush: Callable[[], bool] = lambda: True


Connection = tuple[Callable[[], Link], Callable[[], Link]]
"""The near and the far process's; each is called in its process, the far one first."""


def wrong(got: object) -> MachineError:
    """What is raised when something else arrives than was sent."""
    size = len(got) if isinstance(got, bytes | bytearray | memoryview) else 0
    return MachineError(f"what arrived ({size} bytes) is not what was sent")


@contextmanager
def one_way(connection: Connection, contents: list[bytes]) -> Generator[tuple[Opener, Opener]]:
    """From the near to the far process, which compares every message."""
    near, far = connection

    def sender() -> Side:
        link = near()
        return lambda count: produce(link, contents, count)

    def receiver() -> Side:
        link = far()
        return lambda count: consume(link, contents, count)

    yield sender, receiver


@contextmanager
def round_trips(connection: Connection, there: list[bytes], back: list[bytes]) -> Generator[tuple[Opener, Opener]]:
    """There and back, one at a time; both compare. The near side returns the ns of each."""
    near, far = connection

    def asker() -> Side:
        link = near()
        return lambda count: ask(link, there, back, count)

    def answerer() -> Side:
        link = far()
        return lambda count: answer(link, there, back, count)

    yield asker, answerer


def produce(link: Link, contents: list[bytes], count: int) -> None:
    """Sends `count` messages."""
    put = link.put
    if link.waits:
        for content in islice(cycle(contents), count):
            put(content)
    else:
        for content in islice(cycle(contents), count):
            while not put(content):
                pass
    while not link.flush():
        pass


def consume(link: Link, contents: list[bytes], count: int) -> None:
    """Receives and compares `count` messages."""
    get = link.get
    if link.waits:
        for wanted in islice(cycle(contents), count):
            got = get()
            if got != wanted:
                raise wrong(got)
    else:
        for wanted in islice(cycle(contents), count):
            while (got := get()) is None:
                pass
            if got != wanted:
                raise wrong(got)


def ask(link: Link, there: list[bytes], back: list[bytes], count: int) -> list[int]:
    """Sends and waits for the answer, `count` times; returns what each took in ns."""
    put, get, waits, clock = link.put, link.get, link.waits, time.perf_counter_ns
    took = []
    for content, wanted in islice(zip(cycle(there), cycle(back), strict=False), count):
        start = clock()
        if waits:
            put(content)
            got = get()
        else:
            while not put(content):
                pass
            while (got := get()) is None:
                pass
        took.append(clock() - start)
        if got != wanted:
            raise wrong(got)
    return took


def answer(link: Link, there: list[bytes], back: list[bytes], count: int) -> None:
    """Compares what comes and answers it, `count` times."""
    put, get, waits = link.put, link.get, link.waits
    for wanted, content in islice(zip(cycle(there), cycle(back), strict=False), count):
        if waits:
            got = get()
            put(content)
        else:
            while (got := get()) is None:
                pass
            while not put(content):
                pass
        if got != wanted:
            raise wrong(got)


__all__ = ["Connection", "Ends", "Link", "one_way", "produce", "consume", "round_trips", "wrong"]
