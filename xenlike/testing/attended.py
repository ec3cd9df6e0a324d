"""A domain with fault points in it; `xenlike.testing.faults` says what they are.

Each of its calls is the real one, between two points; nothing is changed but this one domain's own objects.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from xenlike import _core
from xenlike.errors import PeerGone
from xenlike.testing.fakedomain import FakeChannel
from xenlike.testing.fakestore import FakeTransaction
from xenlike.xenbus.backqueue import BackQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from xenlike.testing.fakedomain import FakeMapping
    from xenlike.testing.faults import Faults
    from xenlike.testing.loopdomain import LoopDomain


class DomainKilled(BaseException):
    """Unwinds the tasks of a domain that a fault has killed; no driver catches it."""


class Attended:
    """A domain with points in it: its calls are the real ones, between two of them.

    Args:
        domain: the domain.
        faults: what happens.
    """

    def __init__(self, domain: LoopDomain, faults: Faults) -> None:
        self._domain = domain
        self._faults = faults
        # What was about to be sent when the domain stopped; told whether to do it.
        self._later: list[Callable[[bool], None]] = []
        self._map = domain.grants.map
        self._commit, self._write_many = domain.store.commit, domain.store.write_many
        for owner, name, wrapped in (
            (domain.grants, "map", self.map),
            (domain.store, "commit", self.commit),
            (domain.store, "write_many", self.write_many),
            (domain.events, "alloc_unbound", self._of_channel(domain.events.alloc_unbound)),
            (domain.events, "bind", self._of_channel(domain.events.bind)),
            (domain, "go", self._go(domain.go)),
        ):
            setattr(owner, name, wrapped)

    def passing(self, point: str, *, to_the_end: bool = False) -> None:
        """Lets happen what is to happen here.

        Args:
            point: where.
            to_the_end: a domain that dies here still takes its present step to its end.

        Raises:
            DomainKilled: the domain is dead. `PeerGone` where the caller is no task of it.
        """
        domain = self._domain
        action = None if domain.doomed else self._faults.due(point)
        if action is not None and action.name == "kill":
            domain.doom()
        elif action is not None:
            domain.stop()
            if action.name == "delay":
                trio.lowlevel.spawn_system_task(self._go_on, action.seconds)
        if domain.doomed and not (to_the_end and action is not None):
            if domain.owns(trio.lowlevel.current_task()):
                raise DomainKilled(f"d{domain.domid} was killed {point}")
            raise PeerGone(f"d{domain.domid} was killed {point}")

    async def _go_on(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self._domain.go()

    def perform(self, what: str, effect: Callable[[], None]) -> None:
        """Does something that the peer sees, now or, if the domain is stopped before it, when it goes on."""
        self.passing(f"before-{what}")
        if self._domain.is_stopped:
            self._later.append(lambda alive: effect() if alive else None)
        else:
            effect()
        self.passing(f"after-{what}")

    def later(self, effect: Callable[[bool], None]) -> None:
        """Has something called when the stopped domain goes on, with True, or dies, with False."""
        self._later.append(effect)

    @property
    def is_stopped(self) -> bool:
        """Whether the domain is."""
        return self._domain.is_stopped

    def _go(self, go: Callable[[], None]) -> Callable[[], None]:
        def gone_on() -> None:
            later, self._later = self._later, []
            go()
            for effect in later:
                effect(not self._domain.doomed)

        return gone_on

    # The domain's calls.

    def map(self, domid: int, grefs: Sequence[int], *, readonly: bool = False) -> FakeMapping:
        """As `FakeGrants.map`."""
        self.passing("before-map")
        mapping = self._map(domid, grefs, readonly=readonly)
        self.passing("after-map")
        return mapping

    async def write_many(self, nodes: Mapping[str, str], tx: object = None) -> None:
        """As `FakeStore.write_many`."""
        await self._publish(tx is None and _tells_state(nodes), self._write_many, nodes, tx)

    async def commit(self, tx: FakeTransaction) -> bool:
        """As `FakeStore.commit`."""
        written: bool = await self._publish(_tells_state(tx.writes), self._commit, tx)
        return written

    async def _publish(self, tells_state: bool, write: Callable[..., Awaitable[Any]], *args: object) -> Any:
        if not tells_state:
            return await write(*args)
        self.passing("before-publish")
        # If that has stopped it, it goes no further than to the checkpoint with which a write begins.
        result = await write(*args)
        self.passing("after-publish")
        return result

    def _of_channel(self, make: Callable[[int], FakeChannel] | Callable[[int, int], FakeChannel]) -> object:
        def made(*args: int) -> FakeChannel:
            channel: FakeChannel = make(*args)
            # Queues notify through its descriptor, from C, so reading that is the point.
            channel.__class__ = _Channel
            assert isinstance(channel, _Channel)
            channel.attended = self
            return channel

        return made


class _Channel(FakeChannel):
    """A channel that a queue cannot notify unseen."""

    attended: Attended | None = None
    _shut = False

    @property
    def tx_fd(self) -> int:
        """The descriptor to notify; of a pipe that leads nowhere yet, while the domain is stopped."""
        fd: int = self.__dict__["tx_fd"]
        if self.attended is None or self._shut:
            return fd
        self.attended.passing("before-notify")
        if not self.attended.is_stopped:
            # It happens in C, right after this.
            self.attended.passing("after-notify", to_the_end=True)
            return fd
        rx, tx = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def forward(alive: bool) -> None:
            os.close(tx)
            due = bool(os.read(rx, 1))
            os.close(rx)
            if due and alive and not self._shut:
                _core.notify(fd)

        self.attended.later(forward)
        return tx

    @tx_fd.setter
    def tx_fd(self, fd: int) -> None:
        self.__dict__["tx_fd"] = fd

    def notify(self) -> None:
        """As `FakeChannel.notify`."""
        fd = self.tx_fd
        if fd >= 0:
            _core.notify(fd)

    def close(self) -> None:
        """As `FakeChannel.close`."""
        self._shut = True
        super().close()


def _tells_state(nodes: Mapping[str, str] | Mapping[str, str | None]) -> bool:
    return any(path.endswith("/state") for path in nodes)


def attended_responses(real: Callable[..., None]) -> Callable[..., None]:
    """Returns `BackQueue.respond_raw` with its two points, for queues of attended domains."""

    def respond_raw(self: BackQueue, entries: bytes, count: int) -> None:
        attended = getattr(self._channel, "attended", None)
        if attended is None:
            real(self, entries, count)
        else:
            entries = bytes(entries)

            def respond() -> None:
                real(self, entries, count)
                if late:
                    # The kick that belongs to it came too early, and found nothing to tell.
                    self.kick()

            late = False
            attended.perform("respond", respond)
            late = True

    return respond_raw
