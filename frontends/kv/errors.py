"""What a key-value store can refuse, as exceptions that a Python person would catch."""

from __future__ import annotations

import errno

from xenlike.errors import RequestFailed
from xenlike.io.kv import KVIF_RSP_NO_SPACE, KVIF_RSP_NOT_FOUND, KVIF_RSP_QUOTA, KVIF_RSP_TOO_BIG


class KvFailed(RequestFailed):
    """The backend refused an operation; its kinds say why, where there is a reason."""


class KeyMissing(KvFailed, KeyError):
    """There is no such key."""

    __str__ = RequestFailed.__str__


class ValueTooBig(KvFailed, ValueError):
    """The value is longer than the backend takes."""


class StoreFull(KvFailed):
    """The store has no room for so many bytes."""


class TooMany(KvFailed):
    """As many keys in the store, or watches of this device, as there may be."""


_KINDS = {
    KVIF_RSP_NOT_FOUND: (KeyMissing, errno.ENOENT, "there is no such key"),
    KVIF_RSP_TOO_BIG: (ValueTooBig, errno.EFBIG, "the value is longer than the backend takes"),
    KVIF_RSP_NO_SPACE: (StoreFull, errno.ENOSPC, "the store is full: delete something"),
    KVIF_RSP_QUOTA: (TooMany, errno.EDQUOT, "as many keys, or watches of this device, as there may be"),
}


def failure(status: int, key: bytes) -> KvFailed:
    """Returns the error for a status that is not KVIF_RSP_OKAY."""
    kind, number, why = _KINDS.get(status, (KvFailed, errno.EIO, f"the backend refused, with status {status}"))
    return kind(status, f"{key!r}: {why}", number)
