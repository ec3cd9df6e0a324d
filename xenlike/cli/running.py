"""The machine behind `xenlike up`: in the foreground, or as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import trio

from xenlike.cli.status import USAGE, single
from xenlike.errors import ConfigError, MachineError
from xenlike.toolstack.config import DomainConfig, MachineConfig
from xenlike.toolstack.guest import Guest
from xenlike.toolstack.machine import Machine
from xenlike.toolstack.paths import MachinePaths
from xenlike.toolstack.spec import Exec
from xenlike.toolstack.sync import open_machine

_ENDS = (signal.SIGTERM, signal.SIGHUP)
_READY = b"ready\n"


def run_in_foreground(config: MachineConfig, ready_fd: int | None = None) -> bool:
    """Runs a machine until its guests have ended, it is asked to go down, or it is interrupted.

    Args:
        config: of the machine.
        ready_fd: told when all domains have started, or why they have not; closed. With it the machine is detached,
            and outlives its guests until it is asked to go down.

    Returns:
        False if a guest crashed.

    Raises:
        XenlikeError: a domain could not be started; the others are gone again.
        KeyboardInterrupt: by Ctrl-C or SIGTERM.
    """

    def tell(text: bytes) -> None:
        nonlocal ready_fd
        if ready_fd is not None:
            os.write(ready_fd, text)
            os.close(ready_fd)
            ready_fd = None

    try:
        with orderly_end():
            return trio.run(_run, config, lambda: tell(_READY), ready_fd is not None)
    except BaseException as raised:
        error = single(raised)
        tell((str(error) or type(error).__name__).encode()[:4000])
        raise


async def _run(config: MachineConfig, ready: Callable[[], None], detached: bool) -> bool:
    crashed: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals)
        async with open_machine(config.name) as machine:
            if detached:
                _name_log(machine.paths)
            handles = [await spawn(machine, domain) for domain in config.domains]
            ready()
            guests = [handle for handle, domain in zip(handles, config.domains, strict=True) if is_guest(domain)]
            async with trio.open_nursery() as waiting:
                waiting.start_soon(_end_with, machine.wait_down, waiting.cancel_scope)
                await _wait_for(guests or handles, crashed)
                if detached:
                    await trio.sleep_forever()  # until `down`
                waiting.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    return not crashed


async def spawn(machine: Machine, domain: DomainConfig) -> Guest:
    """Starts a domain of a machine file."""
    return await machine.spawn(
        domain.name,
        Exec(domain.exec) if domain.exec else domain.entry,
        devices=domain.devices,
        backends=domain.backends,
        memory=domain.memory,
        args=domain.args,
        on_crash=domain.on_crash,
        on_reboot=domain.on_reboot,
        on_poweroff=domain.on_poweroff,
    )


def is_guest(domain: DomainConfig) -> bool:
    """Whether a domain does a job that ends; one that only serves others goes on for ever."""
    return bool(domain.entry or domain.exec)


async def _wait_for(handles: list[Guest], crashed: list[str]) -> None:
    async def wait(handle: Guest) -> None:
        exit = await handle.wait()
        if exit.reason != "poweroff" or exit.code or exit.signal:
            print(f"{handle.name} ended: {exit}", file=sys.stderr, flush=True)  # noqa: T201
        if exit.reason == "crash":
            crashed.append(handle.name)

    async with trio.open_nursery() as nursery:
        for handle in handles:
            nursery.start_soon(wait, handle)


async def _end_with(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Does what Ctrl-C does now: while trio runs it is not raised amid trio's own code."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        # As in a shell's background job, which Ctrl-C is not for.
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


@contextmanager
def orderly_end() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP what Ctrl-C is, outside of trio; inside of it `watch_signals` does."""
    previous = {number: signal.signal(number, _interrupt) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


async def watch_signals(task_status: trio.TaskStatus[None]) -> None:
    """Makes SIGTERM and SIGHUP what Ctrl-C is: an orderly end."""
    with trio.open_signal_receiver(*_ENDS) as signals:
        task_status.started()
        async for _ in signals:
            raise KeyboardInterrupt


def start_detached(config: MachineConfig, verbose: int = 0) -> None:
    """Starts a machine as a process of its own, and returns when all its domains have started.

    What it prints goes to `machine.log` in its runtime folder while it runs; `xenlike console` shows the same.

    Raises:
        ConfigError: it was described wrongly after all.
        MachineError: it did not start; the message says why.
    """
    paths = MachinePaths.of(config.name)
    ready, tell = os.pipe()
    command = [sys.executable, "-m", "xenlike.cli", *["-v"] * verbose, "-m", config.name]
    command += ["up", str(config.path.absolute()), "--ready-fd", str(tell)]
    try:
        log = _nameless_file(paths)
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[tell], start_new_session=True
            )
        finally:
            os.close(log)
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(tell)
    with open(ready, "rb") as pipe:
        answer = pipe.read()
    if answer != _READY:
        message = answer.decode(errors="replace").strip() or f"machine {config.name!r} ended while it started"
        raise ConfigError(message) if process.wait() == USAGE else MachineError(message)


def _nameless_file(paths: MachinePaths) -> int:
    """Opens a file for the log that is given its name once the machine has its folder, so that it cannot stay behind.

    Where the filesystem has no such files there is no log.
    """
    paths.create_root()
    try:
        return os.open(paths.folder.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def _name_log(paths: MachinePaths) -> None:
    # With a folder's descriptor Python calls linkat(2), which can follow the link in /proc; link(2) cannot.
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.link("1", paths.log, src_dir_fd=folder, follow_symlinks=True)
    except OSError:
        pass  # not such a file
    finally:
        os.close(folder)
