"""The front of a ring: writes requests, reads responses, and owns the page until a back attaches.

ring = FrontRing(page, "xen", 112, 16)
ring.push(requests, n)       # copies and publishes
ring.kick_fd(tx)             # notifies if the back asked for it; before every wait
while not (n := ring.pop(out)):
    if not ring.arm():       # asks for a notification and looks once more
        ...                  # only now sleep on the event channel
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike import _core
from xenlike.ring.layout import check_buffer, check_geometry, check_index, layout_number

if TYPE_CHECKING:
    from typing_extensions import Buffer


class FrontRing(_core.RingEnd):
    """The front end, on a page that no back uses yet; the page is zeroed and its indices are set.

    Args:
        buffer: the whole ring, writable, 4096 << order bytes; kept alive until `close`.
        layout: `xen`, `cacheline` or `cacheline-tag`.
        request_size: in bytes, 1 to 4096.
        response_size: in bytes, 1 to 4096.
        entry_size: sizeof() the union of both where alignment makes it larger than either.
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

    _PEER_INDEX = "rsp_prod"

    def __init__(
        self,
        buffer: Buffer,
        layout: str,
        request_size: int,
        response_size: int,
        *,
        entry_size: int | None = None,
        first_index: int = 0,
        asymmetric_fence: bool = False,
        domid: int | None = None,
        recorder: _core.Recorder | None = None,
        name: str = "",
    ) -> None:
        view = check_buffer(buffer)
        sizes = {"request_size": request_size, "response_size": response_size}
        entry = check_geometry(layout, view.nbytes, sizes, entry_size)
        super().__init__(
            view,
            layout_number(layout),
            _core.SIDE_FRONT,
            (request_size, response_size, entry),
            first_index=check_index(first_index),
            asymmetric_fence=asymmetric_fence,
            domid=domid,
            recorder=recorder,
            name=name,
        )

    @property
    def free(self) -> int:
        """How many requests can be pushed: slots whose responses have been popped, or never used."""
        return self._room()

    @property
    def in_flight(self) -> int:
        """How many requests have no response that was popped."""
        count: int = (self._ring.prod - self._ring.cons) & 0xFFFF_FFFF
        return count

    def arm(self, ahead: int = 1) -> bool:
        """Asks the back to notify when `ahead` responses are there, and looks once more.

        Args:
            ahead: more than 1 saves notifications; cut to what is in flight.

        Returns:
            True if they are there already, or the ring is broken: pop, do not sleep.
        """
        return self._arm(ahead)
