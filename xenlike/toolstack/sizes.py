"""Sizes as people write them."""

from __future__ import annotations

import re

from xenlike.errors import ConfigError

PAGE_SIZE = 4096
_SIZE = re.compile(r"\s*([0-9]+)\s*([kmgt]?)(i?b)?\s*", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(size: int | str, what: str = "size") -> int:
    """Returns bytes: `parse_size("64M") == 64 << 20`; K, M, G and T are powers of 1024, as in xl.

    Raises:
        ConfigError: it is no size, or not positive.
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match is None:
            raise ConfigError(
                f"{what} {size!r} is not a size: write bytes, or a number with K, M, G or T, such as '64M'"
            )
        number = int(match[1]) * _UNITS[match[2].lower()]
    else:
        number = size
    if number <= 0:
        raise ConfigError(f"{what} is {size!r}, and must be more than nothing")
    return number


def parse_memory(size: int | str) -> int:
    """Returns a domain's memory in bytes, a whole number of pages.

    Raises:
        ConfigError: it is no size, or not a multiple of 4096.
    """
    number = parse_size(size, "memory")
    if number % PAGE_SIZE:
        raise ConfigError(f"memory {size!r} is not a whole number of pages of {PAGE_SIZE} bytes")
    return number


def format_size(number: int) -> str:
    """Returns a size for people, exact where a unit divides it: `format_size(64 << 20) == "64M"`."""
    for unit in "TGMK":
        factor = _UNITS[unit.lower()]
        if number >= factor:
            return f"{number // factor}{unit}" if number % factor == 0 else f"{number / factor:.1f}{unit}"
    return str(number)
