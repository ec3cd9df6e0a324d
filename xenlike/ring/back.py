"""The back of a ring: reads requests and writes a response for each, in whatever order they complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike import _core
from xenlike.ring.layout import check_buffer, check_geometry, layout_number

if TYPE_CHECKING:
    from typing_extensions import Buffer


class BackRing(_core.RingEnd):
    """The back end, attached to a front's page at the ring's own indices, as Linux's backends attach.

    Requests that a former back had taken and not answered come again; a new back usually gets a new ring.

    Args:
        buffer: the whole ring, writable, 4096 << order bytes; kept alive until `close`.
        layout: what the front has chosen: `xen`, `cacheline` or `cacheline-tag`.
        request_size: in bytes, 1 to 4096.
        response_size: in bytes, 1 to 4096.
        entry_size: sizeof() the union of both where alignment makes it larger than either.
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

    _PEER_INDEX = "req_prod"

    def __init__(
        self,
        buffer: Buffer,
        layout: str,
        request_size: int,
        response_size: int,
        *,
        entry_size: int | None = None,
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
            _core.SIDE_BACK,
            (response_size, request_size, entry),
            first_index=None,
            asymmetric_fence=asymmetric_fence,
            domid=domid,
            recorder=recorder,
            name=name,
        )

    @property
    def unanswered(self) -> int:
        """How many popped requests have no response yet; so many can be pushed at most."""
        return self._room()

    def arm(self) -> bool:
        """Asks the front to notify of the next request, and looks once more.

        Returns:
            True if one is there already, or the ring is broken: pop, do not sleep.
        """
        return self._arm(1)
