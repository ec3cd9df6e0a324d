"""Byte streams in a shared page, as Xen has them for xenstore and for the console.

A writer writes, kicks, and waits for an event when less than all went in. A reader reads until a read
brings nothing, kicks, and waits. `kick` says whether the peer may be asleep on what changed; a notification too many is
allowed, one too few is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike import _core

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ByteStream(_core.StreamEnd):
    """One direction of a byte stream: `write` at one end, `read` at the other. See `StreamEnd`."""

    __slots__ = ()


class XenstoreStreams:
    """The page between a domain and xenstored (xen/include/public/io/xs_wire.h).

    Args:
        page: the shared page, writable.
        domid: the peer, for error messages.

    Attributes:
        requests: written by the domain, read by xenstored.
        responses: written by xenstored, read by the domain; watch events too.
    """

    CONNECTED = 0
    RECONNECT = 1

    FEATURE_RECONNECTION = 1
    FEATURE_ERROR = 2

    ERROR_NONE = 0
    ERROR_COMM = 1
    ERROR_RINGIDX = 2
    ERROR_PROTO = 3

    __slots__ = ("_connection", "_error", "_features", "_sent", "_taken", "requests", "responses")

    def __init__(self, page: Buffer, *, domid: int | None = None) -> None:
        self.requests = ByteStream(page, 0, 1024, 2048, 2052, domid=domid)
        self.responses = ByteStream(page, 1024, 1024, 2056, 2060, domid=domid)
        self._taken, self._sent = _core.SharedWord(page, 2048), _core.SharedWord(page, 2060)
        self._features = _core.SharedWord(page, 2064)
        self._connection = _core.SharedWord(page, 2068)
        self._error = _core.SharedWord(page, 2072)

    @property
    def server_features(self) -> int:
        """`FEATURE_*` bits, written by xenstored."""
        return self._features.get()

    @server_features.setter
    def server_features(self, bits: int) -> None:
        self._features.set(bits)

    @property
    def connection(self) -> int:
        """`CONNECTED`, or `RECONNECT` from the domain's wish until xenstored has reset the streams."""
        return self._connection.get()

    @connection.setter
    def connection(self, value: int) -> None:
        self._connection.set(value)

    @property
    def error(self) -> int:
        """`ERROR_*`, written by xenstored before it gives up on the connection."""
        return self._error.get()

    @error.setter
    def error(self, value: int) -> None:
        self._error.set(value)

    @property
    def untouched(self) -> bool:
        """Whether xenstored has neither read nor written anything since the page was made, or reset."""
        return self._taken.get() == self._sent.get() == 0

    def reset(self) -> None:
        """Empties both streams; xenstored's part of a reconnection, before it sets `connection` to 0."""
        self.requests.reset()
        self.responses.reset()

    def kick(self) -> bool:
        """Returns whether the peer must be notified of what changed in either stream since the last kick."""
        request, response = self.requests.kick(), self.responses.kick()
        return request or response

    def close(self) -> None:
        """Lets go of the page; idempotent."""
        words = (self._taken, self._sent, self._features, self._connection, self._error)
        for part in (self.requests, self.responses, *words):
            part.close()


class ConsoleStreams:
    """The page between a domain and its console (xen/include/public/io/console.h).

    Args:
        page: the shared page, writable.
        domid: the peer, for error messages.

    Attributes:
        input: what is typed; written by the console, read by the domain.
        output: what is printed; written by the domain, read by the console.
    """

    __slots__ = ("input", "output")

    def __init__(self, page: Buffer, *, domid: int | None = None) -> None:
        self.input = ByteStream(page, 0, 1024, 3072, 3076, domid=domid)
        self.output = ByteStream(page, 1024, 2048, 3080, 3084, domid=domid)

    def kick(self) -> bool:
        """Returns whether the peer must be notified of what changed in either stream since the last kick."""
        typed, printed = self.input.kick(), self.output.kick()
        return typed or printed

    def close(self) -> None:
        """Lets go of the page; idempotent."""
        self.input.close()
        self.output.close()
