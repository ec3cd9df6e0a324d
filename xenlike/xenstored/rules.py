"""Who may do what, which paths exist, and how much one domain may hold.

A refusal is one of Xen's error names (`XSD_ERRORS`), raised as `Refused` and sent to the client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from xenlike.abi.xs_wire import XENSTORE_REL_PATH_MAX
from xenlike.domain.store_wire import ACCESS_BITS, READ, WRITE, Perm

__all__ = [
    "ALL",
    "OWNER",
    "Perms",
    "Quotas",
    "Refused",
    "access",
    "atoi",
    "is_valid_path",
    "parent_of",
    "parse_perms",
    "show_perms",
    "unhand",
]

OWNER = 4
ALL = READ | WRITE | OWNER

Perms = tuple[Perm, ...]
"""A node's permissions: the owner's entry, then the access list.

An entry whose letter is a capital means nobody: the domain that it names was not there when it was
made, or has ended since. It is still shown, and inherited, until somebody sets other permissions.
"""

_PATH = re.compile(rb"/|(?:/[A-Za-z0-9_@-]+)+")
_LOCAL = re.compile(rb"/local/domain/(?:-\d{1,4}|\d{1,5})/")
_NUMBER = re.compile(rb"\s*([+-]?\d+)")


class Refused(Exception):
    """A request is answered with this error name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass
class Quotas:
    """What an unprivileged domain may hold; Xen's defaults, and Xen's comparisons.

    Xen compares with `>` for watches and transactions, so one more than the number fits, and with
    `>=` for a node's size and for memory, so one byte less does.

    `memory` counts the bytes of the nodes that a domain owns, of its watches, of what its transactions
    have looked at, and of the messages that it has not read; 0 is no limit. `outstanding` counts requests whose
    answer, or an event that they caused, has not been read. A domain at either limit is not read from.
    """

    nodes: int = 1000
    watches: int = 128
    transactions: int = 10
    transaction_nodes: int = 1024
    node_size: int = 2048
    perms: int = 5
    memory: int = 2621440
    outstanding: int = 20


def is_valid_path(path: bytes) -> bool:
    """Says whether a node could have this absolute path.

    A domain's own subtree does not count against the length, so that what is a valid relative path
    for one domain is valid for every other.
    """
    if not _PATH.fullmatch(path):
        return False
    if len(path) <= XENSTORE_REL_PATH_MAX:
        return True
    local = _LOCAL.match(path)
    return len(path) <= XENSTORE_REL_PATH_MAX + (local.end() if local else 0)


def parent_of(path: bytes) -> bytes:
    """Returns the path one level up; the root is its own parent."""
    return path[: path.rfind(b"/")] or b"/"


def access(perms: Perms, generation: int, domid: int, target: int | None, dead: Mapping[int, int]) -> int:
    """Returns what an unprivileged domain may do with a node, as bits of `READ`, `WRITE`, `OWNER`.

    Args:
        perms: the node's permissions.
        generation: the node's generation.
        domid: who asks.
        target: the domain that the asking one acts for, as a stub domain does, or None.
        dead: generation at which a domid last ended. An older entry meant another domain.
    """
    owner = perms[0]
    if owner.domid == domid or (target is not None and owner.domid == target):
        return ALL
    for entry in perms[1:]:
        if entry.domid == domid or entry.domid == target:
            bits = ACCESS_BITS.get(entry.access)
            if bits is None or generation <= dead.get(entry.domid, -1):
                continue
            return bits
    return ACCESS_BITS[owner.access]


def parse_perms(entries: list[bytes]) -> Perms:
    """Reads the permissions of a SET_PERMS message.

    Raises:
        Refused: EINVAL for what is not a permission.
    """
    try:
        return tuple(Perm.parse(entry.decode("ascii")) for entry in entries)
    except ValueError:
        raise Refused("EINVAL") from None


def unhand(perm: Perm) -> Perm:
    """Returns an entry of an access list that looks the same and means nobody."""
    return Perm(perm.domid, perm.access.upper())


def show_perms(perms: Perms) -> bytes:
    """Returns permissions as the wire has them, each with a NUL."""
    return "".join([f"{perm.access.lower()}{perm.domid}\0" for perm in perms]).encode()


def atoi(text: bytes) -> int:
    """Reads a number as C does, garbage being 0, into 32 unsigned bits."""
    match = _NUMBER.match(text)
    return int(match[1]) & 0xFFFFFFFF if match else 0
