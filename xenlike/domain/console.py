"""A guest's end of its console ring: what it prints, and what is typed to it.

Output is bytes in a ring of 2 KiB that the console's server empties. Where that ring is full the writer
waits for room, but never for long: a server that has stopped reading must not stop the guest.
"""

from __future__ import annotations

import io
import os
import select
from collections.abc import AsyncIterator

from xenlike.domain.events import EventChannel
from xenlike.errors import PeerGone, PortClosed, ProtocolError
from xenlike.ring.stream import ConsoleStreams

# How long one write may wait for room in all; what is left then is dropped.
PATIENCE_MS = 1000


class Console:
    """The console of this domain.

    Args:
        page: its ring's page, shared with the server.
        channel: its event channel.
    """

    def __init__(self, page: memoryview, channel: EventChannel) -> None:
        self._streams = ConsoleStreams(page)
        self._channel = channel
        self.dropped = 0

    def write(self, data: bytes) -> None:
        """Prints bytes; waits up to a second for a full ring, and drops the rest."""
        waited = False
        while data:
            try:
                sent = self._streams.output.write(data)
            except ProtocolError:
                break
            data = data[sent:]
            if self._streams.kick():
                self._channel.notify()
            if not data:
                return
            if self._channel.hung_up or self._channel.rx_fd < 0 or (waited and not sent):
                break
            poll = select.poll()
            poll.register(self._channel.rx_fd, select.POLLIN)
            waited = not poll.poll(PATIENCE_MS)
            self._channel.drain()
        self.dropped += len(data)

    async def read(self) -> AsyncIterator[bytes]:
        """Yields what is typed, as it comes; ends when the server is gone."""
        while True:
            data = self._streams.input.read(1024)
            if data:
                if self._streams.kick():
                    self._channel.notify()
                yield data
                continue
            try:
                await self._channel.wait()
            except (PeerGone, PortClosed):
                return

    def text(self) -> io.TextIOWrapper:
        """A text file for `sys.stdout`: each line goes out as it ends."""
        return io.TextIOWrapper(io.BufferedWriter(_Raw(self), 1024), "utf-8", "replace", line_buffering=True)


class _Raw(io.RawIOBase):
    def __init__(self, console: Console) -> None:
        self._console = console

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._console.write(bytes(view))
        return len(view)

    def fileno(self) -> int:
        # Descriptor 1 goes to the same place by another way, so subprocesses and faulthandler work.
        return 1

    def isatty(self) -> bool:
        return False


def emergency(text: str) -> None:
    """Says something where there is no console ring (yet)."""
    os.write(2, text.encode(errors="replace"))
