"""What runs in the guests of these tests: block input and output that knows what every sector may hold.

A program says on its console, one JSON object a line:

    {"done": N}                    so many operations are answered
    {"flushed": {"slot": version}} these versions are in the image for good
    {"lost": N}                    so many connections have ended under it
    {"end": {...}}                 it has read everything back, and all was right
"""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING

import trio

from tests.faults import content
from tests.faults.moments import spin
from tests.faults.stacks import tell_on_signal
from xenlike.errors import NoEntry, PeerGone

if TYPE_CHECKING:
    import random

    from xenlike.domain.domain import Domain
    from xenlike.frontends.block import BlockFront

SLOT = 32768
"""Bytes that are written and read together; the longest operations are several slots, and several requests."""
LANES = 6
NEWS_EVERY = 20
"""Operations."""


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def die(turns: int = 0) -> None:
    spin(turns)
    os.kill(os.getpid(), signal.SIGKILL)


class Work:
    """Reads and writes a disk in several lanes at once.

    Args:
        disk: its lanes own disjoint slots of it.
        seed: which disk it is, and what is done to it.
        source: says what comes next.
        rest_s: what a lane leaves to others after each operation.
    """

    def __init__(self, disk: BlockFront, seed: int, source: random.Random, rest_s: float = 0.0) -> None:
        self.disk = disk
        self._rest_s = rest_s
        self.done = 0
        self.lost = 0
        self._seed = seed
        self._random = source
        self._slots = disk.size // SLOT
        # A slot's sectors hold no version older than `low`, and none newer than `high`.
        self._low = [0] * self._slots
        self._high = [0] * self._slots
        self._told = [0] * self._slots
        self.stop = False
        # Called after every operation.
        self.on_done = lambda: None

    async def take_over(self) -> None:
        """Finds what an earlier life has written."""
        for slot in range(self._slots):
            found = content.versions(await self.disk.read(slot * SLOT, SLOT), self._seed, slot * SLOT)
            self._low[slot], self._high[slot] = min(found), max(found)

    def is_over(self) -> bool:
        """Says whether it was told to stop."""
        return self.stop

    async def run(self) -> None:
        """Works until `stop`, or until the connection is lost; that is not raised."""
        async with trio.open_nursery() as nursery:
            for lane in range(LANES):
                nursery.start_soon(self._lane, lane)

    async def _lane(self, lane: int) -> None:
        mine = range(lane, self._slots, LANES)
        try:
            while not self.stop:
                kind = self._random.random()
                if kind < 0.5:
                    await self._write(self._random.sample(mine, self._random.randint(1, min(3, len(mine)))))
                elif kind < 0.95:
                    await self._read(self._random.choice(mine))
                else:
                    await self._flush()
                self.done += 1
                self.on_done()
                if self._rest_s:
                    await trio.sleep(self._rest_s)
        except PeerGone:
            # The others see it too; one that is idle sees it when it next asks for something.
            return

    async def _write(self, slots: list[int]) -> None:
        items = []
        for slot in slots:
            self._high[slot] += 1
            items.append((slot * SLOT, content.make(self._seed, slot * SLOT, SLOT, self._high[slot])))
        versions = {slot: self._high[slot] for slot in slots}
        await self.disk.write_many(items)
        for slot, version in versions.items():
            self._low[slot] = version

    async def _read(self, slot: int) -> None:
        # Any part of it: transfers begin and end in mid-page too.
        first = self._random.randrange(SLOT // content.SECTOR)
        last = self._random.randint(first, SLOT // content.SECTOR - 1)
        offset, length = slot * SLOT + first * content.SECTOR, (last - first + 1) * content.SECTOR
        self._check(slot, await self.disk.read(offset, length), offset)

    def _check(self, slot: int, data: bytes, offset: int) -> None:
        found = content.versions(data, self._seed, offset)
        if min(found) < self._low[slot] or max(found) > self._high[slot]:
            raise content.WrongByte(
                f"slot {slot} has versions {min(found)} to {max(found)}, not {self._low[slot]} to {self._high[slot]}"
            )

    async def _flush(self) -> None:
        answered = list(self._low)
        await self.disk.flush()
        news = {slot: version for slot, version in enumerate(answered) if version > self._told[slot]}
        for slot, version in news.items():
            self._told[slot] = max(self._told[slot], version)
        say(flushed=news)

    async def read_back(self) -> None:
        """Flushes, and reads everything."""
        await self._flush()
        for slot in range(self._slots):
            self._check(slot, await self.disk.read(slot * SLOT, SLOT), slot * SLOT)


async def doomed(domain: Domain, seed: int, name: str, after: int, turns: int, how: str) -> None:
    """Works, and is killed after so many operations.

    Args:
        domain: its own.
        seed: of its disk.
        name: of the moment.
        after: operations; 0 strikes before the disk is connected.
        turns: of a loop, after those.
        how: `here`, in the middle of the loop, or `aside`, while that goes on.
    """
    import random

    def strike() -> None:
        if how == "here":
            die(turns)
        threading.Thread(target=die, args=[turns]).start()

    if not after:
        strike()
    disk = await domain.disk("xvda")
    work = Work(disk, seed, random.Random(name))
    work.on_done = lambda: strike() if work.done == after else None
    await work.run()


async def brief(domain: Domain, seed: int, name: str, operations: int) -> None:
    """Does so many operations on its disk, and reads everything back.

    Args:
        domain: its own.
        seed: of its disk.
        name: what it does is drawn from this.
        operations: how many, at least.
    """
    import random

    tell_on_signal()
    disk = await domain.disk("xvda")
    work = Work(disk, seed, random.Random(name))

    def look() -> None:
        work.stop = work.done >= operations

    work.on_done = look
    await work.run()
    await work.read_back()
    say(end={"done": work.done})


async def steady(domain: Domain, seed: int, name: str, on_peer_gone: str = "retry", rest_s: float = 0.0) -> None:
    """Works until the host writes `data/stop`; then reads everything back.

    Args:
        domain: its own.
        seed: of its disk.
        name: what it does is drawn from this.
        on_peer_gone: what it asks of its disk.
        rest_s: see `Work`.
    """
    import random

    tell_on_signal()
    disk = await domain.disk("xvda")
    work = Work(disk, seed, random.Random(name), rest_s)
    await work.take_over()
    work.on_done = lambda: say(done=work.done) if work.done % NEWS_EVERY == 0 else None

    async def wait_for_stop() -> None:
        async with domain.store.watch("data/stop") as changes:
            async for _ in changes:
                try:
                    await domain.store.read("data/stop")
                except NoEntry:
                    continue
                work.stop = True
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_stop)
        while True:
            disk.on_peer_gone = "fail" if on_peer_gone == "fail" else "retry"
            await work.run()
            if work.is_over():
                break
            # It was reported; a program that asked for that decides by itself to wait for the next backend.
            work.lost += 1
            say(lost=work.lost)
            disk.on_peer_gone = "retry"
            await disk.wait_connected()
    disk.on_peer_gone = "retry"
    await work.read_back()
    say(end={"done": work.done, "lost": work.lost, "connections": disk.statistics().connections})
