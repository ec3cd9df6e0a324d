"""Domain 0's end of every console: shows what a domain prints, with its name, and passes on what is typed.

Two ways lead here. The console ring is the domain's own; what a process writes to descriptors 1 and 2
without knowing of it (an executable's stdio, an interpreter's last words) comes through a pipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import trio

from xenlike.domain.domain import Domain
from xenlike.errors import GrantError, HypercallError, HypervisorGone, PeerGone, PortClosed, ProtocolError
from xenlike.ring.stream import ConsoleStreams

Sink = Callable[[str, bytes], None]
"""Takes a domain's name and some of its output, as it came."""


class LinePrinter:
    """A sink that prints whole lines as `name | line`.

    Args:
        write: where the text goes; standard output by default.
    """

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or self._stdout
        self._partial: dict[str, bytes] = {}

    @staticmethod
    def _stdout(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def __call__(self, name: str, data: bytes) -> None:
        """Prints the lines that are whole; at the end (no data) also what is left."""
        *lines, rest = (self._partial.get(name, b"") + data).split(b"\n")
        if not data and rest:
            lines, rest = [*lines, rest], b""
        self._partial[name] = rest
        for line in lines:
            self._write(f"{name} | {line.decode(errors='replace')}\n")


class GuestConsole:
    """One domain's console, served until the domain is gone and all it said was read.

    Args:
        dom0: who serves.
        domid: whose it is.
        port: its console port.
        stdio: the read end of its pipe, or -1.
        sink: takes the output; called with `b""` at the end.
    """

    def __init__(self, dom0: Domain, domid: int, port: int, stdio: int, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._stdio = stdio
        self._mapping = dom0.grants.map(domid, [0])
        try:
            self._channel = dom0.events.bind(domid, port)
        except BaseException:
            self._mapping.unmap()
            raise
        self._streams = ConsoleStreams(self._mapping.pages[0], domid=domid)
        self.finished = trio.Event()

    async def run(self) -> None:
        """Serves both ways until their other ends are closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve_pipe)
                nursery.start_soon(self._serve_ring)
        finally:
            self.close()
            self._sink(b"")
            self.finished.set()

    async def _serve_ring(self) -> None:
        gone = False
        while True:
            try:
                data = self._streams.output.read()
            except ProtocolError:
                # It broke its own console; the pipe still works.
                return
            if data:
                self._sink(data)
                if self._streams.kick():
                    self._channel.notify()
                # One that never stops talking must let others in.
                await trio.lowlevel.checkpoint()
                continue
            if gone:
                return
            try:
                await self._channel.wait()
            except PeerGone:
                # What it wrote before its end is still in the page.
                gone = True
            except PortClosed:
                return

    async def _serve_pipe(self) -> None:
        if self._stdio < 0:
            return
        fd, self._stdio = self._stdio, -1
        async with trio.lowlevel.FdStream(fd) as pipe:
            async for data in pipe:
                self._sink(bytes(data))

    async def type(self, data: bytes) -> None:
        """Types something; waits for room in the ring."""
        while data:
            try:
                sent = self._streams.input.write(data)
            except (ProtocolError, ValueError):
                # It broke its console, or that is closed.
                return
            data = data[sent:]
            if self._streams.kick():
                self._channel.notify()
            if data:
                with trio.move_on_after(1):
                    await self._channel.wait()

    def close(self) -> None:
        """Lets go of the ring; idempotent."""
        if self._stdio >= 0:
            os.close(self._stdio)
            self._stdio = -1
        # Before the page it lies in: the interpreter's last collection knows no order among the two.
        self._streams.close()
        try:
            self._channel.close()
            self._mapping.unmap()
        except (HypervisorGone, HypercallError, GrantError, OSError):
            # The machine is going down; the kernel takes the memory back.
            pass
