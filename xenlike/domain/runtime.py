"""From a forked process to a running domain.

The zygote calls `run_domain` in the child. The order matters: ask for the configuration (the answer comes
only when the hypervisor is the parent), arrange to die with the hypervisor and see that it still lives,
give up privileges, and only then import and call the entry.

    entry returns              poweroff
    entry raises               traceback on the console, crash
    control/shutdown           the entry is cancelled, then Xen's reason
    process ends otherwise     the hypervisor sees exit status or signal
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping

import trio

from xenlike import _core
from xenlike.abi.hypercall import HYPERVISOR_xen_version
from xenlike.abi.sched import SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot, SHUTDOWN_suspend
from xenlike.abi.xen import XENVER_version
from xenlike.domain.domain import Domain
from xenlike.domain.hypercalls import Hypercalls
from xenlike.domain.reference import resolve
from xenlike.errors import ConfigError, HypervisorGone

REASONS = {
    "poweroff": SHUTDOWN_poweroff,
    "halt": SHUTDOWN_poweroff,
    "reboot": SHUTDOWN_reboot,
    "suspend": SHUTDOWN_suspend,
    "crash": SHUTDOWN_crash,
}


def run_domain(fd: int) -> int:
    """Makes this process a domain and runs its entry.

    Args:
        fd: its hypercall socket.

    Returns:
        An exit status; usually it does not return, since SCHEDOP_shutdown never does.
    """
    # What it starts ends with it: the hypervisor ends the group.
    os.setpgid(0, 0)
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    hypercalls = Hypercalls(sock)
    try:
        # Answered only once the zygote has reported this child, which is after it changed parents.
        hypercalls.call(HYPERVISOR_xen_version, XENVER_version, b"", 0, "XENVER_version")
        _core.set_pdeathsig(signal.SIGKILL)
        # Had it died before the signal was arranged, this would fail.
        raw, resource_fd = hypercalls.config()
    except HypervisorGone:
        return 1
    _core.no_new_privs()
    _core.set_dumpable(False)
    config: Mapping[str, object] = json.loads(raw)
    _enter_directory(config)
    command = config.get("exec")
    if isinstance(command, list):
        return _execute([str(word) for word in command], config, sock, resource_fd)
    domain = Domain(sock, config=config, resource_fd=resource_fd)
    if domain.console is not None:
        sys.stdout.flush()
        sys.stdout = sys.stderr = domain.console.text()
    level = str(config.get("log") or "WARNING").upper()
    logging.basicConfig(format="%(levelname)s %(message)s", level=level, stream=sys.stderr)
    try:
        reason = _run_entry(domain)
    except (SystemExit, KeyboardInterrupt) as end:
        reason = SHUTDOWN_poweroff if isinstance(end, SystemExit) and not end.code else SHUTDOWN_crash
        if reason and isinstance(end, SystemExit) and isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except ConfigError as error:
        print(f"xenlike: {error}", file=sys.stderr)
        reason = SHUTDOWN_crash
    except HypervisorGone:
        # Faster than the signal that ends us; nobody is left who would care to know.
        return 1
    except BaseException:
        traceback.print_exc()
        reason = SHUTDOWN_crash
    sys.stdout.flush()
    domain.hypercalls.shutdown(reason)
    return 1


def _enter_directory(config: Mapping[str, object]) -> None:
    """Takes over the caller's working directory and module search path, which the zygote cannot know."""
    path = config.get("sys_path")
    if isinstance(path, list):
        known = set(sys.path)
        sys.path[:0] = [str(entry) for entry in path if str(entry) not in known]
    directory = config.get("cwd")
    if isinstance(directory, str):
        os.chdir(directory)


def _execute(command: list[str], config: Mapping[str, object], sock: socket.socket, resource_fd: int) -> int:
    """Becomes an executable that speaks the hypercalls itself; see docs/hypercalls.md."""
    environment = dict(os.environ)
    extra = config.get("environment")
    if isinstance(extra, dict):
        environment.update({str(name): str(value) for name, value in extra.items()})
    environment["XENLIKE_HYPERCALL_FD"] = str(sock.fileno())
    os.set_inheritable(sock.fileno(), True)
    if resource_fd >= 0:
        environment["XENLIKE_RESOURCE_FD"] = str(resource_fd)
        os.set_inheritable(resource_fd, True)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        print(f"xenlike: cannot execute {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


def _run_entry(domain: Domain) -> int:
    entry = domain.config.get("entry")
    function: Callable[..., object] | None = None
    if isinstance(entry, str):
        found = resolve(entry)
        if not callable(found):
            raise ConfigError(f"{entry} is no function but {found!r}")
        function = found
    args = domain.config.get("args")
    arguments = list(args) if isinstance(args, list) else []
    if domain.config.get("bare") and function is not None:
        # A server with a loop of its own, such as xenstored.
        function(domain, *arguments)
        return SHUTDOWN_poweroff
    return trio.run(_main, domain, function, arguments)


async def _main(domain: Domain, function: Callable[..., object] | None, arguments: list[object]) -> int:
    reason = SHUTDOWN_poweroff
    async with domain.running():

        async def obey() -> None:
            nonlocal reason
            async for word in domain.shutdown_requests():
                if word in REASONS:
                    reason = REASONS[word]
                    work.cancel()
                    return

        with trio.CancelScope() as work:
            domain.nursery.start_soon(obey)
            if function is None:
                await trio.sleep_forever()
            elif inspect.iscoroutinefunction(function):
                await function(domain, *arguments)
            else:
                await trio.to_thread.run_sync(lambda: function(domain, *arguments), abandon_on_cancel=True)
    return reason
