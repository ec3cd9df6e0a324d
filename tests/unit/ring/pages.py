"""Pages for ring tests, with no accessible memory before and after them, and their indices by name."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from xenlike import _core
from xenlike.ring import CACHELINE, CACHELINE_TAG, XEN

U32 = 1 << 32
HEADER = {
    XEN: {"req_prod": 0, "req_event": 4, "rsp_prod": 8, "rsp_event": 12},
    CACHELINE: {"req_prod": 0, "rsp_event": 128, "rsp_prod": 256, "req_event": 384},
    CACHELINE_TAG: {"req_prod": 0, "rsp_event": 128, "rsp_prod": 256, "req_event": 384},
}
SLOTS = {XEN: 64, CACHELINE: 512, CACHELINE_TAG: 512}

#: Half of the tests start where the indices soon wrap.
FIRST_INDICES = [0, 1, 7, U32 - 1, U32 - 5, U32 - 40, 0x7FFF_FFFE]


class Page:
    """Shared memory of a ring, with its header's words."""

    def __init__(self, memory: memoryview, layout: str) -> None:
        self.memory = memory
        self.layout = layout

    def __getitem__(self, name: str) -> int:
        value: int = struct.unpack_from("<I", self.memory, HEADER[self.layout][name])[0]
        return value

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("<I", self.memory, HEADER[self.layout][name], value % U32)

    def slot(self, index: int, slots: int, stride: int, size: int) -> bytes:
        at = SLOTS[self.layout] + (index % slots) * stride
        return bytes(self.memory[at : at + size])


@contextmanager
def guarded(nbytes: int) -> Iterator[memoryview]:
    """Gives shared memory that lies between forbidden pages: a stray access is a crash."""
    fd = _core.memfd_create("ring", nbytes)
    around = _core.reserve(nbytes + 2 * 4096)
    mapping = _core.map_shared(fd, nbytes, True, around.address + 4096)
    try:
        yield mapping.buffer
    finally:
        mapping.detach()


def entries(start: int, count: int, size: int) -> bytes:
    """Returns entries that differ from each other in every byte or nearly so."""
    return b"".join(
        bytes((index * 31 + place * 7 + (index >> 8)) & 0xFF for place in range(size))
        for index in range(start, start + count)
    )


def must_notify(new: int, old: int, event: int) -> bool:
    """Xen's rule, as RING_PUSH_*_AND_CHECK_NOTIFY has it."""
    return (new - event) % U32 < (new - old) % U32
