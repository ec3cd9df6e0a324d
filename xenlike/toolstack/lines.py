"""Lines from a byte stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

_CHUNK = 64 << 10


class LineReader:
    """Iterates over the lines of a stream, without their newlines; what comes after the last newline is dropped.

    Args:
        stream: read from as lines are asked for.
        max_line: bytes; a longer line raises `ValueError`.
    """

    def __init__(self, stream: trio.abc.ReceiveStream, max_line: int) -> None:
        self._stream = stream
        self._max_line = max_line
        self._buffer = bytearray()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Returns itself: several loops over one reader go on where the last one stopped."""
        return self

    async def __anext__(self) -> bytes:
        """Returns the next line. A checkpoint; cancellation loses nothing."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > self._max_line:
                raise ValueError(f"a line has more than {self._max_line} bytes")
            chunk = await self._stream.receive_some(_CHUNK)
            if not chunk:
                raise StopAsyncIteration
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
