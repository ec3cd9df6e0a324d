"""The backend half of the block driver.

The way of a request:

1. The queue copies all requests that are there out of the ring.
2. `request.check` says what each asks for, or that it asks for what it may not.
3. `pages.Pages` maps what they name and is not mapped yet, in one hypercall for all.
4. One `preadv` or `pwritev` a request moves its segments between the image and the frontend's pages.
5. The responses are pushed together, and the frontend is notified if it asked for it.

Requests are carried out in the order they came, so whatever was answered before a flush is flushed by it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import trio

from xenlike.abi.types import PAGE_SIZE
from xenlike.backends.block.pages import Pages
from xenlike.backends.block.request import BadRequest, Transfer, check
from xenlike.io.blk import (
    BLK,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
    SECTOR_SIZE,
    VDISK_READONLY,
    BlkifRequest,
    BlkifResponse,
)
from xenlike.storage import BlockDevice, open_device
from xenlike.xenbus import Backend, BackQueue

if TYPE_CHECKING:
    from xenlike.xenbus.negotiate import NodeValue

_COMPLAINT_EVERY_S = 1.0
_unpack_requests = BlkifRequest.__layout__.codec.iter_unpack
_pack_response = BlkifResponse.__layout__.codec.pack


Job = tuple[tuple[int, ...], Transfer | int]
"""A request's integers, and what it comes to: a transfer, or the status of a refusal."""


class BlockBack(Backend[BlkifRequest, BlkifResponse], protocol=BLK):
    """Serves one disk to one guest.

    The image comes from the toolstack as the resource that is named like the device
    (`backend/vbd/<guest>/<number>`), open in the mode that the guest is allowed.
    """

    _disk: BlockDevice | None = None
    _pages: Pages | None = None

    async def run(self) -> None:
        """Lives the device's whole life; the image stays open while frontends come and go."""
        try:
            await super().run()
        finally:
            if self._disk is not None:
                self._disk.close()
                self._disk = None

    async def setup(self) -> Mapping[str, NodeValue]:
        """Opens the image, and offers what the protocol knows and this backend can.

        Raises:
            ValueError, OSError: the image is not usable as a disk.
        """
        if self._disk is None:
            resource = await self.domain.resources.get(self.nodename)
            self._disk = open_device(resource.fd, resource.info)
        return {"feature-flush-cache": True, "feature-barrier": True, "feature-persistent": True}

    async def connect(self) -> Mapping[str, NodeValue]:
        """Takes the frontend's choice of grants, and says what the disk is."""
        disk = self.disk
        self._pages = Pages(self.domain.grants, self.otherend_id, persistent=bool(self.peer["feature-persistent"]))
        return {
            "sectors": disk.size // SECTOR_SIZE,
            "sector-size": disk.sector_size,
            "physical-sector-size": PAGE_SIZE if disk.size % PAGE_SIZE == 0 else disk.sector_size,
            "info": VDISK_READONLY if disk.readonly else 0,
            "mode": "r" if disk.readonly else "w",
        }

    async def disconnect(self) -> None:
        """Unmaps the frontend's pages."""
        pages, self._pages = self._pages, None
        if pages is not None:
            pages.close()

    @property
    def disk(self) -> BlockDevice:
        """The image.

        Raises:
            RuntimeError: it is not open yet.
        """
        if self._disk is None:
            raise RuntimeError(f"{self.nodename} has no image yet")
        return self._disk

    # The data path.

    async def serve(self, queue: BackQueue[BlkifRequest, BlkifResponse]) -> None:
        """Serves until the frontend goes; errors as `BackQueue.wait`."""
        while True:
            await queue.wait()
            while entries := queue.pop_raw():
                jobs = [(values, self._check(values)) for values in _unpack_requests(entries)]
                for group in _split_at_flushes(jobs):
                    responses = await self._carry_out(group)
                    queue.respond_raw(responses, len(group))
                    queue.kick()

    def _check(self, values: tuple[int, ...]) -> Transfer | int:
        try:
            return check(values, self.disk.size // SECTOR_SIZE, readonly=self.disk.readonly)
        except BadRequest as refused:
            self._complain(f"d{self.otherend_id} asked for {refused}")
            return refused.status

    async def _carry_out(self, group: list[Job]) -> bytes:
        """Does what a group of requests asks for; returns their responses, packed."""
        pages, disk = self._pages, self.disk
        assert pages is not None  # there is no queue before `connect`
        pages.attach([job for _, job in group if isinstance(job, Transfer)])
        responses = []
        for (operation, _, _, ident, *_), job in group:
            if isinstance(job, int):
                status = job
            elif job.flush_before:
                status = await self._flush_and_write(disk, job)
            else:
                status = self._transfer(disk, job)
            responses.append(_pack_response(ident, operation, status))
        pages.release()
        return b"".join(responses)

    def _transfer(self, disk: BlockDevice, job: Transfer) -> int:
        """Reads or writes; returns the status."""
        if job.buffers is None:
            self._complain(f"d{self.otherend_id} named a page that it has not granted")
            return BLKIF_RSP_ERROR
        try:
            if job.write:
                disk.pwritev(job.offset, job.buffers)
            elif job.buffers:
                disk.preadv(job.offset, job.buffers)
        except OSError as error:
            self._complain(f"{'write' if job.write else 'read'} at byte {job.offset} failed: {error}")
            return BLKIF_RSP_ERROR
        return BLKIF_RSP_OKAY

    async def _flush_and_write(self, disk: BlockDevice, job: Transfer) -> int:
        """Carries out a flush or a barrier, with or without data; returns the status."""
        try:
            await self._flush(disk)
            status = self._transfer(disk, job)
            if job.flush_after:
                await self._flush(disk)
        except OSError as error:
            self._complain(f"flush failed: {error}")
            return BLKIF_RSP_ERROR
        return status

    async def _flush(self, disk: BlockDevice) -> None:
        if disk.flush_blocks:
            # Hardware may take its time, and other disks of this domain need not wait for it.
            await trio.to_thread.run_sync(disk.flush)
        else:
            disk.flush()

    # A misbehaving guest must not fill the disk with log lines.

    _complaints = 0
    _next_complaint = 0.0

    def _complain(self, what: str) -> None:
        self._complaints += 1
        now = time.monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + _COMPLAINT_EVERY_S
            self.log.warning("%s (complaint %d)", what, self._complaints)


def _split_at_flushes(jobs: Iterable[Job]) -> Iterable[list[Job]]:
    """Yields groups of which only the first request may flush: what came before is answered first."""
    group: list[Job] = []
    for values, job in jobs:
        if isinstance(job, Transfer) and job.flush_before and group:
            yield group
            group = []
        group.append((values, job))
    if group:
        yield group
