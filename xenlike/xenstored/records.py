"""Records of the log: what changed, in a form from which the same tree can be built again.

A log entry is a run of records that belong to one request and count together or not at all. A
record is one byte of kind, the u16 lengths and counts of what follows, and that, little endian:

    P  path value n (letter u8, domid s32)*n     the node has this value and these permissions
    R  path                                      the node and all below it are gone
    I  domid u32, gfn u64, port u32              the domain was introduced
    E  domid u32                                 the domain was released, or ended
    T  domid u32, target u32                     SET_TARGET
    S  name n (letter u8, domid s32)*n           permissions of a special watch
    Q  name domid u32, value u32                 a domain's own quota

A node that `P` names for the first time becomes the last child of its parent, which exists.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple

from xenlike.domain.store_wire import Perm

__all__ = ["End", "Introduce", "Put", "Quota", "Record", "Remove", "Special", "Target", "parse", "put", "remove"]

_PUT = struct.Struct("<cHHH")
_NAMED = struct.Struct("<cH")
_SPECIAL = struct.Struct("<cHH")
_PERM = struct.Struct("<ci")
_INTRODUCE = struct.Struct("<cIQI")
_END = struct.Struct("<cI")
_TARGET = struct.Struct("<cII")
_QUOTA = struct.Struct("<cHII")


class Put(NamedTuple):
    """A node as it is now."""

    path: bytes
    value: bytes
    perms: tuple[Perm, ...]


class Remove(NamedTuple):
    """A subtree is gone."""

    path: bytes


class Introduce(NamedTuple):
    """A domain has a ring."""

    domid: int
    gfn: int
    port: int

    def pack(self) -> bytes:
        """Returns the record."""
        return _INTRODUCE.pack(b"I", *self)


class End(NamedTuple):
    """A domain has no ring any more, and its domid means nobody."""

    domid: int

    def pack(self) -> bytes:
        """Returns the record."""
        return _END.pack(b"E", self.domid)


class Target(NamedTuple):
    """A domain acts for another one."""

    domid: int
    target: int

    def pack(self) -> bytes:
        """Returns the record."""
        return _TARGET.pack(b"T", *self)


class Special(NamedTuple):
    """Who may watch `@introduceDomain` or `@releaseDomain`."""

    name: bytes
    perms: tuple[Perm, ...]

    def pack(self) -> bytes:
        """Returns the record."""
        return _SPECIAL.pack(b"S", len(self.name), len(self.perms)) + self.name + _pack_perms(self.perms)


class Quota(NamedTuple):
    """A domain may hold more or less than others."""

    name: bytes
    domid: int
    value: int

    def pack(self) -> bytes:
        """Returns the record."""
        return _QUOTA.pack(b"Q", len(self.name), self.domid, self.value) + self.name


Record = Put | Remove | Introduce | End | Target | Special | Quota


def put(path: bytes, value: bytes, perms: tuple[Perm, ...]) -> bytes:
    """Returns the record of a node as it is now."""
    return _PUT.pack(b"P", len(path), len(value), len(perms)) + path + value + _pack_perms(perms)


def remove(path: bytes) -> bytes:
    """Returns the record of a removed subtree."""
    return _NAMED.pack(b"R", len(path)) + path


def parse(entry: bytes) -> Iterator[Record]:
    """Reads the records of one entry.

    Raises:
        ValueError: the entry is not what this version writes.
    """
    at = 0
    try:
        while at < len(entry):
            kind = entry[at : at + 1]
            if kind == b"P":
                _, path_length, value_length, count = _PUT.unpack_from(entry, at)
                at += _PUT.size
                path = entry[at : at + path_length]
                at += path_length
                value = entry[at : at + value_length]
                at += value_length
                yield Put(path, value, _unpack_perms(entry, at, count))
                at += _PERM.size * count
            elif kind == b"R":
                _, path_length = _NAMED.unpack_from(entry, at)
                at += _NAMED.size
                yield Remove(entry[at : at + path_length])
                at += path_length
            elif kind == b"I":
                yield Introduce(*_INTRODUCE.unpack_from(entry, at)[1:])
                at += _INTRODUCE.size
            elif kind == b"E":
                yield End(*_END.unpack_from(entry, at)[1:])
                at += _END.size
            elif kind == b"T":
                yield Target(*_TARGET.unpack_from(entry, at)[1:])
                at += _TARGET.size
            elif kind == b"S":
                _, path_length, count = _SPECIAL.unpack_from(entry, at)
                at += _SPECIAL.size
                name = entry[at : at + path_length]
                at += path_length
                yield Special(name, _unpack_perms(entry, at, count))
                at += _PERM.size * count
            elif kind == b"Q":
                _, length, domid, value = _QUOTA.unpack_from(entry, at)
                at += _QUOTA.size
                yield Quota(entry[at : at + length], domid, value)
                at += length
            else:
                raise ValueError(f"unknown record {kind!r} at {at}")
    except struct.error as error:
        raise ValueError(f"record cut short at {at} of {len(entry)}: {error}") from None


@functools.lru_cache(1024)
def _pack_perms(perms: tuple[Perm, ...]) -> bytes:
    return b"".join([_PERM.pack(perm.access.encode(), perm.domid) for perm in perms])


def _unpack_perms(entry: bytes, at: int, count: int) -> tuple[Perm, ...]:
    fields = (_PERM.unpack_from(entry, at + index * _PERM.size) for index in range(count))
    return tuple(Perm(domid, letter.decode()) for letter, domid in fields)
