"""The client end of a machine's control socket; `control_wire` has the protocol.

async with connect("lab") as control:
for domain in await control.domains():
print(domain.name, domain.state)
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from xenlike.errors import ConfigError, MachineError, NoSuchMachine
from xenlike.toolstack import control_wire as wire
from xenlike.toolstack.control_wire import DomainInfo, ExitInfo
from xenlike.toolstack.devices import Disk
from xenlike.toolstack.lines import LineReader
from xenlike.toolstack.paths import MachinePaths, machine_names

if TYPE_CHECKING:
    from xenlike.toolstack.why import Explanation

_T = TypeVar("_T")


class Control:
    """A connection to a running machine; `connect` makes one.

    Requests go one after the other; a console takes its connection for itself.
    """

    def __init__(self, name: str, stream: trio.SocketStream) -> None:
        self.name = name
        self._stream = stream
        self._lines = LineReader(stream, wire.MAX_LINE)
        self._ids = count(1)

    async def domains(self) -> list[DomainInfo]:
        """Returns all domains."""
        return await self.call("list", {}, list[DomainInfo])

    async def shutdown(self, domain: str, reason: str = "poweroff", timeout_s: float | None = None) -> ExitInfo:
        """Asks a domain to shut down, and waits for its end.

        Raises:
            NoSuchDomain: there is none of that name or domid.
            MachineError: it did not end within `timeout_s`.
        """
        return await self.call("shutdown", {"domain": domain, "reason": reason, "timeout_s": timeout_s}, ExitInfo)

    async def destroy(self, domain: str) -> None:
        """Ends a domain at once."""
        await self.call("destroy", {"domain": domain}, type(None))

    async def block_attach(self, domain: str, disk: Disk) -> None:
        """Plugs a disk in; returns when the guest is connected to it."""
        await self.call("block-attach", {"domain": domain, "disk": disk}, type(None))

    async def block_detach(self, domain: str, vdev: str) -> None:
        """Unplugs a disk; returns when it is gone."""
        await self.call("block-detach", {"domain": domain, "vdev": vdev}, type(None))

    async def publish(self, period_ms: int = 0, lease_ms: int = 0) -> int:
        """Has statistics published now, and then in a period until the lease ends.

        Returns:
            The number of the snapshot that answers this; see `xenlike.toolstack.statistics`.
        """
        return await self.call("publish", {"period_ms": period_ms, "lease_ms": lease_ms}, int)

    async def why(self, device: str = "") -> list[Explanation]:
        """Says why a device stands as it does, in a list of one; of all devices for an empty name.

        Raises:
            NoSuchDevice: there is none of that name.
            ConfigError: several have it.
        """
        from xenlike.toolstack.why import Explanation

        async with aclosing(self.events("why", {"device": device})) as events:
            return [msgspec.json.decode(event["explanation"], type=Explanation) async for event in events]

    async def down(self) -> None:
        """Ends the machine with all its domains; returns when it is gone."""
        await self.call("down", {}, type(None))
        try:
            async for _ in self._lines:
                pass
        except trio.BrokenResourceError:
            pass

    async def call(self, method: str, params: Mapping[str, object], kind: type[_T]) -> _T:
        """Sends one request, and returns its result.

        Raises:
            XenlikeError: what the machine answered.
            MachineError: the machine went away meanwhile.
        """
        number = await self._send(method, params)
        while True:
            reply = await self._receive()
            if reply.id == number and reply.event is None:
                if reply.error is not None:
                    raise wire.revive(reply.error)
                return msgspec.json.decode(reply.result, type=kind)

    async def console(self, domain: str, *, follow: bool = True) -> AsyncIterator[bytes]:
        """Yields a domain's output: what is kept of it, then, to `follow`, what comes until the domain ends."""
        number = await self._send("console", {"domain": domain, "follow": follow})
        while True:
            reply = await self._receive()
            if reply.id != number:
                continue  # the answer to input
            if reply.error is not None:
                raise wire.revive(reply.error)
            if reply.event is None:
                return
            yield msgspec.convert(reply.event["data"], bytes)

    async def events(self, method: str, params: Mapping[str, object]) -> AsyncGenerator[dict[str, str], None]:
        """Sends a request that is answered by events, and yields them until its result comes; errors as `call`."""
        number = await self._send(method, params)
        while True:
            reply = await self._receive()
            if reply.id == number:
                if reply.error is not None:
                    raise wire.revive(reply.error)
                if reply.event is None:
                    return
                yield reply.event

    async def console_input(self, domain: str, data: bytes) -> None:
        """Types into a domain's console while `console` reads from it; does not wait for an answer."""
        await self._send("console-input", {"domain": domain, "data": data})

    async def _send(self, method: str, params: Mapping[str, object]) -> int:
        number = next(self._ids)
        request = {"id": number, "method": method, "params": params}
        try:
            await self._stream.send_all(msgspec.json.encode(request) + b"\n")
        except trio.BrokenResourceError:
            raise MachineError(f"machine {self.name!r} went away") from None
        return number

    async def _receive(self) -> wire.Reply:
        try:
            async for line in self._lines:
                return msgspec.json.decode(line, type=wire.Reply)
        except (trio.BrokenResourceError, ValueError):
            pass
        raise MachineError(f"machine {self.name!r} went away before it answered")


def running_machines(root: Path | str | None = None) -> list[str]:
    """Returns the names of the machines whose control socket answers."""
    running = []
    for name in machine_names(root):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(MachinePaths.of(name, root).control))
            except (OSError, ConfigError):
                continue
        running.append(name)
    return running


@asynccontextmanager
async def connect(name: str, root: Path | str | None = None) -> AsyncIterator[Control]:
    """Connects to a running machine.

    Raises:
        NoSuchMachine: none of that name runs.
        ConfigError: the name is none.
    """
    paths = MachinePaths.of(name, root)
    try:
        stream = await trio.open_unix_socket(str(paths.control))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            raise
        running = running_machines(root)
        hint = f"; there are: {', '.join(running)}" if running else ""
        raise NoSuchMachine(f"no machine {name!r} is running{hint}") from None
    async with stream:
        yield Control(name, stream)
