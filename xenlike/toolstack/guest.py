"""The handle of one domain, for whoever spawned it."""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import Literal

import trio

from xenlike.abi.sched import SHUTDOWN_crash
from xenlike.domain.domain import Domain
from xenlike.domain.resources import ResourceSender
from xenlike.domain.store import Transaction
from xenlike.errors import MachineError
from xenlike.toolstack.consoles import GuestConsole
from xenlike.toolstack.exits import DESTROYED, Exit
from xenlike.toolstack.spec import DomainSpec

# A domain that ends more often than this is not started again: xl has the same guard.
MAX_RESTARTS = 5
RESTART_SPAN_S = 10.0

Phase = Literal["starting", "up", "dead", "relinking"]
"""Where a domain stands: a dead one may be starting again, and then has those relinked to it that it serves."""


class Running:
    """What domain 0 holds for one incarnation of a domain."""

    def __init__(
        self,
        domid: int,
        store_port: int,
        resources: ResourceSender,
        console: GuestConsole,
        adopted: socket.socket | None,
    ) -> None:
        self.domid = domid
        self.store_port = store_port
        self.resources = resources
        self.console = console
        self._adopted = adopted

    def take_socket(self) -> socket.socket:
        """The hypercall socket of a domain that is to be adopted; once."""
        if self._adopted is None:
            raise MachineError("this domain's socket was given away, or never was here")
        adopted, self._adopted = self._adopted, None
        return adopted


class Guest:
    """One domain of a machine; made by `Machine.spawn`.

    It stays the same handle when the domain is started again, under another domid.
    """

    def __init__(self, domain0: Domain, spec: DomainSpec) -> None:
        self._domain0 = domain0
        self.spec = spec
        self.phase: Phase = "starting"
        self.destroyed = False
        self._running: Running | None = None
        self._exit: Exit | None = None
        self._ended = trio.Event()
        self._changed = trio.Event()
        self._starts: deque[float] = deque(maxlen=MAX_RESTARTS)

    # -- what it is --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def domid(self) -> int:
        """Its number now, or that of its last incarnation."""
        return self.running.domid

    @property
    def pid(self) -> int | None:
        """Its process; None before it is forked and after its end."""
        info = self._domain0.hypercalls.domain_info(self.domid) if self.is_running else None
        return info.pid or None if info is not None and info.domid == self.domid else None

    @property
    def is_running(self) -> bool:
        """False before its start and after its end."""
        return self._running is not None and self._exit is None

    @property
    def state(self) -> str:
        """`running`, or how it ended."""
        return "running" if self._exit is None else str(self._exit)

    @property
    def running(self) -> Running:
        """Domain 0's part in its present life."""
        if self._running is None:
            raise MachineError(f"domain {self.name!r} has not started")
        return self._running

    def __repr__(self) -> str:
        number = f"d{self._running.domid}" if self._running is not None else "unborn"
        return f"<Guest {self.name!r} {number} {self.state}>"

    # -- what the user does ------------------------------------------------------------------------

    async def wait(self) -> Exit:
        """Waits for the domain's end; one that is started again has not ended."""
        await self._ended.wait()
        assert self._exit is not None
        return self._exit

    async def wait_restarted(self, domid: int) -> int:
        """Waits until the domain lives under another number than `domid`, and returns that.

        Raises:
            MachineError: it ended instead.
        """
        while self._exit is None:
            if self.domid != domid and self.phase == "up":
                return self.domid
            await self._changed.wait()
        raise MachineError(f"domain {self.name!r} ended ({self._exit}) and was not started again")

    async def shutdown(self, reason: str = "poweroff", *, timeout_s: float | None = None) -> Exit:
        """Asks the domain to end, through `control/shutdown`, and waits until it has.

        Args:
            reason: Xen's word: `poweroff`, `reboot`, `suspend`, `crash`.
            timeout_s: after that long it is destroyed; None waits for as long as it takes.

        Returns:
            How it ended; for one that is started again, how its life before ended.
        """
        if self._exit is not None:
            return self._exit
        domid = self.domid
        request = f"/local/domain/{domid}/control/shutdown"

        async def ask(tx: Transaction) -> None:
            # The nodes of one that has just died may be gone, and nobody would remove new ones.
            if await tx.exists(request):
                await tx.write(request, reason)

        await self._domain0.store.transact(ask)
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s) as scope:
            while self._exit is None and self.domid == domid:
                await self._changed.wait()
        if scope.cancelled_caught:
            await self.destroy()
        return self._exit or Exit(reason)

    async def destroy(self) -> None:
        """Ends the domain at once, and waits until nothing of it is left."""
        if self._exit is None:
            self.destroyed = True
            self._domain0.hypercalls.remote_shutdown(self.domid, SHUTDOWN_crash)
            await self._ended.wait()

    async def console_input(self, data: bytes) -> None:
        """Types something on its console."""
        await self.running.console.type(data)

    # -- what the machine does ---------------------------------------------------------------------

    def started(self, running: Running) -> None:
        """A life begins."""
        self._running = running
        self._starts.append(time.monotonic())
        self._change()

    def enter(self, phase: Phase) -> None:
        """Goes to another phase."""
        self.phase = phase
        self._change()

    async def wait_started(self) -> None:
        """Waits until it starts no more: it is there, or has failed to."""
        while self.phase == "starting":
            await self._changed.wait()

    def ended(self, ending: Exit) -> None:
        """The last life is over."""
        self._exit = DESTROYED if self.destroyed else ending
        self._ended.set()
        self._change()

    def close(self) -> None:
        """The machine ends: lets go of what belongs to this domain."""
        if self._running is not None:
            self._running.resources.close()
            self._running.console.close()

    def restarts_too_fast(self) -> bool:
        """Whether it has died so often lately that starting it again would only go round in circles."""
        return len(self._starts) == MAX_RESTARTS and time.monotonic() - self._starts[0] < RESTART_SPAN_S

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
