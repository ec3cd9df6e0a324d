"""A store daemon with a socket, a log and rings, whose lives are short; started and killed by `Lives`.

There is no hypervisor: the pages of domains are memfds, their event channels pairs of pipes, and all
of them are handed to each life of the daemon, as the toolstack does it for a machine's.

A daemon is killed from outside, or given a fate: to kill itself `before`, `after` or with half of its
so-many-th write to the log done (`torn`), which is where microseconds count. See `short_lived_store`.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.unit.store.live import PipeChannel
from xenlike.domain.events import EventChannel
from xenlike.domain.store_sync import SyncStore

ROOT = Path(__file__).resolve().parents[2]
PORT = 5
PLACES = ("before", "torn", "after")


class Lives:
    """One store and its daemons, one after the other.

    Args:
        folder: for the socket.
        domids: domains that have a ring.
    """

    def __init__(self, folder: Path, domids: tuple[int, ...]) -> None:
        self.path = folder / "socket"
        self.count = 0
        self.pages: dict[int, mmap.mmap] = {}
        self._page_fds = {domid: os.memfd_create(f"page-{domid}") for domid in domids}
        for domid, fd in self._page_fds.items():
            os.ftruncate(fd, 4096)
            self.pages[domid] = mmap.mmap(fd, 4096)
        self._log = os.memfd_create("log")
        self._channels: dict[int, PipeChannel] = {}
        self._daemon: subprocess.Popen[bytes] | None = None
        self.born = trio.Event()

    def start(self, place: str = "", writes: int = 0) -> None:
        """Starts a daemon; returns when it listens and has taken up its rings.

        Args:
            place: where it is to die, one of `PLACES`; empty for nowhere.
            writes: at the how-many-th write to the log.
        """
        theirs: list[PipeChannel] = []
        words = []
        for domid, page in self._page_fds.items():
            self._channels[domid], end = PipeChannel.pair()
            theirs.append(end)
            words.append(f"{domid}:{page}:{end.rx_fd}:{end.tx_fd}")
        fds = [self._log, *self._page_fds.values(), *(fd for end in theirs for fd in (end.rx_fd, end.tx_fd))]
        self._daemon = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.faults.short_lived_store",
                str(self.path),
                str(self._log),
                place,
                str(writes),
                *words,
            ],
            cwd=ROOT,
            pass_fds=fds,
            stdout=subprocess.PIPE,
        )
        for end in theirs:
            end.close()
        assert self._daemon.stdout is not None
        assert self._daemon.stdout.readline() == b"ready\n"
        self.count += 1
        born, self.born = self.born, trio.Event()
        born.set()

    def kill(self) -> None:
        """Ends the daemon as the kernel does it: nothing is said to anybody."""
        if self._daemon is not None:
            self._daemon.kill()
            self._bury()

    async def death(self) -> None:
        """Waits until the daemon has met its fate."""
        assert self._daemon is not None
        await trio.to_thread.run_sync(self._daemon.wait)
        self._bury()

    def _bury(self) -> None:
        if self._daemon is not None:
            assert self._daemon.wait() == -signal.SIGKILL
            assert self._daemon.stdout is not None
            self._daemon.stdout.close()
            self._daemon = None

    def channel(self, domid: int) -> EventChannel:
        """Returns a domain's end of its event channel to the daemon of now."""
        return self._channels.pop(domid)  # type: ignore[return-value]

    def reconnect(self, domid: int) -> Callable[[], Awaitable[EventChannel]]:
        """Returns what waits for the next daemon, as `Store.over_ring` wants it."""

        async def wait() -> EventChannel:
            while domid not in self._channels:
                await self.born.wait()
            return self.channel(domid)

        return wait

    def ask(self) -> SyncStore:
        """Connects to the daemon of now."""
        return SyncStore(self.path)

    def close(self) -> None:
        """Lets go of everything."""
        self.kill()
        for channel in self._channels.values():
            channel.close()
        for page in self.pages.values():
            page.close()
        for fd in (self._log, *self._page_fds.values()):
            os.close(fd)


@contextmanager
def lives(folder: Path, domids: tuple[int, ...]) -> Iterator[Lives]:
    """Yields a store without a daemon yet."""
    made = Lives(folder, domids)
    try:
        yield made
    finally:
        made.close()
