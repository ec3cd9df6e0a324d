"""Who waits for a response, and how it is matched with its request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xenlike.abi.struct import Struct

Entries = bytes | bytearray | memoryview
"""Packed messages, one after another without gaps."""

_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def id_place(messages: Sequence[type[Struct]]) -> tuple[int, str]:
    """Returns the offset and the `struct` code of the messages' member `id`.

    Raises:
        TypeError: a message has none, or they do not agree on its place.
    """
    places = set()
    for message in messages:
        member = message.__layout__.fields.get("id")
        if member is None or not member.is_scalar or member.low != 0:
            raise TypeError(f"{message.__name__} needs an unsigned member `id`, by which responses are matched")
        places.add((member.offset, _CODES[member.size]))
    if len(places) != 1:
        raise TypeError(f"{', '.join(m.__name__ for m in messages)} differ in the place of their `id`")
    return places.pop()


class Completion(Protocol):
    """Who is told what became of requests; see `FrontQueue.post`."""

    def done(self, index: int, response: bytes) -> None:
        """Request number `index` was answered. Must not raise."""
        ...

    def fail(self, error: Exception) -> None:
        """The connection ended first; told once, however many requests were in flight. Must not raise."""
        ...


class Call:
    """Requests that one task waits for together."""

    __slots__ = ("error", "remaining", "responses", "task")

    def __init__(self, count: int) -> None:
        self.remaining = count
        self.responses = [b""] * count
        self.error: Exception | None = None
        self.task: trio.lowlevel.Task | None = None

    def done(self, index: int, response: bytes) -> None:
        """Takes a response; the last one wakes the task."""
        self.responses[index] = response
        self.remaining -= 1
        if not self.remaining:
            self._wake()

    def fail(self, error: Exception) -> None:
        """Wakes the task to an error."""
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None


class Forgotten:
    """Takes the responses of requests whose caller was cancelled; the index is the id."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.waiting: list[tuple[set[int], Callable[[], None]]] = []

    def done(self, index: int, response: bytes) -> None:
        """A request was answered after all; calls back who waited for the last of some."""
        self.ids.discard(index)
        for ids, callback in self.waiting:
            ids.discard(index)
            if not ids:
                callback()
        self.waiting = [entry for entry in self.waiting if entry[0]]

    def fail(self, error: Exception) -> None:
        """Nothing will be answered any more, so everything is settled."""
        self.ids.clear()
        waiting, self.waiting = self.waiting, []
        for _, callback in waiting:
            callback()


@dataclass(frozen=True, slots=True)
class FrontQueueStatistics:
    """What a queue has done so far.

    Attributes:
        requests: sent.
        responses: received.
        notifications: sent to the backend.
        in_flight: requests without a response yet.
        forgotten: those of them whose caller was cancelled.
        full: times a caller had to wait for room in the ring.
        spins_hit: spins that brought responses.
        spins_missed: spins that brought none.
        sleeps: times the receive task slept on the event channel.
        spurious: wakes that brought nothing.
    """

    requests: int
    responses: int
    notifications: int
    in_flight: int
    forgotten: int
    full: int
    spins_hit: int
    spins_missed: int
    sleeps: int
    spurious: int
