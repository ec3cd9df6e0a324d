"""A domain's recorder as a Python object: the counters of its rings, and its trace; `xl_recorder.h` has the layout.

The memory is given back when the last ring in it and the last view of it are gone, never before: rings live there.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

from xenlike._core import ffi, lib
from xenlike.abi import recorder as abi

if TYPE_CHECKING:
    from typing_extensions import Buffer

SPINS_HIT, SPINS_MISSED, SLEEPS, SPURIOUS, FULL, STARVED = range(6)
"""Places in `RecorderPlace.counters`."""
_NR_COUNTERS = 6

_RING_AT = abi.RecorderQueue.__layout__.fields["nr_slots"].offset
_COUNTERS_AT = abi.RecorderQueue.__layout__.fields["spins_hit"].offset
_NAME_SIZE = 64


def place_at(number: int) -> int:
    """Returns where a queue lies in a recorder; numbers count from 1."""
    return abi.XENLIKE_RECORDER_QUEUES_AT + (number - 1) * abi.RecorderQueue.__layout__.size


class RecorderPlace:
    """Where a ring's end lies in a recorder, or, without one, in memory of its own.

    Attributes:
        number: of the queue, from 1 on; 0 in memory of its own.
        counters: u64 each, at `SPINS_HIT` and so on.
        ring: the C structure.
    """

    __slots__ = ("counters", "number", "recorder", "ring")

    def __init__(self, recorder: Recorder | None = None, number: int = 0) -> None:
        self.recorder = recorder
        self.number = number
        if recorder is None:
            self.ring: Any = ffi.new("struct xl_ring *")
            self.counters = memoryview(bytearray(8 * _NR_COUNTERS)).cast("Q")
        else:
            # Alive for as long as the recorder is, which this object holds.
            at = place_at(number)
            self.ring = ffi.cast("struct xl_ring *", ffi.cast("char *", recorder._memory) + at + _RING_AT)
            at += _COUNTERS_AT
            self.counters = recorder.memory[at : at + 8 * _NR_COUNTERS].cast("Q")

    def begin(self) -> None:
        """The ring was made: from here on it traces."""
        if self.recorder is not None:
            self.ring.queue = self.number
            self.ring.recorder = self.recorder._memory

    def end(self) -> None:
        """The ring is closed. The place keeps what it has until another ring gets it, when this one is forgotten."""
        if self.recorder is not None:
            self.recorder._set_in_use(self.number, 0)

    def __del__(self) -> None:
        # Whoever still holds the closed ring must not find another one in its place.
        if self.recorder is not None:
            self.recorder._taken.discard(self.number)


class Recorder:
    """Counters and trace of one domain, which writes them; `xenlike.abi.recorder` has the layout.

    Args:
        memory: `abi.XENLIKE_RECORDER_BYTES` of zeros that nobody else writes, but for the mask; `map_recorder` brings
            those that the hypervisor made.
        mask: the classes of events that are recorded at first.
    """

    def __init__(self, memory: Buffer, mask: int = abi.XENLIKE_TRACE_USUAL) -> None:
        # Of what is below a view: CPython 3.11 crashes when its collector clears a view that is exported.
        owner = memory.obj if isinstance(memory, memoryview) else memory
        self._memory: Any = ffi.from_buffer("struct xl_recorder *", owner, True)
        self._view = memoryview(owner)
        self._taken: set[int] = set()
        self._next = 0
        lib.xl_recorder_init(self._memory, mask)

    @classmethod
    def private(cls, mask: int = abi.XENLIKE_TRACE_USUAL) -> Recorder:
        """Makes one in memory that no tool sees but those of this process."""
        return cls(mmap.mmap(-1, abi.XENLIKE_RECORDER_BYTES), mask)

    @property
    def memory(self) -> memoryview:
        """All of it, for a reader."""
        return self._view

    @property
    def mask(self) -> int:
        """The classes of events that are recorded."""
        mask: int = lib.xl_word_get(self._memory, 4096, abi.RecorderHead.__layout__.fields["mask"].offset)
        return mask

    @mask.setter
    def mask(self, mask: int) -> None:
        lib.xl_word_set(self._memory, 4096, abi.RecorderHead.__layout__.fields["mask"].offset, mask)

    def trace(
        self, kind: int, event: int, text: str = "", a: int = 0, b: int = 0, c: int = 0, d: int = 0, queue: int = 0
    ) -> None:
        """Records an event, if its class is recorded.

        Args:
            kind: its class, one of `XENLIKE_TRACE_*`.
            event: which of the class.
            text: what it is about, such as a node's path; the first 224 bytes of it.
            a: u32, as the three that follow; what is above that is cut off.
            b: likewise.
            c: likewise.
            d: likewise.
            queue: number of the queue that it is about, 0 for none.
        """
        data = text.encode(errors="replace")
        low = 0xFFFF_FFFF
        lib.xl_trace_if(self._memory, kind, event, queue, a & low, b & low, c & low, d & low, data, len(data))

    def place(self, name: str) -> RecorderPlace:
        """Returns a place for a ring; in memory of its own when all places are taken.

        Places are taken in turns, so that what a closed ring has left can be seen for as long as possible.
        """
        for _ in range(abi.XENLIKE_RECORDER_QUEUES):
            number = self._next = self._next % abi.XENLIKE_RECORDER_QUEUES + 1
            if number not in self._taken:
                break
        else:
            return RecorderPlace()
        self._taken.add(number)
        at, said = place_at(number), name.encode(errors="replace")[: _NAME_SIZE - 1]
        self._view[at : at + abi.RecorderQueue.__layout__.size] = said.ljust(abi.RecorderQueue.__layout__.size, b"\0")
        self._set_in_use(number, 1)
        return RecorderPlace(self, number)

    def _set_in_use(self, number: int, in_use: int) -> None:
        at = place_at(number) + abi.RecorderQueue.__layout__.fields["in_use"].offset
        lib.xl_word_set(self._memory, len(self._view), at, in_use)


def map_recorder(fd: int) -> memoryview:
    """Maps a recorder; the memory is given back with its last view. Closes the descriptor.

    Raises:
        OSError: ENOMEM.
    """
    try:
        address = lib.xl_map_shared(fd, abi.XENLIKE_RECORDER_BYTES, 0, 1, 0, 0)
    finally:
        os.close(fd)
    if address < 0:
        raise OSError(-address, os.strerror(-address))
    owner = ffi.gc(ffi.cast("char *", address), _unmap)
    return memoryview(ffi.buffer(owner, abi.XENLIKE_RECORDER_BYTES))


def _unmap(memory: Any) -> None:
    lib.xl_unmap(int(ffi.cast("uintptr_t", memory)), abi.XENLIKE_RECORDER_BYTES)


def _whole(memory: Buffer, *, writable: bool = False) -> Any:
    """Returns a recorder's memory for C; ValueError if that would read beyond its end."""
    where = ffi.from_buffer("char[]", memory, writable)
    if len(where) < abi.XENLIKE_RECORDER_BYTES:
        raise ValueError(f"a recorder has {abi.XENLIKE_RECORDER_BYTES} bytes, and this {len(where)}")
    return where


