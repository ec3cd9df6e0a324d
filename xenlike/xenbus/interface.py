"""What xenbus needs of a domain, as structural types.

Shaped like libxengnttab, libxenevtchn and libxenstore, so that the same drivers run in a xenlike
domain, in the loopback machine of `xenlike.testing`, and one day on a real Xen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from xenlike._core import Recorder

T = TypeVar("T")


class WindowLike(Protocol):
    """Grantable pages for one peer."""

    @property
    def pfn(self) -> int:
        """The first page's frame number."""
        ...

    @property
    def buffer(self) -> memoryview:
        """All pages, writable."""
        ...

    def replace(self, peer: int) -> None:
        """Makes them pages for another peer; address and content stay. Nobody may map them."""
        ...

    def close(self) -> None:
        """Gives the pages back; raises `HypercallError` (EBUSY) while the peer maps one."""
        ...


class MemoryLike(Protocol):
    """Allocates windows."""

    def alloc(self, peer: int, nr_pages: int, *, readonly: bool = False) -> WindowLike:
        """Returns zeroed pages that may be granted to `peer`."""
        ...


class MappingLike(Protocol):
    """Pages of another domain, mapped."""

    @property
    def pages(self) -> Sequence[memoryview]:
        """One view per reference."""
        ...

    @property
    def contiguous(self) -> memoryview | None:
        """One view of all pages, if they lie in order in one window."""
        ...

    def unmap(self) -> None:
        """Ends the mapping; more than once is allowed."""
        ...


class GrantsLike(Protocol):
    """Grants pages, and maps granted ones."""

    def grant(self, pfn: int, peer: int, *, readonly: bool = False) -> int:
        """Returns a reference by which `peer` may map the page."""
        ...

    def revoke(self, gref: int) -> None:
        """Ends a grant; raises `GrantBusy` while the peer maps the page."""
        ...

    def map(self, domid: int, grefs: Sequence[int], *, readonly: bool = False) -> MappingLike:
        """Maps pages of `domid`; raises `GrantDenied`."""
        ...


class ChannelLike(Protocol):
    """One end of an event channel."""

    @property
    def port(self) -> int:
        """The local port."""
        ...

    @property
    def rx_fd(self) -> int:
        """Descriptor that is readable when an event is pending."""
        ...

    @property
    def tx_fd(self) -> int:
        """Descriptor to which the core writes a notification."""
        ...

    def notify(self) -> None:
        """Notifies the other end."""
        ...

    async def wait(self) -> None:
        """Waits for a notification and clears it; raises `PeerGone` on hang-up."""
        ...

    def close(self) -> None:
        """Closes the port; more than once is allowed."""
        ...


class EventsLike(Protocol):
    """Makes event channels."""

    def alloc_unbound(self, remote_domid: int) -> ChannelLike:
        """Returns a port to which `remote_domid` may bind."""
        ...

    def bind(self, remote_domid: int, remote_port: int) -> ChannelLike:
        """Binds to a port that the other domain allocated for us."""
        ...


class WatchLike(Protocol):
    """Yields the path of every change at or below a node."""

    def __aiter__(self) -> AsyncIterator[str]:
        """Returns itself."""
        ...

    async def __anext__(self) -> str:
        """Waits for the next."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class AheadLike(Protocol):
    """A transaction whose steps are sent before their answers are needed; see `xenlike.domain.store_ahead`."""

    async def capture(self, paths: Sequence[str]) -> None:
        """Asks for nodes' values, which must not change until the commit."""
        ...

    async def seen(self, paths: Sequence[str]) -> Sequence[str | None]:
        """Returns them, None where a node is missing; captures them now if that was not done before."""
        ...

    async def commit(self, nodes: Mapping[str, str]) -> None:
        """Writes nodes and ends it; raises `Conflict` when another change came between."""
        ...

    def discard(self) -> None:
        """Ends it without effect, unless it has ended."""
        ...


class StoreLike(Protocol):
    """A connection to xenstored. Relative paths are below the domain's own directory."""

    async def read_many(self, paths: Sequence[str], tx: object = None) -> Sequence[str | None]:
        """Returns the values in order, None where a node is missing; one round trip."""
        ...

    async def write_many(self, nodes: Mapping[str, str], tx: object = None) -> None:
        """Writes nodes in the mapping's order; one round trip."""
        ...

    async def ls(self, path: str, tx: object = None) -> Sequence[str]:
        """Returns the names below a node; raises `NoEntry`."""
        ...

    def watch(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Yields the path of every change at or below `path`, and `path` itself once at the start."""
        ...

    def begin_watch(self, path: str) -> WatchLike:
        """As `watch`, sent with the next request."""
        ...

    def begin(self) -> AheadLike | None:
        """Begins a transaction, sent with the next request; None while there are too many."""
        ...

    async def transact(self, action: Callable[[object], Awaitable[T]]) -> T:
        """Runs `action(tx)` in a transaction, again when another change came between."""
        ...


class ResourceLike(Protocol):
    """Something of the host's that the toolstack opened for this domain, such as a disk image."""

    @property
    def fd(self) -> int | None:
        """The open descriptor, if it needs one; whoever takes the resource closes it."""
        ...

    @property
    def info(self) -> Mapping[str, object]:
        """What the toolstack says about it."""
        ...


class ResourcesLike(Protocol):
    """Resources by name; those of a hot-plugged device arrive later."""

    async def get(self, key: str) -> ResourceLike:
        """Returns the resource, once it has arrived."""
        ...


class DomainLike(Protocol):
    """A domain, seen from inside."""

    @property
    def domid(self) -> int:
        """Its number."""
        ...

    @property
    def memory(self) -> MemoryLike:
        """Its grant pool."""
        ...

    @property
    def grants(self) -> GrantsLike:
        """Its grant table, and mappings of others' pages."""
        ...

    @property
    def events(self) -> EventsLike:
        """Its event channels."""
        ...

    @property
    def store(self) -> StoreLike:
        """Its connection to xenstored."""
        ...

    @property
    def recorder(self) -> Recorder:
        """Its counters and its trace."""
        ...

    @property
    def resources(self) -> ResourcesLike:
        """What the toolstack handed to it."""
        ...
