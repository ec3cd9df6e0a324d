"""The guest of the demo: reads every file of the first disk, then writes one of them to the second.

It says on its console what it did, one line for each step:

    disk <size of the first> <size of the second>
    file <SHA-256> <size> <path>
    wrote <SHA-256> <size>
    stats <JSON>
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import trio

from xenlike.cli.demonstration.ext4 import Ext4, Inode

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain
    from xenlike.frontends.block import BlockFront

_READERS = 8
"""Files read at once, so that the ring always has requests in it."""


async def main(domain: Domain, path_to_copy: str) -> None:
    """Does the guest's job.

    Args:
        domain: whose entry this is, with disks `xvda` (ext4) and `xvdb`.
        path_to_copy: the file of `xvda` that is written to `xvdb`.
    """
    source, target = await domain.disk("xvda"), await domain.disk("xvdb")
    print(f"disk {source.size} {target.size}", flush=True)
    counter = _Counter(source, target)
    files = await Ext4.open(source.read)
    send, receive = trio.open_memory_channel[tuple[str, Inode]](0)
    async with trio.open_nursery() as nursery:
        for _ in range(_READERS):
            nursery.start_soon(_read_files, files, receive.clone(), counter)
        receive.close()
        copied: Inode | None = None
        async with send:
            async for path, inode in files.files():
                if path == path_to_copy:
                    copied = inode
                await send.send((path, inode))
    if copied is None:
        raise FileNotFoundError(path_to_copy)
    await _copy(files, copied, target)
    counter.look()
    print(f"stats {json.dumps(counter.totals())}", flush=True)
    await trio.sleep_forever()  # until it is asked to shut down


async def _read_files(files: Ext4, channel: trio.MemoryReceiveChannel[tuple[str, Inode]], counter: _Counter) -> None:
    async with channel:
        async for path, inode in channel:
            digest = hashlib.sha256()
            async for data in files.content(inode):
                digest.update(data)
            counter.look()
            print(f"file {digest.hexdigest()} {inode.size} {path}", flush=True)


async def _copy(files: Ext4, inode: Inode, target: BlockFront) -> None:
    """Writes a file to the start of a disk, padded with zeroes to whole sectors, and flushes."""
    digest = hashlib.sha256()
    offset = 0
    async for data in files.content(inode):
        digest.update(data)
        await target.write(offset, data + bytes(-len(data) % target.sector_size))
        offset += len(data)
    await target.flush()
    print(f"wrote {digest.hexdigest()} {inode.size}", flush=True)


class _Counter:
    """Adds up what the queues of some disks did; a queue ends with its backend, and with it its counters."""

    def __init__(self, *disks: BlockFront) -> None:
        self._disks = disks
        self._seen: dict[int, tuple[int, int, int]] = {}
        self._queues: list[object] = []  # kept, so that no id is used twice

    def look(self) -> None:
        """Takes note of the counters now."""
        for disk in self._disks:
            if disk.connected:
                queue = disk.queue
                if id(queue) not in self._seen:
                    self._queues.append(queue)
                now = queue.statistics()
                self._seen[id(queue)] = (now.requests, now.notifications, now.sleeps)

    def totals(self) -> dict[str, int]:
        """Returns the sums over all queues there were."""
        columns = zip(*self._seen.values(), strict=True)
        return dict(zip(("requests", "notifications", "wakes"), map(sum, columns), strict=True))
