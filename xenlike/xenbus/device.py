"""What frontends and backends have in common: names, nodes, states, and the fatal path.

A device is a directory of the store, such as `device/vbd/51712`. One task, its control task, does
everything that changes its state. It sleeps on a bell that is rung by watches and by the data path;
when woken it reads its own and its other end's nodes, all in one round trip and each exactly once,
and takes the steps that `xenlike.xenbus.state` says, until that says to wait.

The other end's nodes are hostile. Driver code sees them only as typed values, in `peer`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

import trio

from xenlike.abi import recorder as tr
from xenlike.abi.grant_table import GNTST_bad_domain
from xenlike.errors import (
    Conflict,
    GrantError,
    HypercallError,
    HypervisorGone,
    PeerGone,
    ProtocolError,
    XenlikeError,
    XenstoreError,
)
from xenlike.xenbus.bell import Bell
from xenlike.xenbus.negotiate import format_nodes, parse_domid
from xenlike.xenbus.state import XenbusState, is_legal_move, parse_state
from xenlike.xenbus.typevars import RequestT, ResponseT

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from xenlike.abi.protocol import Protocol
    from xenlike.xenbus.interface import AheadLike, DomainLike, WatchLike
    from xenlike.xenbus.negotiate import NodeValue

Side = Literal["frontend", "backend"]


class _Prefix(logging.LoggerAdapter[logging.Logger]):
    """Puts `d1/vbd/51712` in front of every line."""

    def __init__(self, logger: logging.Logger, prefix: str) -> None:
        super().__init__(logger)
        self.prefix = prefix

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        return f"{self.prefix}: {msg}", kwargs


class XenbusDevice(ABC, Generic[RequestT, ResponseT]):
    """One half of a split device; use it through `Frontend` and `Backend`.

    Args:
        domain: the domain this half lives in.
        nodename: its directory below the domain's own, such as `device/vbd/51712`.

    Attributes:
        state: where it stands; `Unknown` before it starts and, at a frontend, while its backend is gone.
        peer: the other end's nodes as the protocol declares them, typed; each was read once.
        otherend: the other end's directory, an absolute path; empty before it is known.
        otherend_id: the other end's domid.
        log: a logger whose lines begin with the device's name.
    """

    protocol: ClassVar[Protocol]
    ring_layouts: ClassVar[tuple[str, ...]] = ()
    """Ring layouts it offers (backend), or would like, best first (frontend); a frontend that says nothing gets what
    `xenlike.ring.preferred` says of its entries."""

    _side: ClassVar[Side]
    _own_names: ClassVar[tuple[str, ...]]
    """The nodes of its own directory that the toolstack may write."""
    _nursery: trio.Nursery

    def __init_subclass__(cls, *, protocol: Protocol | None = None, **kwargs: object) -> None:
        """Takes `protocol=` from the class statement; a subclass of a driver inherits it."""
        super().__init_subclass__(**kwargs)
        if protocol is not None:
            cls.protocol = protocol

    def __init__(self, domain: DomainLike, nodename: str) -> None:
        if not hasattr(type(self), "protocol"):
            raise TypeError(f"{type(self).__name__} names no protocol: class {type(self).__name__}(..., protocol=...)")
        self.domain = domain
        self.nodename = nodename
        self.type = nodename.split("/")[1]
        self.id = nodename.rsplit("/", 1)[1]
        self.state = XenbusState.Unknown
        self.peer: dict[str, NodeValue] = {}
        self.otherend = ""
        self.otherend_id = -1
        name = nodename.removeprefix("device/")
        self.log = _Prefix(logging.getLogger(type(self).__module__), f"d{domain.domid}/{name}")
        self._bell = Bell()
        self._removed = False
        self._on_bus = False
        # What was read last, and whether it may be out of date.
        self._own: dict[str, str | None] = {}
        self._raw: dict[str, str | None] = {}
        self._own_changed = self._raw_changed = True
        # Whether the other end's state is to be compared with what is known of it.
        self._doubtful = False
        # The other end's state as the trace has it.
        self._seen = XenbusState.Unknown
        self._failure: Exception | None = None
        # A transaction that was begun with the last look, for what may have to be published after it.
        self._ahead: AheadLike | None = None
        self._watching = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} d{self.domain.domid}/{self.nodename} {self.state.name}>"

    # What drivers may use.

    async def read_otherend(self, *names: str) -> dict[str, str | None]:
        """Reads nodes of the other end that its protocol does not declare, in one round trip.

        The texts are hostile: read each once, and parse it with `negotiate.parse_node`.
        """
        values = await self.domain.store.read_many([f"{self.otherend}/{name}" for name in names])
        return dict(zip(names, values, strict=True))

    async def read_nodes(self, *names: str) -> dict[str, str | None]:
        """Reads nodes of this device, such as those that the toolstack wrote, in one round trip."""
        values = await self.domain.store.read_many([f"{self.nodename}/{name}" for name in names])
        return dict(zip(names, values, strict=True))

    async def write_nodes(self, nodes: Mapping[str, NodeValue]) -> None:
        """Writes nodes of this device, in order, in one round trip.

        Raises:
            ValueError: a value does not fit the type that the protocol declares for it.
        """
        texts = format_nodes(self.protocol, self._side, nodes)
        await self.domain.store.write_many({f"{self.nodename}/{name}": text for name, text in texts.items()})

    def trace(self, text: str) -> None:
        """Writes a line of the driver's own into its domain's trace, which `xenlike trace` shows with the device.

        Args:
            text: the first 224 bytes of nodename and text are kept. It costs two microseconds: not for every entry.
        """
        self.domain.recorder.trace(tr.XENLIKE_TRACE_USER, tr.XENLIKE_TRACE_TEXT, f"{self.nodename}: {text}")

    def notice(self, what: str = "") -> None:
        """Makes the control task look again; buses call it when a node below `nodename` changed."""
        # Nodes of the ring and features are ours: nobody else's change of them means anything.
        if what in ("", "state", "online", f"{self._other}", f"{self._other}-id"):
            self._own_changed = True
            self._bell.ring()

    def know(self, own: Mapping[str, str | None]) -> None:
        """Takes what a bus has read of its directory, so that it need not be read again at once."""
        self._own, self._own_changed = dict(own), False

    # Hooks. All of them run in the control task, so none must wait for the device itself.

    async def setup(self) -> Mapping[str, NodeValue] | None:
        """Prepares for a connection; returns nodes to publish with the next state.

        A frontend's is called again after `GrantBusy`: the backend of before may be about to unmap a page.
        """
        return None

    async def disconnect(self) -> None:
        """Frees what `setup` and `connect` made; called exactly once for every `setup` that began.

        The queue has stopped, and is not yet unmapped. It runs shielded from cancellation.
        """

    async def suspend(self) -> None:
        """The domain is about to be suspended; nothing is in flight any more."""

    async def resume(self) -> None:
        """The domain runs again, perhaps on another machine; the device connects again after this."""

    async def resize(self) -> None:
        """The other end's nodes in `peer` changed while connected, such as a disk's size."""

    # What Frontend and Backend share.

    @property
    def _other(self) -> Side:
        return "backend" if self._side == "frontend" else "frontend"

    async def run(self) -> None:
        """Lives the device's whole life; returns when its directory is removed.

        Cancelled, it disconnects and leaves the states in the store as they are: the toolstack writes
        those of a domain that ends.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                if not self._on_bus:
                    self._nursery.start_soon(self._watch_self)
                while not self._removed:
                    await self._step()
                    if not self._removed:
                        await self._bell.wait()
                self._nursery.cancel_scope.cancel()
                self._left_behind()
        finally:
            self._removed = True
            with trio.CancelScope(shield=True):
                await self._abandon(PeerGone(f"{self.nodename} was taken away"))
            self.log.info("gone")

    def _left_behind(self) -> None:
        """The device was taken away in order: complains about what should not be there any more."""

    async def _watch_self(self) -> None:
        async with self.domain.store.watch(self.nodename) as changes:
            async for path in changes:
                self.notice(path.partition(f"{self.nodename}/")[2])

    async def _step(self) -> None:
        """Looks, acts until there is nothing more to do, and survives what that raises."""
        try:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                # The bell may have been rung for more than this.
                self._bell.ring()
                raise failure
            await self._advance()
        except Exception as error:
            error = innermost(error)
            if isinstance(error, HypervisorGone):
                raise error from None
            if isinstance(error, ProtocolError) and self.state in (XenbusState.Closing, XenbusState.Closed):
                # Its connection is given up already; what it scribbles now is of no interest.
                self.log.debug("%s", error)
            elif _is_death(error):
                self._trace(tr.XENLIKE_TRACE_LOST, error_text(error))
                await self._lose(error)
            else:
                await self.fatal(error)
        finally:
            self._leave_ahead()

    @abstractmethod
    async def _advance(self) -> None: ...

    @abstractmethod
    async def _lose(self, reason: Exception) -> None:
        """The other end's domain is gone."""

    @abstractmethod
    async def _abandon(self, reason: Exception) -> None:
        """Ends the data path on the fatal path."""

    async def _call_disconnect(self) -> None:
        try:
            await self.disconnect()
        except Exception as error:
            self.log.exception("its `disconnect` failed: %s", error)

    def _fail(self, error: Exception) -> None:
        """Reports, from the data path, what the control task has to deal with."""
        if self._failure is None:
            self._failure = error
        self._bell.ring()

    async def fatal(self, error: Exception) -> None:
        """Gives the connection up because of an error: logs it, writes the error node, goes to Closing.

        As Linux's `xenbus_dev_fatal`. The process lives, and its other devices go on. For the control
        task: a driver's hooks, `serve` and `handle` raise, and get here.
        """
        error = innermost(error)
        if isinstance(error, XenstoreError):
            with contextlib.suppress(XenlikeError):
                if await self._is_gone():
                    # What it was to read or write was taken away together with the device.
                    return
        self._trace(tr.XENLIKE_TRACE_FATAL, error_text(error))
        if isinstance(error, XenlikeError):
            self.log.error("lost: %s", error)
        else:
            self.log.error("lost: %s", error_text(error), exc_info=error)
        await self._abandon(error)
        try:
            await self.domain.store.write_many({f"error/{self.nodename}/error": error_node(error)})
            await self._publish(XenbusState.Closing)
        except XenlikeError as refused:
            self.log.warning("cannot report the error: %s", refused)

    def _move(self, new: XenbusState) -> None:
        if not is_legal_move(self.state, new):
            raise RuntimeError(f"{self.nodename}: {self.state.name} -> {new.name} is no legal move")
        if new != self.state:
            self.log.info("%s -> %s", self.state.name, new.name)
            self._trace(tr.XENLIKE_TRACE_STATE, "", self.state, new)
        self.state = new

    def _trace(self, event: int, text: str = "", a: int = 0, b: int = 0) -> None:
        """Records an event of this device."""
        what = f"{self.nodename}: {text}" if text else self.nodename
        self.domain.recorder.trace(tr.XENLIKE_TRACE_XENBUS, event, what, a, b)

    async def switch_state(self, new: XenbusState) -> None:
        """Goes to a state and publishes it.

        Raises:
            RuntimeError: it is no legal move from the present state.
        """
        await self._publish(new)

    async def _publish(self, new: XenbusState, nodes: Mapping[str, NodeValue] | None = None) -> bool:
        """Goes to a state: writes nodes and then `state`, unless the device was taken away or relinked.

        The toolstack may remove the directory, or point the frontend to another backend, at any
        moment; a late write of ours must neither bring the directory back nor overwrite its words. So
        everything is written in a transaction that has seen the directory as we know it.

        Returns:
            True if it was written. False where the directory says something new: look again.
        """
        texts = format_nodes(self.protocol, self._side, nodes or {})
        writes = {f"{self.nodename}/{name}": text for name, text in texts.items()}
        writes[f"{self.nodename}/state"] = str(int(new))
        self._move(new)
        written = await self._write_if_ours(writes)
        if written:
            self._own["state"] = writes[f"{self.nodename}/state"]
        else:
            self._look_again()
        return written

    async def _write_if_ours(self, writes: dict[str, str]) -> bool:
        store = self.domain.store
        # Whoever publishes first may have it, for they all look at the same nodes.
        ahead, self._ahead = self._ahead or store.begin(), None
        if ahead is not None:
            try:
                if not self._is_ours(*await ahead.seen(self._guards)):
                    return False
                await ahead.commit(writes)
                return True
            except Conflict as conflict:
                self.log.debug("once more: %s", conflict)
            finally:
                ahead.discard()

        async def attempt(tx: object) -> bool:
            if not self._is_ours(*await store.read_many(self._guards, tx)):
                return False
            await store.write_many(writes, tx)
            return True

        return await store.transact(attempt)

    @property
    def _guards(self) -> list[str]:
        """The nodes that say whether the directory is still as we know it."""
        return [f"{self.nodename}/{self._other}", f"{self.nodename}/state"]

    async def _capture(self) -> None:
        """Asks ahead for what the next `_publish` has to see; its answer comes while other work is done."""
        if self._ahead is None:
            return
        try:
            await self._ahead.capture(self._guards)
        except XenstoreError as error:
            # There are other ways to publish.
            self.log.debug("cannot begin ahead: %s", error)
            self._leave_ahead()

    def _leave_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.discard()

    @abstractmethod
    def _is_ours(self, otherend: str | None, state: str | None) -> bool:
        """Whether our directory, with these nodes in it, is still the one that we know."""

    async def _look(self, other: tuple[str, ...], *, ahead: bool = False) -> None:
        """Reads what may have changed, of both ends in one round trip, into `_own` and `_raw`.

        Args:
            other: nodes of the other end.
            ahead: what the other end says will probably make us publish something; with the same round trip a
                transaction is begun for that.
        """
        own_due, raw_due = self._own_changed, self._raw_changed and bool(self.otherend)
        doubtful, self._doubtful = self._doubtful and not raw_due, False
        if not (own_due or raw_due or doubtful):
            return
        self._own_changed, self._raw_changed = False, self._raw_changed and not raw_due
        paths = [f"{self.nodename}/{name}" for name in self._own_names] if own_due else []
        if raw_due:
            paths += [f"{self.otherend}/{name}" for name in other]
            if ahead and self._ahead is None:
                self._ahead = self.domain.store.begin()
        elif doubtful:
            paths.append(f"{self.otherend}/state")
        values = await self.domain.store.read_many(paths)
        if own_due:
            self._own = dict(zip(self._own_names, values, strict=False))
        if raw_due:
            self._raw = dict(zip(other, values[-len(other) :], strict=True))
        elif doubtful:
            self._settle_doubt(values[-1])
            if self._raw_changed:
                await self._look(other, ahead=ahead)

    def _look_again(self) -> None:
        """Has the control task read everything anew."""
        self._own_changed = self._raw_changed = True
        self._bell.ring()

    async def _is_complete(self) -> bool:
        """Whether our directory tells who is at the other end; notices when it has been removed."""
        if self._own[self._other] and self._own[f"{self._other}-id"] and self._own["state"]:
            return True
        # Not written completely yet, or not any more, or removed.
        await self._is_gone()
        return False

    async def _is_gone(self) -> bool:
        """Whether our directory has been removed, and we with it."""
        if (await self.domain.store.read_many([self.nodename]))[0] is None:
            self._removed = True
        return self._removed

    def _other_state(self) -> XenbusState:
        state = parse_state(self._raw.get("state"), self.otherend_id)
        if state != self._seen:
            self._seen = state
            self._trace(tr.XENLIKE_TRACE_OTHEREND, self.otherend, state)
        return state

    def _watch_otherend(self) -> None:
        """Has the other end's state watched, from the next look on; that of a former other end is not any more."""
        self._raw_changed = True
        self._watching.cancel()
        self._watching = trio.CancelScope()
        changes = self.domain.store.begin_watch(f"{self.otherend}/state")
        self._nursery.start_soon(self._hear_otherend, changes, self._watching)

    async def _hear_otherend(self, changes: WatchLike, scope: trio.CancelScope) -> None:
        with scope:
            try:
                # The first only says that the watch is there, or that and a change at once.
                await anext(changes)
                self._doubtful = True
                self._bell.ring()
                async for _ in changes:
                    self._hear()
            finally:
                changes.close()

    def _hear(self) -> None:
        """The other end has published something."""
        self._raw_changed = True
        self._bell.ring()

    def _settle_doubt(self, state: str | None) -> None:
        """Compares the other end's state with what is known: it may have been published since, or published again.

        What is published again without a change is news only from an end that is connected.
        """
        if state != self._raw.get("state") or state == str(int(XenbusState.Connected)):
            self._raw_changed = True

    def _check_otherend(self, path: str | None, domid: str | None) -> tuple[str, int]:
        """Returns the other end's directory and domid as the toolstack wrote them."""
        number = parse_domid(f"{self._other}-id", domid)
        if not path or not path.startswith("/"):
            raise ProtocolError(f"{self._other} = {path!r} is no absolute path")
        return path, number


def innermost(error: Exception) -> Exception:
    """Returns the one error of a group that says most: the first that is no group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def error_text(error: Exception) -> str:
    """Returns what an error says, with its type where that says more."""
    return str(error) if isinstance(error, XenlikeError) else f"{type(error).__name__}: {error}"


def error_node(error: Exception) -> str:
    """Returns the value of an error node: an errno and a text, as Linux's `xenbus_va_dev_error`."""
    number = getattr(error, "errno", None) or errno.EINVAL
    return f"{number} {error_text(error)}"[:1024]


def _is_death(error: Exception) -> bool:
    """Whether an error only says that the other end's domain is gone, which is no fault of the connection."""
    return (
        isinstance(error, PeerGone)
        or (isinstance(error, HypercallError) and error.errno == errno.ESRCH)
        or (isinstance(error, GrantError) and error.status == GNTST_bad_domain)
    )
