"""Watches, found by the paths they are on: a change costs the depth of its path, not their number."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenlike.xenstored.sessions import Session

__all__ = ["Watch", "WatchTable"]

_ORDER = attrgetter("order")


class Watch:
    """One registration.

    Args:
        session: who is told.
        path: absolute, or the name of a special event.
        token: sent along, for the client to know the watch by.
        prefix: how much of a path the client does not see, because it registered a relative one.
        order: counts registrations; events go out in this order.
    """

    __slots__ = ("session", "path", "token", "prefix", "order")

    def __init__(self, session: Session, path: bytes, token: bytes, prefix: int, order: int) -> None:
        self.session = session
        self.path = path
        self.token = token
        self.prefix = prefix
        self.order = order

    def event(self, path: bytes) -> bytes:
        """Returns the payload of an event about a path at or below the watched one."""
        return path[self.prefix :] + b"\0" + self.token + b"\0"


class WatchTable:
    """All watches of all clients."""

    def __init__(self) -> None:
        self._by_path: dict[bytes, list[Watch]] = {}
        self._count = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_path.values()))

    def add(self, session: Session, path: bytes, token: bytes, prefix: int) -> Watch:
        """Registers a watch; the session has none of this path and token yet."""
        self._count += 1
        watch = Watch(session, path, token, prefix, self._count)
        self._by_path.setdefault(path, []).append(watch)
        session.watches[path, token] = watch
        session.watches_size += len(path) + len(token)
        return watch

    def remove(self, watch: Watch) -> None:
        """Takes a watch away."""
        del watch.session.watches[watch.path, watch.token]
        watch.session.watches_size -= len(watch.path) + len(watch.token)
        others = self._by_path[watch.path]
        others.remove(watch)
        if not others:
            del self._by_path[watch.path]

    def matching(self, path: bytes, exact: bool) -> list[Watch]:
        """Returns the watches that a change concerns, in the order of registration.

        Args:
            path: what changed.
            exact: only those on this very path, as when it goes away with its parent; otherwise
                also those above it.
        """
        by_path = self._by_path
        if not by_path:
            return []
        here = by_path.get(path)
        if exact or path[0] == 0x40:  # @: a special event is below nothing
            return list(here) if here else []
        found = list(here) if here else []
        lists = 1 if here else 0
        cut = path.rfind(b"/")
        while cut > 0:
            path = path[:cut]
            above = by_path.get(path)
            if above:
                found += above
                lists += 1
            cut = path.rfind(b"/")
        if path != b"/":
            above = by_path.get(b"/")
            if above:
                found += above
                lists += 1
        if lists > 1:
            found.sort(key=_ORDER)
        return found
