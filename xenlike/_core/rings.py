"""The C ring, stream and spinner as Python objects; `xenlike.ring` gives them their names and their rules.

An object here belongs to one thread at a time. Each keeps its page alive through a buffer export, until `close`.

What is called for every entry or batch is in `direct`, the rest goes through cffi.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xenlike._core import ffi, lib
from xenlike._core.direct import Batch, End
from xenlike._core.recorder import RecorderPlace
from xenlike.errors import PeerGone, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from typing_extensions import Buffer

    from xenlike._core.recorder import Recorder

SIDE_FRONT = 0
SIDE_BACK = 1
SIDE_PRODUCER = 2
SIDE_CONSUMER = 3

MOST_STAGED = 32
"""Entries in a stage of which nobody has said how large it should be; more brings little."""

_from_buffer = ffi.from_buffer
_kick = lib.xl_ring_kick


def ring_slots(layout: int, nbytes: int, entry_size: int) -> int:
    """Returns how many slots a ring of `nbytes` has; 0 if not even one fits."""
    slots: int = lib.xl_ring_slots(layout, nbytes, entry_size)
    return slots


def ring_stride(layout: int, entry_size: int) -> int:
    """Returns the distance between two slots in bytes."""
    stride: int = lib.xl_ring_stride(layout, entry_size)
    return stride


@dataclass(frozen=True)
class RingStatistics:
    """What one end of a ring has done so far.

    Attributes:
        pushed: entries published.
        popped: entries copied out.
        kicks: kicks that had something new to announce.
        notifications: those of them that had to notify the peer.
        arms: times this end asked to be notified.
        late: those of them that found work, so that no sleep was needed.
    """

    pushed: int
    popped: int
    kicks: int
    notifications: int
    arms: int
    late: int


class RingEnd(End):
    """One end of a ring over a shared page. See `xenlike.ring` for the kinds of it and their constructors.

    Attributes:
        size: number of slots.
        counters: u64 each, for whoever waits with it: `SPINS_HIT` and so on of `recorder`.
    """

    __slots__ = ("_asymmetric", "_memory", "_peer", "_place", "_ring", "counters", "size")

    _PEER_INDEX = "?"

    def __init__(
        self,
        buffer: Buffer,
        layout: int,
        side: int,
        sizes: tuple[int, int, int],
        *,
        first_index: int | None,
        asymmetric_fence: bool,
        domid: int | None,
        stage: int | None = None,
        recorder: Recorder | None = None,
        name: str = "",
    ) -> None:
        out_size, in_size, entry_size = sizes
        memory = _from_buffer("char[]", buffer, True)
        place = RecorderPlace() if recorder is None else recorder.place(name)
        ring = place.ring
        arguments = (ring, memory, len(memory), layout, side, out_size, in_size, entry_size)
        if first_index is None:
            result: int = lib.xl_ring_attach(*arguments)
        else:
            result = lib.xl_ring_create(*arguments, first_index)
        if result < 0:
            place.end()
            # `xenlike.ring` has checked everything that it can see.
            raise ValueError("the memory of a ring must be 4-byte aligned")
        ring.asymmetric = int(asymmetric_fence)
        place.begin()
        self._place = place
        self.counters = place.counters
        self._memory: Any = memory
        self._ring: Any = ring
        self._peer = domid
        self.size: int = ring.nr_slots
        # Half a ring, so that one end fills the next stage while the other empties the last.
        self._bind(int(ffi.cast("uintptr_t", ring)), stage or max(1, min(MOST_STAGED, self.size // 2)))

    push = End._push
    pop = End._pop

    @property
    def address(self) -> int:
        """Of the `struct xl_ring`, for C that uses it in place of this object; valid while this object lives."""
        where: int = int(ffi.cast("uintptr_t", self._ring))
        return where

    def outgoing(self, count: int) -> Outgoing:
        """Returns memory for `count` entries that can be pushed at the least cost."""
        return Outgoing(self, count)

    def incoming(self, count: int) -> Incoming:
        """Returns memory for `count` entries that can be popped into at the least cost."""
        return Incoming(self, count)

    def kick(self) -> bool:
        """Returns whether the peer must be notified of what was pushed since the last kick."""
        return bool(_kick(self._ring))

    def kick_fd(self, tx_fd: int) -> bool:
        """Kicks, and notifies in the same call if it must.

        Args:
            tx_fd: the write end of the event channel's pipe.

        Returns:
            Whether a notification was sent.

        Raises:
            PeerGone: a notification was due, and nobody holds the other end.
            OSError: `tx_fd` is not a writable descriptor.
        """
        result: int = lib.xl_ring_kick_fd(self._ring, tx_fd)
        if result < 0:
            if result == -errno.EPIPE:
                raise PeerGone("the peer closed its end of the event channel, or died")
            raise OSError(-result, os.strerror(-result))
        return result == 1

    def woke(self, *, hung_up: bool = False) -> None:
        """Has the trace tell that who slept on the ring's event channel was woken."""
        lib.xl_ring_woke(self._ring, hung_up)

    @property
    def available(self) -> int:
        """How many entries can be popped.

        Raises:
            ProtocolError: the peer's index is impossible.
        """
        result: int = lib.xl_ring_available(self._ring)
        if result < 0:
            self._refuse(result)
        return result

    @property
    def broken(self) -> bool:
        """Whether the peer broke the ring. Sticky: disconnect, and make a new ring."""
        reason: int = self._ring.broken
        return reason in (1, 2, 4)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        reason: int = self._ring.broken
        return reason == 3

    def close(self) -> None:
        """Lets go of the page; idempotent. Afterwards every operation but statistics refuses."""
        lib.xl_ring_close(self._ring)
        ffi.release(self._memory)
        self._place.end()

    def __del__(self) -> None:
        # As SharedWord's: before a collector clears what this exports. The recorder may be gone already.
        if hasattr(self, "_memory"):
            ffi.release(self._memory)

    def statistics(self) -> RingStatistics:
        """Returns the counters of this end."""
        r = self._ring
        return RingStatistics(r.pushed, r.popped, r.kicks, r.notifications, r.arms, r.late)

    def _arm(self, ahead: int) -> bool:
        return bool(lib.xl_ring_arm(self._ring, ahead))

    def _room(self) -> int:
        result: int = lib.xl_ring_room(self._ring)
        if result < 0:
            self._refuse(result)
        return result

    def _refuse(self, result: int) -> NoReturn:
        ring = self._ring
        if result == -errno.EPROTO and ring.broken == 4:
            raise ProtocolError(
                f"ring broken: tag {ring.bad_index} in a slot, when {ring.cons} had been read; disconnect", self._peer
            )
        if result == -errno.EPROTO:
            how = "went back to" if ring.broken == 2 else "ran ahead to"
            raise ProtocolError(
                f"ring broken: {self._PEER_INDEX} {how} {ring.bad_index} when {ring.cons} had been read; disconnect",
                self._peer,
            )
        if result == -errno.EBADF:
            raise ValueError("the ring is closed")
        raise OSError(-result, os.strerror(-result))

    def __repr__(self) -> str:
        r = self._ring
        state = " closed" if self.closed else " broken" if self.broken else ""
        return f"<{type(self).__name__} slots={r.nr_slots} pushed_to={r.prod} read_to={r.cons}{state}>"


