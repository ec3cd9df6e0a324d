"""One-way rings: entries from a producer to a consumer, without answers.

The header is that of any ring, with the consumer's index in the place of the responses': `req_prod` is the
producer's index, `rsp_prod` the consumer's, which it publishes once per batch. A slot is free when the
consumer's index has passed it.

producer = Producer(page, 64)
producer.put(entry)              # collects in private memory; a full stage is published
producer.flush()                 # so is what there is, when nothing more comes for now
producer.kick_fd(tx)             # notifies if the consumer asked for it; before every wait

consumer = Consumer(page, 64)
while (entry := consumer.get()) is None:
    if not consumer.arm():       # asks for a notification and looks once more
        ...                      # only now sleep on the event channel

For many entries at once there are `push` and `pop`, and at the least cost `outgoing` and `incoming`. They keep the
order with what is staged: `push` publishes that first, `pop` first hands out what `get` has left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike import _core
from xenlike.errors import ProtocolError
from xenlike.ring.layout import (
    CACHELINE,
    CACHELINE_TAG,
    check_buffer,
    check_geometry,
    check_index,
    layout_number,
    slots,
)

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import Buffer


def one_way_number(layout: str) -> int:
    """Returns the core's number of a layout that one-way rings can have.

    Raises:
        ValueError: it is none.
    """
    if layout == CACHELINE_TAG:
        raise ValueError(f"one-way rings have no {CACHELINE_TAG} layout; {CACHELINE} has the least to share")
    return layout_number(layout)


def check_stage(stage: int | None, layout: str, nbytes: int, entry_size: int) -> int | None:
    """Returns the size of a stage in entries, None for one of the usual size.

    Raises:
        ValueError: it is not from 1 to the number of slots.
    """
    most = slots(layout, nbytes, entry_size)
    if stage is not None and not 1 <= stage <= most:
        raise ValueError(f"stage is {stage}; it must be 1 to {most} entries, the slots of the ring")
    return stage


class Producer(_core.RingEnd):
    """The writing end, on a page that no consumer uses yet; the page is zeroed and its indices are set.

    Args:
        buffer: the whole ring, writable, 4096 << order bytes; kept alive until `close`.
        entry_size: in bytes, 1 to 4096.
        layout: `cacheline` or `xen`.
        stage: how many entries `put` collects before it publishes them; half of the slots by default, 32 at most.
        first_index: where the indices start; anything but 0 is for tests of the wrap.
        asymmetric_fence: both ends have offered `feature-asymmetric-fence`.
        domid: the peer, for error messages.
        recorder: the domain's, in which this end is seen by tools; None for one that no tool sees.
        name: what it is called there: the device's nodename.

    Attributes:
        size: number of slots, a power of two.

    Raises:
        ValueError: an argument is out of range; the message says which.
    """

    __slots__ = ()

    _PEER_INDEX = "the consumer's index"

    def __init__(
        self,
        buffer: Buffer,
        entry_size: int,
        layout: str = CACHELINE,
        *,
        stage: int | None = None,
        first_index: int = 0,
        asymmetric_fence: bool = False,
        domid: int | None = None,
        recorder: _core.Recorder | None = None,
        name: str = "",
    ) -> None:
        view = check_buffer(buffer)
        entry = check_geometry(layout, view.nbytes, {"entry_size": entry_size}, None)
        super().__init__(
            view,
            one_way_number(layout),
            _core.SIDE_PRODUCER,
            (entry, 0, entry),
            first_index=check_index(first_index),
            asymmetric_fence=asymmetric_fence,
            domid=domid,
            recorder=recorder,
            name=name,
            stage=check_stage(stage, layout, view.nbytes, entry),
        )

    put = _core.RingEnd._put
    flush = _core.RingEnd._flush

    @property
    def staged(self) -> int:
        """How many entries were put and not yet published."""
        return self._staged()

    @property
    def free(self) -> int:
        """How many entries can be pushed, after those that are staged.

        Raises:
            ProtocolError: the consumer's index is impossible.
        """
        return max(0, self._room() - self._staged())

    def arm_space(self, wanted: int = 1) -> bool:
        """Asks the consumer to notify when `wanted` slots are free beside those for what is staged, and looks again.

        Returns:
            True if they are free already, or the ring is broken: push, do not sleep.
        """
        try:
            missing = min(wanted + self._staged(), self.size) - self._room()
        except ProtocolError:
            return True
        return missing <= 0 or self._arm(missing)

    def pop(self, out: object, limit: int | None = None) -> NoReturn:
        """Nothing comes back on a one-way ring."""
        raise TypeError("a producer has nothing to pop")


class Consumer(_core.RingEnd):
    """The reading end, attached at the ring's own indices. What it pops is free for the producer again.

    Args:
        buffer: the whole ring, writable, 4096 << order bytes; kept alive until `close`.
        entry_size: in bytes, 1 to 4096.
        layout: `cacheline` or `xen`, as the producer's.
        stage: how many entries `get` copies at most at one look; half of the slots by default, 32 at most.
        asymmetric_fence: both ends have offered `feature-asymmetric-fence`.
        domid: the peer, for error messages.
        recorder: the domain's, in which this end is seen by tools; None for one that no tool sees.
        name: what it is called there: the device's nodename.

    Attributes:
        size: number of slots, a power of two.

    Raises:
        ValueError: an argument is out of range; the message says which.
    """

    __slots__ = ()

    _PEER_INDEX = "the producer's index"

    def __init__(
        self,
        buffer: Buffer,
        entry_size: int,
        layout: str = CACHELINE,
        *,
        stage: int | None = None,
        asymmetric_fence: bool = False,
        domid: int | None = None,
        recorder: _core.Recorder | None = None,
        name: str = "",
    ) -> None:
        view = check_buffer(buffer)
        entry = check_geometry(layout, view.nbytes, {"entry_size": entry_size}, None)
        super().__init__(
            view,
            one_way_number(layout),
            _core.SIDE_CONSUMER,
            (0, entry, entry),
            first_index=None,
            asymmetric_fence=asymmetric_fence,
            domid=domid,
            recorder=recorder,
            name=name,
            stage=check_stage(stage, layout, view.nbytes, entry),
        )

    get = _core.RingEnd._get

    @property
    def unread(self) -> int:
        """How many entries are out of the ring and were not yet handed out by `get`."""
        return self._unread()

    @property
    def available(self) -> int:
        """How many entries can be popped, in the ring and out of it.

        Raises:
            ProtocolError: the producer's index is impossible.
        """
        return self._unread() + super().available

    def push(self, entries: object, count: int | None = None) -> NoReturn:
        """Nothing goes back on a one-way ring."""
        raise TypeError("a consumer has nothing to push")

    def arm(self) -> bool:
        """Asks the producer to notify of the next entry, and looks once more.

        Returns:
            True if one is there already, or the ring is broken: pop, do not sleep.
        """
        return self._unread() > 0 or self._arm(1)
