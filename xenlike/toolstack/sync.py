"""The same machine without `async`, for scripts.

    with open_machine("lab") as machine:
        machine.spawn("store", backends=["vbd"])
        guest = machine.spawn("guest", "copy.py:main", devices=[Disk("a.img", backend="store")])
        print(guest.wait())

The machine runs in a thread of its own; each call here waits for its counterpart there.

A guest's functions are often in the script that starts it, and so a guest imports this module, without ever
opening a machine: what that takes is imported when one is opened.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio

from xenlike.errors import HypervisorGone, MachineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from xenlike.abi.driver import Driver
    from xenlike.toolstack.config import Action
    from xenlike.toolstack.consoles import Sink
    from xenlike.toolstack.control_wire import DomainInfo
    from xenlike.toolstack.devices import Device, Disk
    from xenlike.toolstack.exits import Exit
    from xenlike.toolstack.guest import Guest
    from xenlike.toolstack.machine import Machine
    from xenlike.toolstack.spec import Entry
    from xenlike.toolstack.why import Explanation

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SyncGuest:
    """One domain; see `Guest`."""

    def __init__(self, machine: SyncMachine, guest: Guest) -> None:
        self._machine = machine
        self._guest = guest

    @property
    def name(self) -> str:
        """Its name."""
        return self._guest.name

    @property
    def domid(self) -> int:
        """Its number now."""
        return self._guest.domid

    @property
    def state(self) -> str:
        """`running`, or how it ended."""
        return self._guest.state

    def wait(self, timeout_s: float | None = None) -> Exit:
        """Waits for the domain's end.

        Raises:
            TimeoutError: it did not end in that time.
        """

        async def bounded() -> Exit:
            with trio.fail_after(float("inf") if timeout_s is None else timeout_s):
                return await self._guest.wait()

        try:
            return self._machine.call(bounded)
        except trio.TooSlowError:
            raise TimeoutError(f"domain {self.name!r} did not end within {timeout_s} s") from None

    def shutdown(self, reason: str = "poweroff", timeout_s: float | None = None) -> Exit:
        """Asks the domain to end and waits; see `Guest.shutdown`."""

        async def shut_down() -> Exit:
            return await self._guest.shutdown(reason, timeout_s=timeout_s)

        return self._machine.call(shut_down)

    def destroy(self) -> None:
        """Ends the domain at once."""
        self._machine.call(self._guest.destroy)


class SyncMachine:
    """A machine for scripts; made by `with open_machine(...)`."""

    def __init__(self, name: str, runtime_dir: Path | str | None, console: Sink | None) -> None:
        self._arguments = (name, runtime_dir, console)
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._machine: Machine | None = None
        self._failure: BaseException | None = None
        self._stop: trio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=f"xenlike-{name}", daemon=True)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        from xenlike.toolstack.machine import run_machine

        async with run_machine(*self._arguments) as machine:
            self._stop = trio.Event()
            self._token = trio.lowlevel.current_trio_token()
            self._machine = machine
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._machine is None:
            self._thread.join()
            raise self._failure or MachineError("the machine did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None and self._stop is not None:
            try:
                self._token.run_sync_soon(self._stop.set)
            except trio.RunFinishedError:
                pass
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Calls an async function in the machine's event loop and waits for its result.

        Raises:
            HypervisorGone: the machine has ended.
        """
        try:
            return trio.from_thread.run(function, *args, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled) as ended:
            self._thread.join()
            raise self._failure or HypervisorGone("the machine has ended") from ended

    @property
    def name(self) -> str:
        """The machine's name."""
        return self._arguments[0]

    def spawn(
        self,
        name: str,
        entry: Entry = None,
        *,
        devices: Sequence[Disk | Device] = (),
        backends: Sequence[str] = (),
        drivers: Sequence[Driver] = (),
        memory: str | int = "64M",
        args: Sequence[object] = (),
        on_crash: Action = "destroy",
        on_reboot: Action = "restart",
        on_poweroff: Action = "destroy",
    ) -> SyncGuest:
        """Starts a domain; see `Machine.spawn`."""

        async def start() -> Guest:
            return await self.machine.spawn(
                name,
                entry,
                devices=devices,
                backends=backends,
                drivers=drivers,
                memory=memory,
                args=args,
                on_crash=on_crash,
                on_reboot=on_reboot,
                on_poweroff=on_poweroff,
            )

        return SyncGuest(self, self.call(start))

    def attach(self, domain: str, device: Disk | Device) -> None:
        """Plugs a device into a running domain."""
        self.call(self.machine.attach, domain, device)

    def detach(self, domain: str, vdev: str) -> None:
        """Unplugs a device by its name."""
        self.call(self.machine.detach, domain, vdev)

    def list(self) -> list[DomainInfo]:
        """What there is."""
        return self.call(self.machine.list)

    def why(self, device: str = "") -> Sequence[Explanation]:
        """Says why a device, or each of them, stands as it does."""
        return self.call(self.machine.why, device)

    @property
    def machine(self) -> Machine:
        """The machine itself, for use through `call`."""
        if self._machine is None:
            raise MachineError("the machine is not running: use it inside `with`")
        return self._machine


class OpenMachine:
    """What `open_machine` returns: enter it with `async with`, or with `with`."""

    def __init__(self, name: str, runtime_dir: Path | str | None, console: Sink | None) -> None:
        self._arguments = (name, runtime_dir, console)
        from xenlike.toolstack.machine import run_machine

        self._sync: SyncMachine | None = None
        self._async = run_machine(*self._arguments)

    async def __aenter__(self) -> Machine:
        return await self._async.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._async.__aexit__(kind, error, trace)

    def __enter__(self) -> SyncMachine:
        self._sync = SyncMachine(*self._arguments)
        return self._sync.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sync is not None:
            self._sync.__exit__(kind, error, trace)


def open_machine(
    name: str = "xenlike", *, runtime_dir: Path | str | None = None, console: Sink | None = None
) -> OpenMachine:
    """Opens a machine of one's own: hypervisor, zygote, store, and this process as domain 0.

    Args:
        name: unique among the running machines of this user.
        runtime_dir: where its sockets lie; see `xenlike.toolstack.paths`.
        console: takes (domain's name, output bytes) of all domains; by default each line is printed
            to standard output behind the name.

    Returns:
        A context manager for `async with` (a `Machine`) and for `with` (a `SyncMachine`).

    Raises:
        MachineError: on entering; a machine of that name runs, or the store does not start.
        HypervisorGone: out of the block, when the hypervisor dies.
    """
    return OpenMachine(name, runtime_dir, console)
