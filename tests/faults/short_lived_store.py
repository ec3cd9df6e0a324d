"""The daemon of `store_lives`: as a process of its own, and without anything that takes long to import."""

from __future__ import annotations

import functools
import mmap
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from xenlike import _core
from xenlike.xenstored import server as server_module
from xenlike.xenstored.log import Log
from xenlike.xenstored.main import _listening

COMPACT_AT = 20_000
"""Bytes: small, so that some of the deaths come in the middle of a compaction."""


class Channel:
    """The daemon's end of an event channel."""

    def __init__(self, rx: int, tx: int) -> None:
        self.rx_fd = rx
        self._tx_fd = tx

    def notify(self) -> None:
        _core.notify(self._tx_fd)

    def drain(self) -> bool:
        return _core.drain(self.rx_fd)

    def close(self) -> None:
        os.close(self.rx_fd)
        os.close(self._tx_fd)


def doomed(place: str, writes: int) -> Callable[..., int]:
    """Returns an `os.pwrite` that ends the process."""
    count = 0
    original = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        nonlocal count
        count += 1
        if count == writes and place != "after":
            if place == "torn":
                original(fd, data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        done = original(fd, data, offset)
        if count == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return pwrite


def serve(path: str, log: str, place: str, writes: str, *rings: str) -> None:
    """Is the daemon; see `Lives.start` for its arguments."""
    ends = {int(domid): [int(fd) for fd in fds] for domid, *fds in (word.split(":") for word in rings)}

    def map_page(domid: int) -> tuple[memoryview, Callable[[], None]]:
        if domid not in ends:
            raise PermissionError(13, "not granted")
        return memoryview(mmap.mmap(ends[domid][0], 4096)), lambda: None

    def bind(domid: int, port: int) -> Channel:
        return Channel(*ends[domid][1:])

    setattr(server_module, "Log", functools.partial(Log, compact_at=COMPACT_AT))  # noqa: B010
    server = server_module.Server()
    server.use_rings(map_page, bind)
    server.use_log(int(log))
    with _listening(Path(path)) as sock:
        server.listen(sock)
        if place:
            os.pwrite = doomed(place, int(writes))
        print("ready", flush=True)
        server.run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
