"""What the disks of these tests hold: every sector says which disk, which place and which version it is.

A sector that was never written is zero, which is version 0. A byte that is anything else than what was written there,
at any time, is a wrong byte; which of the versions it may be is for the test to say.
"""

from __future__ import annotations

import struct

SECTOR = 512
_HEAD = struct.Struct("<QQQQ")
_MASK = (1 << 64) - 1
_EMPTY = bytes(SECTOR)


class WrongByte(AssertionError):
    """A sector holds something that was never written there."""


def _sector(seed: int, number: int, version: int) -> bytes:
    mix = ((seed ^ number << 17) * 0x9E3779B97F4A7C15 + version * 0xD1B54A32D192ED03) & _MASK
    return _HEAD.pack(seed, number, version, mix) * (SECTOR // _HEAD.size)


def make(seed: int, offset: int, length: int, version: int) -> bytes:
    """Returns `length` bytes for `offset`, both whole sectors."""
    first = offset // SECTOR
    return b"".join([_sector(seed, number, version) for number in range(first, first + length // SECTOR)])


def versions(data: bytes, seed: int, offset: int) -> list[int]:
    """Returns the version of each sector.

    Raises:
        WrongByte: one is no version of what belongs there.
    """
    found = []
    for at in range(0, len(data), SECTOR):
        sector, number = data[at : at + SECTOR], (offset + at) // SECTOR
        if sector == _EMPTY:
            found.append(0)
            continue
        version = _HEAD.unpack_from(sector)[2]
        if sector != _sector(seed, number, version):
            raise WrongByte(f"sector {number} of disk {seed:#x} holds {sector[:64].hex()}...")
        found.append(version)
    return found
