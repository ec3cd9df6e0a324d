"""The log: what survives the daemon. Entries on one descriptor, appended before anybody is answered.

    0     two headers of 32 bytes, at 0 and 32: magic, sequence, start, CRC. The valid one with the
          higher sequence counts; a change of header overwrites the other one.
    4096  entries: length u32, CRC u32, kind u8, bytes.

An entry counts if it is whole; what follows the last whole one was never answered and is cut off.
That is enough against the end of the process, whose written pages the kernel keeps; nothing is
synced, so a log in a file may lose its end if the whole host goes down.

Compaction appends a snapshot to the entries, between a `B`egin and an `E`nd entry, flips the header
to where it begins, and gives the pages before it back to the system: the file's size grows, what it
holds does not. Until the flip the old entries count, and a reader that meets a `B` in mid-log knows
that the flip never came.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator

__all__ = ["Log"]

logger = logging.getLogger(__name__)

_MAGIC = b"xlstore1"
_HEADER = struct.Struct("<8sQQI")
_HEADERS = (0, 32)
_ENTRY = struct.Struct("<IIc")
_FIRST = 4096
_CHUNK = 1 << 20
# An entry is a request's changes, or a piece of a snapshot; nothing we write comes near this.
_LONGEST = 1 << 28


class Log:
    """An open log.

    Args:
        fd: a memfd or a file, readable and writable; the caller keeps it open and owned.
        compact_at: bytes of entries below which compaction is not worth it.
    """

    def __init__(self, fd: int, *, compact_at: int = 1 << 20) -> None:
        self._fd = fd
        self._compact_at = compact_at
        self._pending: list[bytes] = []
        self._sequence, self._start = self._find_start()
        self._end = self._start
        # Bytes of entries right after the last compaction, or of the log that was found.
        self._base = 0

    def entries(self) -> Iterator[bytes]:
        """Yields what was logged, in order, and cuts off what is not whole. Call it once, first."""
        at = self._start
        in_snapshot = False
        for kind, body, end in self._whole_entries():
            if kind == b"B":
                if at != self._start:
                    break
                in_snapshot = True
            elif kind == b"E":
                in_snapshot = False
            else:
                yield body
            at = end
        if in_snapshot:
            raise ValueError(f"log: the snapshot at {self._start} has no end")
        size = os.fstat(self._fd).st_size
        if size > at:
            logger.info("log: %d bytes after the last whole entry are cut off", size - at)
            os.ftruncate(self._fd, max(at, _FIRST))
        self._end = at
        self._base = at - self._start

    def append(self, body: bytes) -> None:
        """Adds an entry, written by the next `flush`."""
        self._pending.append(_entry(b"D", body))

    def flush(self) -> bool:
        """Writes what was appended, and says whether there was anything.

        Raises:
            OSError: it could not be written, and must not be answered.
        """
        if not self._pending:
            return False
        data = b"".join(self._pending)
        self._pending.clear()
        self._write(data)
        return True

    @property
    def wants_compaction(self) -> bool:
        """Whether the entries have outgrown what they amount to several times over."""
        length = self._end - self._start
        return length > self._compact_at and length > 4 * self._base

    def compact(self, snapshot: Iterable[bytes]) -> None:
        """Replaces all entries by others that amount to the same.

        Args:
            snapshot: bodies of entries that describe the present.

        Raises:
            OSError: there is no room; the log is as it was, and will be twice as long before it
                wants compaction again.
        """
        self.flush()
        start = self._end
        try:
            self._write(_entry(b"B", b""))
            for body in snapshot:
                self._write(_entry(b"D", body))
            self._write(_entry(b"E", b""))
        except OSError:
            self._end = start
            os.ftruncate(self._fd, start)
            self._compact_at = 2 * (start - self._start)
            raise
        self._write_header(self._sequence + 1, start)
        previous, self._start = self._start, start
        self._base = self._end - start
        self._release(previous, start)
        logger.debug("log: compacted %d bytes to %d", start - previous, self._base)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, self._end)
            self._end += done
            view = view[done:]

    def _whole_entries(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Yields kind, body and end of every entry, up to the first that is not whole."""
        buffer = b""
        # Where the buffer begins in the file, and where the next entry begins in the buffer.
        base, at = self._start, 0
        while True:
            wanted = at + _ENTRY.size
            if wanted <= len(buffer):
                length, crc, kind = _ENTRY.unpack_from(buffer, at)
                if length > _LONGEST:
                    return
                wanted += length
            if wanted > len(buffer):
                more = os.pread(self._fd, max(_CHUNK, wanted - len(buffer)), base + len(buffer))
                if not more:
                    return
                buffer = buffer[at:] + more
                base, at = base + at, 0
                continue
            body = buffer[at + _ENTRY.size : wanted]
            if zlib.crc32(kind + body) != crc:
                return
            at = wanted
            yield kind, body, base + at

    def _find_start(self) -> tuple[int, int]:
        found = (0, _FIRST)
        page = os.pread(self._fd, _FIRST, 0)
        for at in _HEADERS:
            if len(page) < at + _HEADER.size:
                continue
            magic, sequence, start, crc = _HEADER.unpack_from(page, at)
            if magic == _MAGIC and zlib.crc32(page[at : at + _HEADER.size - 4]) == crc:
                found = max(found, (sequence, start))
        if not found[0]:
            if page.strip(b"\0"):
                raise ValueError("log: neither empty nor a store's log")
            self._write_header(1, _FIRST)
            return 1, _FIRST
        return found

    def _write_header(self, sequence: int, start: int) -> None:
        fields = _HEADER.pack(_MAGIC, sequence, start, 0)[:-4]
        os.pwrite(self._fd, fields + struct.pack("<I", zlib.crc32(fields)), _HEADERS[sequence % 2])
        if os.fstat(self._fd).st_size < _FIRST:
            os.ftruncate(self._fd, _FIRST)

    def _release(self, start: int, end: int) -> None:
        """Gives pages between two offsets back to the system, where it can; what is before is dead too."""
        start = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY or mmap.ALLOCATIONGRANULARITY
        end = end // mmap.PAGESIZE * mmap.PAGESIZE
        if end <= start:
            return
        try:
            with mmap.mmap(self._fd, end - start, offset=start) as pages:
                pages.madvise(mmap.MADV_REMOVE)
        except OSError as error:
            logger.debug("log: old entries stay where they are: %s", error)


def _entry(kind: bytes, body: bytes) -> bytes:
    return _ENTRY.pack(len(body), zlib.crc32(kind + body), kind) + body
