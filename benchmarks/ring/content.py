"""What is sent: entries of which no two that take turns are equal, and within an entry no two bytes either.

Everybody who receives compares every byte, so that nobody is fast by not moving it.
"""

from __future__ import annotations

from functools import cache

ENTRY = 64

PERIOD = 61
"""Batches that take turns; prime, so that a batch never meets its own stale copy in the same slots."""

SINGLES = 1951
"""Entries that take turns where they go one by one; prime too, and as many bytes as 61 batches of 32."""


def entry(number: int) -> bytes:
    """Returns 64 distinct bytes; no two of the first 32,768 entries are equal."""
    return bytes((number + place * (2 * (number >> 8) + 1)) & 0xFF for place in range(ENTRY))


@cache
def batches(size: int, first: int = 0) -> list[bytes]:
    """Returns `PERIOD` batches of so many entries, all different.

    Args:
        size: entries in a batch.
        first: the number of the first entry; batches of different numbers differ.
    """
    whole = b"".join(map(entry, range(first, first + PERIOD * size)))
    step = size * ENTRY
    return [whole[at : at + step] for at in range(0, len(whole), step)]


@cache
def singles(first: int = 0) -> list[bytes]:
    """Returns `SINGLES` entries, all different."""
    return [entry(number) for number in range(first, first + SINGLES)]


def payload(size: int, number: int) -> bytes:
    """Returns `size` bytes whose every 4 KiB begin differently, and that no other of 251 numbers has."""
    pages = -(-size // 4096)
    filler = bytes((number * 7 + place * 13) & 0xFF for place in range(4088))
    return b"".join([(number << 32 | page).to_bytes(8, "little") + filler for page in range(pages)])[:size]
