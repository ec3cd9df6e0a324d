"""The data path of a block frontend: from ranges of the disk to requests, and from responses to bytes.

1. Ranges are cut into pieces that fit the I/O area, each of which gets a run of granted pages there;
   every 11 pages of a run are one request of the ring.
2. All requests go to the queue as one batch, as many pieces at once as have room.
3. When all are answered, the bytes are copied out, and the runs are free again.

Requests that are in flight when the backend dies are sent again to its successor, or fail with
`PeerGone` where `on_peer_gone` is "fail". Who is cancelled leaves its requests in flight; their pages
are used again only when they have been answered.
"""

from __future__ import annotations

import errno
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from xenlike.errors import PeerGone, RequestFailed
from xenlike.frontends.block.pool import Area, Request, requests_for
from xenlike.io.blk import BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_RSP_EOPNOTSUPP, SECTOR_SIZE, BlkifResponse

if TYPE_CHECKING:
    from xenlike.io.blk import BlkifRequest
    from xenlike.xenbus import Frontend

Range = tuple[int, int]
"""Offset on the disk and length, in bytes."""

_VERBS = {BLKIF_OP_READ: "read", BLKIF_OP_WRITE: "write"}
_status = BlkifResponse.__layout__.fields["status"]
_STATUS = slice(_status.offset, _status.offset + _status.size)
_OKAY = bytes(_status.size)


class DataPath:
    """Moves bytes over whatever connection a frontend has at the time.

    Args:
        device: the frontend.
    """

    def __init__(self, device: Frontend[BlkifRequest, BlkifResponse]) -> None:
        self._device = device

    async def read(self, area: Area, ranges: list[Range]) -> list[bytes]:
        """Returns the bytes of each range, by way of an area; errors as `send`."""
        most = area.size // 2
        if all(0 < length <= most for _, length in ranges):
            return await self._run(BLKIF_OP_READ, area, ranges)
        parts = iter(await self._run(BLKIF_OP_READ, area, _cut(ranges, most)))
        return [b"".join(itertools.islice(parts, -(-length // most))) for _, length in ranges]

    async def write(self, area: Area, items: list[tuple[int, memoryview]]) -> None:
        """Writes each `(offset, data)`, by way of an area; errors as `send`."""
        most = area.size // 2
        pieces = _cut([(offset, len(view)) for offset, view in items], most)
        data = [view[at : at + most] for _, view in items for at in range(0, len(view), most)]
        await self._run(BLKIF_OP_WRITE, area, pieces, data)

    async def _run(
        self, operation: int, area: Area, pieces: Sequence[Range], data: Sequence[memoryview] = ()
    ) -> list[bytes]:
        """Moves pieces of at most half the area, as many at once as have room; returns what was read of each."""
        found: list[bytes] = []
        at = 0
        while at < len(pieces):
            starts = [await area.take(pieces[at][1])]
            for _, length in itertools.islice(pieces, at + 1, None):
                start = area.take_nowait(length)
                if start is None:
                    break
                starts.append(start)
            end = at + len(starts)
            runs = [(start, length) for start, (_, length) in zip(starts, pieces[at:end], strict=True)]
            requests: list[Request] = []
            for start, (offset, length) in zip(starts, pieces[at:end], strict=True):
                requests += requests_for(operation, offset, start, length)
            for start, view in zip(starts, data[at:end], strict=False):
                area.data[start : start + len(view)] = view
            try:
                await self.send(area, requests)
            except BaseException:
                self.settle(functools.partial(area.free, runs))
                raise
            if operation == BLKIF_OP_READ:
                found += [bytes(area.data[start : start + length]) for start, length in runs]
            area.free(runs)
            at = end
        return found

    async def send(self, area: Area, requests: Sequence[Request]) -> None:
        """Sends requests for an area's pages, if need be to one backend after the other, until all are done.

        Raises:
            RequestFailed: at least one failed; the others are done nevertheless.
            PeerGone: the backend died, and the device's `on_peer_gone` is "fail".
            ProtocolError: the backend broke the rules.
            NoSuchDevice: the device was taken away.
        """
        device = self._device
        while True:
            if not device.connected:
                await device.wait_connected()
            # The grants in these are the present connection's.
            entries = b"".join([area.pack(*request) for request in requests])
            try:
                responses = await device.queue.submit_raw(entries, len(requests))
                break
            except PeerGone:
                if device.on_peer_gone == "fail":
                    raise
                # Trying again must not keep those from running who are to find out that there is nobody.
                await trio.lowlevel.checkpoint()
        for request, response in zip(requests, responses, strict=True):
            if response[_STATUS] != _OKAY:
                raise self._refusal(request, BlkifResponse.unpack(response).status)

    def _refusal(self, request: Request, status: int) -> RequestFailed:
        operation, sector, _, length = request
        code = errno.EOPNOTSUPP if status == BLKIF_RSP_EOPNOTSUPP else errno.EIO
        what = _VERBS.get(operation, "flush") + (f" of {length} bytes at {sector * SECTOR_SIZE}" if length else "")
        return RequestFailed(status, f"{self._device.nodename}: {what} failed with status {status}", code)

    def settle(self, callback: Callable[[], None]) -> None:
        """Calls back when no request that was cancelled can still touch its pages."""
        try:
            queue = self._device.queue
        except PeerGone:
            callback()
        else:
            queue.when_settled(callback)


def _cut(ranges: Sequence[Range], most: int) -> list[Range]:
    """Returns the same bytes in ranges of at most `most`."""
    return [(offset + at, min(most, length - at)) for offset, length in ranges for at in range(0, length, most)]
