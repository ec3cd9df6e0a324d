"""A domain of a loopback machine: its buses, its programs, and how it stops and dies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from xenlike.errors import PeerGone
from xenlike.testing.attended import DomainKilled
from xenlike.testing.fakedomain import FakeDomain
from xenlike.xenbus import BackendBus, FrontendBus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from xenlike.testing.loopback import Loopback
    from xenlike.xenbus import Backend, Frontend


class LoopDomain(FakeDomain):
    """A domain with both buses, until it dies.

    Attributes:
        task: the task from which all others of the domain descend; None before it runs.
    """

    task: trio.lowlevel.Task | None = None

    def __init__(self, machine: Loopback, domid: int, name: str, *, buses: bool = True) -> None:
        super().__init__(machine.domains, machine.tree, domid, name)
        self.home = f"/local/domain/{domid}"
        self._buses = buses
        self.frontends = FrontendBus(self, machine.frontend_drivers)
        self.backends = BackendBus(self, machine.backend_drivers)
        self._stopper = machine.stopper
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()
        self.doomed = False

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Runs the buses, and what is spawned, until the domain dies."""
        self.task = trio.lowlevel.current_task()
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    if self._buses:
                        await self._nursery.start(self._start, self.frontends)
                        await self._nursery.start(self._start, self.backends)
                    task_status.started()
                    await trio.sleep_forever()
        except BaseExceptionGroup as group:
            rest = group.split(DomainKilled)[1]
            if rest is not None and self.store.refuse is not None:
                # What it could not say any more when it was killed.
                rest = rest.split(PeerGone)[1]
            if rest is not None:
                raise
        finally:
            if self.doomed:
                self.die()
            self._stopped.set()

    def spawn(self, program: Callable[..., Awaitable[object]], *args: object) -> None:
        """Runs a program in this domain: it stops with it and dies with it."""
        self._nursery.start_soon(program, *args)

    async def _start(self, bus: FrontendBus | BackendBus, task_status: trio.TaskStatus[object]) -> None:
        await bus.run(task_status=task_status)

    def find(self, path: str) -> Frontend | Backend:
        """Returns the device of a directory; LookupError if it is not attached."""
        for bus in (self.frontends, self.backends):
            for device in bus:
                if f"{self.home}/{device.nodename}" == path:
                    return device
        raise LookupError(f"{path} is not attached")

    def has(self, path: str) -> bool:
        """Says whether the device of a directory is attached."""
        try:
            self.find(path)
        except LookupError:
            return False
        return True

    async def kill(self) -> None:
        """Ends the domain as SIGKILL does: no node is written, no state is said."""
        self.doom()
        with trio.CancelScope(shield=True):
            await self._stopped.wait()

    def doom(self) -> None:
        """As `kill`, but does not wait until its tasks have ended."""
        # From here on it writes nothing; its watches are not told, since nobody is there to hear it.
        self.store.refuse = PeerGone("the domain is dead")
        self.doomed = True
        self.alive = False
        self._scope.cancel()
        self.go()

    async def wait_dead(self) -> None:
        """Waits until it is dead, and everything that it held is free."""
        await self._stopped.wait()

    def stop(self) -> None:
        """Stops it as SIGSTOP does: none of its tasks takes another step until `go`, or death."""
        self._stopper.stop(self)

    def go(self) -> None:
        """Has a stopped domain go on; nothing to do for another."""
        self._stopper.go(self)

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was the last word."""
        return self._stopper.holds(self)

    def owns(self, task: trio.lowlevel.Task | None) -> bool:
        """Says whether a task runs in this domain."""
        while task is not None:
            if task is self.task:
                return True
            task = None if task.parent_nursery is None else task.parent_nursery.parent_task
        return False
