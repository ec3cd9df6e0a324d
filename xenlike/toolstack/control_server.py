"""The server end of a machine's control socket.

`control_wire` has the protocol. Whoever may connect may do all: the socket lies in a folder of its user alone, the
server looks at the peer's uid all the same, and refuses the machine's own domains, which share that uid.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import trio

from xenlike.errors import ConfigError, NoSuchDomain, XenlikeError
from xenlike.toolstack import control_wire as wire
from xenlike.toolstack.control_wire import DomainInfo, ExitInfo
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.lines import LineReader
from xenlike.toolstack.tracing.updates import TraceParams, TraceUpdate
from xenlike.toolstack.why import Explanation

_T = TypeVar("_T")
_REASONS = ("poweroff", "reboot", "suspend", "crash", "watchdog", "soft_reset")


class Exit(Protocol):
    """How a domain ended; the fields are those of `ExitInfo`."""

    @property
    def reason(self) -> str:
        """Xen's reason, as `poweroff`."""

    @property
    def code(self) -> int | None:
        """The exit status."""

    @property
    def signal(self) -> int | None:
        """What killed it."""


class ControlledDomain(Protocol):
    """What the server needs of a domain's handle."""

    @property
    def domid(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def pid(self) -> int | None:
        """Its process, if it has one."""

    async def shutdown(self, reason: str = "poweroff", *, timeout_s: float | None = None) -> Exit:
        """Asks it to shut down and waits for its end; `MachineError` when that does not come in time."""

    async def destroy(self) -> None:
        """Ends it at once."""

    async def console_input(self, data: bytes) -> None:
        """Types into its console."""


class ControlledMachine(Protocol):
    """What the server needs of a machine."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def domains(self) -> Mapping[str, ControlledDomain]:
        """The living, by name."""

    async def list(self) -> Sequence[DomainInfo]:
        """The lines of `xenlike list`."""

    async def attach_disk(self, domain: str, disk: Disk) -> None:
        """Plugs a disk in, and waits until the guest is connected to it."""

    async def detach(self, domain: str, vdev: str) -> None:
        """Unplugs a disk, and waits until it is gone."""

    def open_console(self, domain: str) -> AbstractContextManager[trio.MemoryReceiveChannel[bytes]]:
        """Opens a channel with what is kept of a domain's output and what comes, which ends with the domain."""

    def publish(self, period_ms: int, lease_ms: int) -> int:
        """Has statistics published; returns the number of the snapshot that answers this."""

    async def trace(self, params: TraceParams, send: Callable[[TraceUpdate], Awaitable[None]]) -> None:
        """Sends what domains record, until cancelled or all that was asked for is sent."""

    async def why(self, device: str) -> Sequence[Explanation]:
        """Explains why a device stands as it does; all of them for an empty name."""

    def request_down(self) -> None:
        """Begins the end of the machine; the server is cancelled on the way."""


class ControlServer:
    """Serves one machine's control socket.

    Args:
        machine: whom it controls.
        path: of the socket; what is left there of a machine that is gone is replaced.
    """

    def __init__(self, machine: ControlledMachine, path: Path) -> None:
        self._machine = machine
        self._path = path

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled, then removes the socket."""
        listener = _listen(self._path)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    connection, _ = await listener.accept()
                    if self._is_welcome(connection):
                        nursery.start_soon(_Session(self._machine, connection).run)
                    else:
                        connection.close()
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    def _is_welcome(self, connection: trio.socket.SocketType) -> bool:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", credentials)
        return uid in (0, os.geteuid()) and pid not in {domain.pid for domain in self._machine.domains.values()}


def find_domain(machine: ControlledMachine, who: str) -> ControlledDomain:
    """Returns a domain by its name, or by its domid in decimal.

    Raises:
        NoSuchDomain: there is none.
    """
    if (domain := machine.domains.get(who)) is not None:
        return domain
    for domain in machine.domains.values():
        if str(domain.domid) == who:
            return domain
    names = ", ".join(machine.domains) or "none"
    raise NoSuchDomain(f"machine {machine.name!r} has no domain {who!r}; there are: {names}")


class _Session:
    """One connection: its requests run side by side, and end with it."""

    def __init__(self, machine: ControlledMachine, connection: trio.socket.SocketType) -> None:
        self._machine = machine
        self._stream = trio.SocketStream(connection)
        self._lock = trio.Lock()

    async def run(self) -> None:
        try:
            async with self._stream, trio.open_nursery() as nursery:
                async for line in LineReader(self._stream, wire.MAX_LINE):
                    try:
                        request = msgspec.json.decode(line, type=wire.Request)
                    except msgspec.MsgspecError as error:
                        await self._send(wire.Reply(0, error=wire.Failure("ConfigError", f"bad request: {error}")))
                        break
                    nursery.start_soon(self._answer, request)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ValueError):
            pass  # the client went away, or sent a line without end

    async def _answer(self, request: wire.Request) -> None:
        try:
            result = await self._call(request)
            reply = wire.Reply(request.id, result=msgspec.Raw(msgspec.json.encode(result)))
        except (XenlikeError, OSError, msgspec.MsgspecError) as error:
            is_ours = not isinstance(error, msgspec.MsgspecError)
            why = wire.failure(error) if is_ours else wire.Failure("ConfigError", f"{request.method}: {error}")
            reply = wire.Reply(request.id, error=why)
        await self._send(reply)
        if request.method == "down" and reply.error is None:
            self._machine.request_down()

    async def _call(self, request: wire.Request) -> object:
        match request.method:
            case "list":
                return list(await self._machine.list())
            case "shutdown":
                return await self._shutdown(_params(request, wire.ShutdownParams))
            case "destroy":
                await self._find(_params(request, wire.OneDomain)).destroy()
            case "block-attach":
                attach = _params(request, wire.AttachParams)
                await self._machine.attach_disk(self._find(attach).name, attach.disk)
            case "block-detach":
                detach = _params(request, wire.DetachParams)
                await self._machine.detach(self._find(detach).name, detach.vdev)
            case "console":
                with contextlib.suppress(trio.EndOfChannel):
                    await self._console(request)
            case "console-input":
                typed = _params(request, wire.InputParams)
                await self._find(typed).console_input(typed.data)
            case "publish":
                publish = _params(request, wire.PublishParams)
                return self._machine.publish(publish.period_ms, publish.lease_ms)
            case "trace":
                await self._trace(request)
            case "why":
                for explanation in await self._machine.why(_params(request, wire.WhyParams).device):
                    event = {"explanation": msgspec.json.encode(explanation).decode()}
                    await self._send(wire.Reply(request.id, event=event))
            case "down":
                pass
            case _:
                raise ConfigError(f"the control socket knows no method {request.method!r}")
        return None

    async def _shutdown(self, params: wire.ShutdownParams) -> ExitInfo:
        if params.reason not in _REASONS:
            raise ConfigError(f"{params.reason!r} is no reason to shut down; there are {', '.join(_REASONS)}")
        exit = await self._find(params).shutdown(params.reason, timeout_s=params.timeout_s)
        return ExitInfo(exit.reason, exit.code, exit.signal)

    async def _console(self, request: wire.Request) -> None:
        params = _params(request, wire.ConsoleParams)
        with self._machine.open_console(self._find(params).name) as output:
            while True:
                try:
                    data = output.receive_nowait()
                except trio.WouldBlock:
                    if not params.follow:
                        return
                    data = await output.receive()
                event = {"data": msgspec.to_builtins(data)}
                await self._send(wire.Reply(request.id, event=event))

    async def _trace(self, request: wire.Request) -> None:
        async def send(update: TraceUpdate) -> None:
            event = {"update": msgspec.json.encode(update).decode()}
            await self._send(wire.Reply(request.id, event=event))

        await self._machine.trace(_params(request, TraceParams), send)

    def _find(self, params: wire.OneDomain) -> ControlledDomain:
        return find_domain(self._machine, params.domain)

    async def _send(self, reply: wire.Reply) -> None:
        async with self._lock:
            await self._stream.send_all(msgspec.json.encode(reply) + b"\n")


def _params(request: wire.Request, kind: type[_T]) -> _T:
    return msgspec.json.decode(request.params, type=kind)


def _listen(path: Path) -> trio.socket.SocketType:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        return trio.socket.from_stdlib_socket(listener)
    except BaseException:
        listener.close()
        raise
