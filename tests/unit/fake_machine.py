"""A machine without processes, for tests of what talks to machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import trio

from xenlike.errors import MachineError, NoSuchDevice
from xenlike.toolstack.console_log import ConsoleLog
from xenlike.toolstack.control_server import ControlServer
from xenlike.toolstack.control_wire import DomainInfo, ExitInfo
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.paths import MachinePaths
from xenlike.toolstack.tracing.updates import TraceParams, TraceUpdate
from xenlike.toolstack.why import Explanation


@dataclass
class FakeDomain:
    domid: int
    name: str
    pid: int | None = None
    typed: bytearray = field(default_factory=bytearray)
    destroyed: bool = False

    async def shutdown(self, reason: str = "poweroff", *, timeout_s: float | None = None) -> ExitInfo:
        if timeout_s == 0:
            raise MachineError(f"{self.name!r} did not shut down within 0 s")
        return ExitInfo(reason, 0)

    async def destroy(self) -> None:
        self.destroyed = True

    async def console_input(self, data: bytes) -> None:
        self.typed += data


class FakeMachine:
    def __init__(self) -> None:
        self.name = "lab"
        self.guest = FakeDomain(3, "guest")
        self.log = ConsoleLog()
        self.attached: list[tuple[str, Disk]] = []
        self.leases: list[tuple[int, int]] = []
        self.traced: list[TraceParams] = []
        self.updates: list[TraceUpdate] = []
        self.explanations: list[Explanation] = []
        self.down = trio.Event()

    @property
    def domains(self) -> Mapping[str, FakeDomain]:
        return {self.guest.name: self.guest}

    async def list(self) -> Sequence[DomainInfo]:
        return [DomainInfo(3, "guest", "running", 64 << 20, 77, 1.5, [], ["xvda"])]

    async def attach_disk(self, domain: str, disk: Disk) -> None:
        self.attached.append((domain, disk))

    async def detach(self, domain: str, vdev: str) -> None:
        raise NoSuchDevice(f"{domain!r} has no {vdev}")

    def open_console(self, domain: str) -> AbstractContextManager[trio.MemoryReceiveChannel[bytes]]:
        return self.log.subscribe(domain)

    def publish(self, period_ms: int, lease_ms: int) -> int:
        self.leases.append((period_ms, lease_ms))
        return 7

    async def trace(self, params: TraceParams, send: Callable[[TraceUpdate], Awaitable[None]]) -> None:
        self.traced.append(params)
        for update in self.updates:
            await send(update)
        if params.follow:
            await trio.sleep_forever()

    async def why(self, device: str) -> Sequence[Explanation]:
        if device not in ("", "guest/xvda"):
            raise NoSuchDevice(f"there is no device {device!r}; there are: guest/xvda")
        return self.explanations

    def request_down(self) -> None:
        self.down.set()


@contextmanager
def served(name: str, root: Path) -> Iterator[FakeMachine]:
    """Serves the control socket of a fake machine from a thread; `down` ends it as it ends a real one."""
    machine = FakeMachine()
    machine.name = name
    paths = MachinePaths.of(name, root)
    paths.create()
    ready = Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def run() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlServer(machine, paths.control).serve)
            ready.set()
            await machine.down.wait()
            nursery.cancel_scope.cancel()
        paths.remove()

    thread = Thread(target=trio.run, args=(run,))
    thread.start()
    assert ready.wait(20)
    try:
        yield machine
    finally:
        if thread.is_alive():
            try:
                trio.from_thread.run_sync(machine.down.set, trio_token=tokens[0])
            except trio.RunFinishedError:
                pass
        thread.join(20)
