"""Virtual disk names and numbers, by the rules of xen-vbd-interface(7).

The number of a disk names its directory (`device/vbd/51712`) and tells a guest what to call it:

    202 << 8 | disk << 4 | partition            xvd, disks and partitions 0 to 15
    1 << 28 | disk << 8 | partition             xvd beyond that, disks to 2^20 - 1, partitions to 255
    8 << 8 | disk << 4 | partition              sd, disks and partitions 0 to 15
    3 << 8 | disk << 6 | partition              hd, disks 0 and 1, partitions 0 to 63
    22 << 8 | (disk - 2) << 6 | partition       hd, disks 2 and 3

Partition 0 is the whole disk. A name is letters in base 26 (`xvda`, `xvdz`, `xvdaa`), `d<disk>` or
`d<disk>p<partition>`, or the number itself, decimal or with `0x`.
"""

from __future__ import annotations

import re

_XVD, _SD, _HD0, _HD1 = 202, 8, 3, 22
_EXTENDED = 1 << 28
_INT_MAX = (1 << 31) - 1

_LETTERS = re.compile(r"(xvd|sd|hd)([a-z]+)(0|[1-9][0-9]*)?", re.ASCII)
_NUMBERED = re.compile(r"d(0|[1-9][0-9]*)(?:p(0|[1-9][0-9]*))?", re.ASCII)
_PLAIN = re.compile(r"0x[0-9a-fA-F]+|0|[1-9][0-9]*", re.ASCII)
_LIMITS = {"xvd": ((1 << 20) - 1, 255), "sd": (15, 15), "hd": (3, 63)}


def parse_vdev(name: str) -> int:
    """Returns the device number for a disk's name: `parse_vdev("xvda") == 51712`.

    Raises:
        ValueError: it is no name that xl would take, or its disk or partition is out of range.
    """
    if match := _LETTERS.fullmatch(name):
        kind, letters, digits = match.groups()
        return _number(name, kind, _disk_index(letters), int(digits or 0))
    if match := _NUMBERED.fullmatch(name):
        return _number(name, "xvd", int(match[1]), int(match[2] or 0))
    if _PLAIN.fullmatch(name):
        number = int(name, 0)
        if number <= _INT_MAX:
            return number
        raise ValueError(f"vdev {name!r}: a device number is at most {_INT_MAX}")
    raise ValueError(f"vdev {name!r} is not a disk name; try xvda, xvdb, sda, hda, xvda1 or a number")


def vdev_name(number: int) -> str:
    """Returns the name of a device number: `vdev_name(51728) == "xvdb"`.

    A number outside the known encodings is its own name, in decimal, as xl prints it.

    Raises:
        ValueError: no device has that number.
    """
    if not 0 <= number <= _INT_MAX:
        raise ValueError(f"a device number is 0 to {_INT_MAX}, not {number}")
    name = _name(number)
    # The extended form can also spell low disks, whose names mean another number.
    return name if name and parse_vdev(name) == number else str(number)


def _name(number: int) -> str:
    major, minor = number >> 8, number & 0xFF
    if number >> 28 == 1:
        return _join("xvd", major & 0xFFFFF, minor)
    if major == _XVD:
        return _join("xvd", minor >> 4, minor & 15)
    if major == _SD:
        return _join("sd", minor >> 4, minor & 15)
    if major in (_HD0, _HD1):
        return _join("hd", (minor >> 6 & 1) + (2 if major == _HD1 else 0), minor & 63)
    return ""


def _number(name: str, kind: str, disk: int, partition: int) -> int:
    max_disk, max_partition = _LIMITS[kind]
    if disk > max_disk:
        raise ValueError(f"vdev {name!r}: {kind} disks end at {_join(kind, max_disk, 0)}")
    if partition > max_partition:
        raise ValueError(f"vdev {name!r}: {kind} partitions end at {max_partition}")
    if kind == "hd":
        return (_HD0 if disk < 2 else _HD1) << 8 | (disk & 1) << 6 | partition
    if kind == "sd":
        return _SD << 8 | disk << 4 | partition
    if disk <= 15 and partition <= 15:
        return _XVD << 8 | disk << 4 | partition
    return _EXTENDED | disk << 8 | partition


def _disk_index(letters: str) -> int:
    index = -1
    for letter in letters:
        index = (index + 1) * 26 + ord(letter) - ord("a")
        if index > _INT_MAX:
            break  # out of every range already; the caller says so
    return index


def _join(kind: str, disk: int, partition: int) -> str:
    letters = ""
    while disk >= 0:
        letters = chr(ord("a") + disk % 26) + letters
        disk = disk // 26 - 1
    return f"{kind}{letters}{partition or ''}"