def read_trace(memory: Buffer, position: int, limit: int, *, everything: bool = False) -> tuple[bytes, int, int]:
    """Copies records out of somebody's recorder, of which nothing is believed.

    Args:
        memory: the whole recorder.
        position: index of the first record wanted.
        limit: at most so many.
        everything: also step over records that are not complete yet; for one whose writer is gone.

    Returns:
        Records of 32 bytes each, all zeros where one was overwritten or is incomplete; the index to go on
        from; how many were overwritten before that.
    """
    where = _whole(memory)
    out = bytearray(limit * abi.TraceRecord.__layout__.size)
    following, lost = ffi.new("uint64_t *", position), ffi.new("uint64_t *")
    count = lib.xl_trace_read(where, following, ffi.from_buffer(out), limit, int(everything), lost)
    return bytes(memoryview(out)[: count * abi.TraceRecord.__layout__.size]), following[0], lost[0]


def ask_trace(memory: Buffer, add: int = 0, drop: int = 0) -> int:
    """Has classes of events recorded in somebody's recorder, and others not; atomically.

    Returns:
        The mask then.
    """
    where = _whole(memory, writable=True)
    mask: int = lib.xl_trace_ask(where, add, drop)
    return mask


def trace_clock(clock: int) -> tuple[int, int]:
    """Returns this moment by a recorder's clock, and in ns by CLOCK_MONOTONIC."""
    ticks, now_ns = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    lib.xl_trace_clock(clock, ticks, now_ns)
    return ticks[0], now_ns[0]