class _Memory(Batch):
    """Private memory bound to a ring, so that a call has no arguments."""

    __slots__ = ("data",)

    def __init__(self, ring: RingEnd, count: int, entry_size: int) -> None:
        if count < 1 or not entry_size:
            raise ValueError(f"a batch of {count} entries of {entry_size} bytes makes no sense")
        self.data = bytearray(count * entry_size)
        self._bind(ring, self.data, count)


class Outgoing(_Memory):
    """Entries to be pushed, in memory of their own; made by `RingEnd.outgoing`.

    Attributes:
        data: the entries, one after another; its size is fixed.
    """

    __slots__ = ()

    def __init__(self, ring: RingEnd, count: int) -> None:
        super().__init__(ring, count, ring._ring.out_size)

    push = Batch._push


class Incoming(_Memory):
    """Room for entries to be popped; made by `RingEnd.incoming`.

    Attributes:
        data: the entries of the last pop, one after another; its size is fixed.
    """

    __slots__ = ()

    def __init__(self, ring: RingEnd, count: int) -> None:
        super().__init__(ring, count, ring._ring.in_size)

    pop = Batch._pop


@dataclass(frozen=True)
class SpinnerStatistics:
    """What spinning has brought so far.

    Attributes:
        ready: work was there at the first look.
        hits: work came while spinning.
        misses: a spin ended without work.
        skipped: spins left out, since they did not pay.
        spun_ns: time spent in hits and misses.
        hit_rate: of the last spins, 0 to 1.
    """

    ready: int
    hits: int
    misses: int
    skipped: int
    spun_ns: int
    hit_rate: float


class SpinnerCore:
    """The C spinner; `xenlike.ring.wait.Spinner` is its public face."""

    __slots__ = ("_array", "_rings", "_spinner")

    def __init__(self) -> None:
        self._spinner: Any = ffi.new("struct xl_spinner *")
        lib.xl_spin_init(self._spinner)
        self._rings: tuple[RingEnd, ...] = ()
        self._array: Any = ffi.new("struct xl_ring *[]", 1)

    def _select(self, rings: Sequence[RingEnd]) -> None:
        self._rings = tuple(rings)
        self._array = ffi.new("struct xl_ring *[]", [ring._ring for ring in self._rings] or 1)

    def _spin(self, limit_ns: int) -> bool:
        return bool(lib.xl_spin(self._spinner, self._array, len(self._rings), limit_ns))

    @property
    def missed(self) -> int:
        """How many spins have ended without work."""
        count: int = self._spinner.misses
        return count

    def _plan(self, limit_ns: int) -> int:
        length: int = lib.xl_spin_plan(self._spinner, limit_ns)
        return length

    def _learn(self, hit: bool, spent_ns: int) -> None:
        lib.xl_spin_learn(self._spinner, int(hit), spent_ns)

    def statistics(self) -> SpinnerStatistics:
        """Returns the counters so far."""
        s = self._spinner
        return SpinnerStatistics(s.ready, s.hits, s.misses, s.skipped, s.spun_ns, s.hit_rate / 65536)
