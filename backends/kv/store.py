"""A key-value store in memory: pure, but for the event by which watches hear of a change."""

from __future__ import annotations

import secrets

import trio

from xenlike.io.kv import KVIF_RSP_NO_SPACE, KVIF_RSP_NOT_FOUND, KVIF_RSP_QUOTA

MAX_KEYS = 4096
MAX_BYTES = 16 << 20


class Refused(Exception):
    """The store cannot do it; `status` is what the guest is told."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Store:
    """Values by their keys, each with its version.

    Attributes:
        epoch: a number of this store's own. Versions count on from it, so none of a former store's comes again.
        changed: set at the next change, and replaced by another then.
    """

    def __init__(self) -> None:
        self.epoch = 1 + secrets.randbits(62)
        self.changed = trio.Event()
        self._last = self.epoch
        self._bytes = 0
        self._entries: dict[bytes, tuple[int, bytes]] = {}

    def version(self, key: bytes) -> int:
        """Returns a key's version, 0 where it does not exist."""
        entry = self._entries.get(key)
        return 0 if entry is None else entry[0]

    def get(self, key: bytes) -> tuple[int, bytes]:
        """Returns version and value."""
        try:
            return self._entries[key]
        except KeyError:
            raise Refused(KVIF_RSP_NOT_FOUND) from None

    def put(self, key: bytes, value: bytes) -> int:
        """Keeps a value; returns its version."""
        if key not in self._entries and len(self._entries) >= MAX_KEYS:
            raise Refused(KVIF_RSP_QUOTA)
        _, before = self._entries.get(key, (0, b""))
        if self._bytes + len(value) - len(before) > MAX_BYTES:
            raise Refused(KVIF_RSP_NO_SPACE)
        self._bytes += len(value) - len(before)
        self._last += 1
        self._entries[key] = self._last, value
        self._tell()
        return self._last

    def delete(self, key: bytes) -> None:
        """Forgets a key."""
        _, value = self.get(key)
        self._bytes -= len(value)
        del self._entries[key]
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
