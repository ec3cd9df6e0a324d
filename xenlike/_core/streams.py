"""The C byte stream and single shared words as Python objects; `xenlike.ring.stream` places them in pages."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xenlike._core import ffi, lib
from xenlike.errors import ProtocolError

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import Buffer


@dataclass(frozen=True)
class StreamStatistics:
    """Bytes that went through this end of a stream."""

    written: int
    read: int


class StreamEnd:
    """One direction of a byte stream; the writer uses `write`, the reader `read`.

    Args:
        buffer: the shared page, writable.
        data_offset: where the data begins.
        data_size: its size, a power of two.
        cons_offset: where the reader's index is.
        prod_offset: where the writer's index is.
        domid: the peer, for error messages.

    Raises:
        ValueError: the parts do not lie in the page, or are not aligned.
    """

    __slots__ = ("_memory", "_peer", "_staging", "_stream", "size")

    def __init__(
        self,
        buffer: Buffer,
        data_offset: int,
        data_size: int,
        cons_offset: int,
        prod_offset: int,
        *,
        domid: int | None = None,
    ) -> None:
        memory = ffi.from_buffer("char[]", buffer, True)
        stream = ffi.new("struct xl_stream *")
        offsets = (data_offset, data_size, cons_offset, prod_offset)
        if min(offsets) < 0 or lib.xl_stream_place(stream, memory, len(memory), *offsets) < 0:
            raise ValueError(
                f"no stream fits: data {data_offset}+{data_size}, cons {cons_offset}, prod {prod_offset}"
                f" in a page of {len(memory)} bytes (the size must be a power of two, indices 4-byte aligned)"
            )
        self._memory: Any = memory
        self._stream: Any = stream
        self._staging: Any = ffi.new("char[]", data_size)
        self._peer = domid
        self.size = data_size

    def write(self, data: Buffer) -> int:
        """Copies in as much as fits and publishes it; call `kick` before the next wait.

        Returns:
            How many bytes went in. Fewer than all means that there was no room at the last look, and that
            the reader notifies when it makes some: kick, wait for an event, and go on with the rest.

        Raises:
            ProtocolError: the indices in the page are impossible; from then on the stream stays broken.
        """
        memory = data if type(data) is bytes else ffi.from_buffer("char[]", data)
        count: int = lib.xl_stream_write(self._stream, memory, len(memory))
        if count < 0:
            self._refuse(count)
        return count

    def read(self, limit: int | None = None) -> bytes:
        """Copies out what is there, each byte once; call `kick` before the next wait.

        Args:
            limit: at most so many bytes.

        Returns:
            The bytes. Before a sleep, read until this is `b""`.

        Raises:
            ProtocolError: the indices in the page are impossible; from then on the stream stays broken.
        """
        most = self.size if limit is None else max(0, min(limit, self.size))
        count: int = lib.xl_stream_read(self._stream, self._staging, most)
        if count < 0:
            self._refuse(count)
        taken: bytes = ffi.buffer(self._staging, count)[:]
        return taken

    def kick(self) -> bool:
        """Returns whether the peer must be notified of what was written or read since the last kick."""
        return bool(lib.xl_stream_kick(self._stream))

    @property
    def available(self) -> int:
        """How many bytes can be read.

        Raises:
            ProtocolError: the indices in the page are impossible.
        """
        count: int = lib.xl_stream_available(self._stream)
        if count < 0:
            self._refuse(count)
        return count

    @property
    def space(self) -> int:
        """How many bytes can be written.

        Raises:
            ProtocolError: the indices in the page are impossible.
        """
        return self.size - self.available

    @property
    def broken(self) -> bool:
        """Whether the indices were impossible once. Sticky until `reset`."""
        reason: int = self._stream.broken
        return reason == 1

    def reset(self) -> None:
        """Empties the stream and mends it; for the end that owns the reset, while the other end waits."""
        result: int = lib.xl_stream_reset(self._stream)
        if result < 0:
            self._refuse(result)

    def close(self) -> None:
        """Lets go of the page; idempotent. Afterwards every operation but statistics and kick refuses."""
        lib.xl_stream_close(self._stream)
        ffi.release(self._memory)

    def __del__(self) -> None:
        # As SharedWord's.
        if hasattr(self, "_memory"):
            self.close()

    def statistics(self) -> StreamStatistics:
        """Returns the counters of this end."""
        return StreamStatistics(self._stream.written, self._stream.taken)

    def _refuse(self, result: int) -> NoReturn:
        if result == -errno.EBADF:
            raise ValueError("the stream is closed")
        stream = self._stream
        raise ProtocolError(
            f"byte ring broken: prod {stream.bad_prod} is not within {stream.size} of cons {stream.bad_cons}",
            self._peer,
        )


class SharedWord:
    """One u32 of a shared page, read with acquire and written with a full barrier.

    Args:
        buffer: the page, writable.
        offset: in bytes, a multiple of four.

    Raises:
        ValueError: there is no aligned u32 at that offset.
    """

    __slots__ = ("_memory", "_nbytes", "_offset")

    def __init__(self, buffer: Buffer, offset: int) -> None:
        self._memory: Any = ffi.from_buffer("char[]", buffer, True)
        self._nbytes = len(self._memory)
        self._offset = offset
        if offset < 0 or lib.xl_word_get(self._memory, self._nbytes, offset) < 0:
            raise ValueError(f"no aligned u32 at {offset} in a page of {self._nbytes} bytes")

    def get(self) -> int:
        """Returns the word as it is now."""
        value: int = lib.xl_word_get(self._memory, self._nbytes, self._offset)
        if value < 0:
            raise ValueError("the page is closed")
        return value

    def set(self, value: int) -> None:
        """Writes the word; what was written before is visible to whoever sees it."""
        if lib.xl_word_set(self._memory, self._nbytes, self._offset, value) < 0:
            raise ValueError("the page is closed")

    def close(self) -> None:
        """Lets go of the page; idempotent."""
        self._nbytes = 0  # the bounds check in C refuses from now on
        ffi.release(self._memory)

    def __del__(self) -> None:
        # A collector that meets page and word in one cycle may clear the page first, and CPython then crashes
        # over the view that is still exported. Finalizers run before anything is cleared.
        if hasattr(self, "_memory"):
            self.close()
