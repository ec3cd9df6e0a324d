"""What domains said, for whoever looks in later: the last words of each, and new ones as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio

_BACKLOG = 256  # pieces that a reader may lag behind


class ConsoleLog:
    """Keeps the end of every domain's console output, and passes new output to readers.

    For use inside one trio run. A reader that does not read loses output, never delays a domain.

    Args:
        limit: bytes kept of each domain.
    """

    def __init__(self, limit: int = 64 << 10) -> None:
        self._limit = limit
        self._kept: dict[str, deque[bytes]] = {}
        self._sizes: dict[str, int] = {}
        self._readers: dict[str, set[trio.MemorySendChannel[bytes]]] = {}

    def feed(self, domain: str, data: bytes) -> None:
        """Adds output of a domain. Never waits."""
        if not data:
            return
        kept = self._kept.setdefault(domain, deque())
        kept.append(data[-self._limit :])
        size = self._sizes.get(domain, 0) + len(kept[-1])
        while size > self._limit and len(kept) > 1:
            size -= len(kept.popleft())
        self._sizes[domain] = size
        for reader in self._readers.get(domain, ()):
            try:
                reader.send_nowait(data)
            except (trio.WouldBlock, trio.BrokenResourceError):
                pass

    def end(self, domain: str) -> None:
        """Tells readers of a domain that no more will come; what is kept stays."""
        for reader in self._readers.pop(domain, set()):
            reader.close()

    def forget(self, domain: str) -> None:
        """Ends a domain's readers and drops what is kept."""
        self.end(domain)
        self._kept.pop(domain, None)
        self._sizes.pop(domain, None)

    def tail(self, domain: str) -> bytes:
        """Returns what is kept of a domain's output."""
        return b"".join(self._kept.get(domain, ()))

    @contextmanager
    def subscribe(self, domain: str) -> Iterator[trio.MemoryReceiveChannel[bytes]]:
        """Opens a channel that gives what is kept, then new output, and ends after `end`."""
        send, receive = trio.open_memory_channel[bytes](_BACKLOG)
        if tail := self.tail(domain):
            send.send_nowait(tail)
        readers = self._readers.setdefault(domain, set())
        readers.add(send)
        try:
            yield receive
        finally:
            readers.discard(send)
            send.close()
            receive.close()
