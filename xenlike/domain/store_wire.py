"""The xenstore wire, as both ends see it: frames, and permissions as values.

    | type u32 | req_id u32 | tx_id u32 | len u32 | len bytes |        (Xen, io/xs_wire.h)

A reply carries the request's type, `req_id` and `tx_id`, or `XS_ERROR` and the name of an errno. A
watch event comes unasked, with both ids zero. Nothing here does I/O.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from xenlike.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from xenlike.errors import ProtocolError

__all__ = ["ACCESS_BITS", "Frame", "FrameReader", "HEADER", "PAYLOAD_MAX", "Perm", "READ", "WRITE", "frame"]

HEADER = struct.Struct("<4I")
_UNPACK_FROM = HEADER.unpack_from
PAYLOAD_MAX = XENSTORE_PAYLOAD_MAX

READ = 1
WRITE = 2
ACCESS_BITS = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}

# What C's strtol() with base 0 takes, which is what Xen parses domids with.
_PERM = re.compile(r"([nrwb])\s*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)")

Frame = tuple[int, int, int, bytes]
"""A received message: type, req_id, tx_id, payload."""


class Perm(NamedTuple):
    """One entry of a node's permissions.

    The first entry of a node names its owner, who may do everything, and what everybody may do who
    is not named by a later entry.

    Args:
        domid: whom the entry is about.
        access: `n` nothing, `r` read, `w` write, `b` both.
    """

    domid: int
    access: str = "n"

    @classmethod
    def parse(cls, text: str) -> Perm:
        """Reads the wire's form, such as `b7`.

        Raises:
            ValueError: not a letter of `nrwb` followed by a domid.
        """
        match = _PERM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a permission: write a letter of n r w b and a domid, as in r3")
        access, sign, digits = match.groups()
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
        number = int(digits, 8 if octal else 0) * (-1 if sign == "-" else 1)
        return cls(((number + 0x80000000) & 0xFFFFFFFF) - 0x80000000, access)

    def __str__(self) -> str:
        return f"{self.access}{self.domid}"


def frame(kind: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """Returns one message, ready to send."""
    return HEADER.pack(kind, req_id, tx_id, len(payload)) + payload


class FrameReader:
    """Cuts a stream of bytes into messages.

    It holds what was fed and not taken, so feed it only while `take` returns None: then it never
    holds more than one message and one feed.
    """

    __slots__ = ("_buffer", "_offset")

    def __init__(self) -> None:
        self._buffer = b""
        self._offset = 0

    def feed(self, data: bytes) -> None:
        """Appends received bytes."""
        if self._offset < len(self._buffer):
            data = self._buffer[self._offset :] + data
        self._buffer = data
        self._offset = 0

    def take(self) -> Frame | None:
        """Returns the next whole message, or None until more bytes are fed.

        Raises:
            ProtocolError: the header announces more than 4096 bytes; the stream is lost.
        """
        buffer, offset = self._buffer, self._offset
        begin = offset + 16
        if begin > len(buffer):
            return None
        kind, req_id, tx_id, length = _UNPACK_FROM(buffer, offset)
        if length > PAYLOAD_MAX:
            raise ProtocolError(f"message of {length} bytes announced, the most is {PAYLOAD_MAX}")
        end = begin + length
        if end > len(buffer):
            return None
        self._offset = end
        return kind, req_id, tx_id, buffer[begin:end]

    def clear(self) -> None:
        """Forgets everything, as a reconnection does."""
        self._buffer = b""
        self._offset = 0
