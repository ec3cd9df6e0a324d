"""Starting a machine's trusted processes: its lock, the hypervisor, the reaper.

caller            hypervisor         zygote        reaper
lock the name
start         ->  own session    ->  start
start         ------------------------------>      wait for the hypervisor's end
let go of lock and reaper pipe: only the hypervisor holds them now
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from xenlike.errors import MachineError
from xenlike.toolstack import reaper
from xenlike.toolstack.paths import SHM, MachinePaths, segment_machines

# How long a machine that has just ended may take to let go of its name.
LOCK_PATIENCE_S = 2.0


@dataclass(slots=True)
class Launched:
    """The processes of a machine that are this process's children."""

    hypervisor: subprocess.Popen[bytes]
    reaper: subprocess.Popen[bytes]
    dom0: socket.socket
    """Domain 0's hypercall socket; closing it ends the machine."""

    def wait(self, timeout_s: float = 5.0) -> None:
        """Waits until both are gone, and with them every process and name of the machine.

        To be called when the socket is closed. Blocks; for a thread.
        """
        for process in (self.hypervisor, self.reaper):
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lock_name(paths: MachinePaths) -> int:
    """Takes a machine's name; makes its folders.

    What a machine left behind that was killed together with its reaper is removed first.

    Returns:
        The lock's descriptor.

    Raises:
        MachineError: a machine of that name is running.
    """
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        lock = -1
        try:
            paths.create()
            lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            # The reaper of a machine that has just ended removes the folder under us.
            pass
        if lock >= 0:
            if _try_lock(lock, paths.lock):
                _remove_leftovers(paths)
                return lock
            os.close(lock)
        if time.monotonic() > deadline:
            raise MachineError(
                f"a machine named {paths.name!r} is running already: take another name, or end it with "
                f"`xenlike -m {paths.name} down`"
            )
        time.sleep(0.02)


def _try_lock(lock: int, path: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A reaper may have removed the file between our open and the lock.
        return os.fstat(lock).st_ino == path.stat().st_ino
    except OSError:
        return False


def _remove_leftovers(paths: MachinePaths) -> None:
    for path in (paths.control, paths.xenstored):
        path.unlink(missing_ok=True)
    try:
        (SHM / paths.segment[1:]).unlink(missing_ok=True)
    except OSError:
        pass  # another user took that name, and keeps it; the hypervisor will say so


def remove_stale(root: Path) -> list[str]:
    """Removes what killed machines left behind.

    Args:
        root: the folder of all machines.

    Returns:
        Their names.
    """
    removed = []
    if root.is_dir():
        # Somebody removed a killed machine's folder, and did not know of its segment.
        for name in segment_machines(root):
            (root / name).mkdir(mode=0o700, exist_ok=True)
    for folder in root.iterdir() if root.is_dir() else ():
        # A caller that was killed before it made its lock has left empty folders, and only such are ours.
        create = os.O_CREAT if {path.name for path in folder.rglob("*")} <= {"xenstored"} else 0
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | create, 0o600)
        except OSError:
            continue
        try:
            if _try_lock(lock, folder / "lock"):
                _remove_leftovers(MachinePaths(folder.name, folder.absolute()))
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
        finally:
            os.close(lock)
    return removed


def launch(paths: MachinePaths, lock: int, store_domid: int) -> Launched:
    """Starts hypervisor and reaper of a machine whose name is locked; closes the lock here.

    Args:
        paths: the machine's.
        lock: from `lock_name`.
        store_domid: who will serve domain 0's store ring.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reaper_read, reaper_write = os.pipe()
    segment = SHM / paths.segment[1:]
    numbers = [theirs.fileno(), lock, reaper_write, store_domid, os.getpid()]
    try:
        # Sessions of their own: Ctrl-C is for the caller, who ends the machine in its own order.
        reaping = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(paths.folder), str(segment)],
            stdin=reaper_read,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        hypervisor = subprocess.Popen(
            [sys.executable, "-m", "xenlike.hypervisor", *map(str, numbers), paths.segment],
            pass_fds=numbers[:3],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.write(reaper_write, b"%d" % hypervisor.pid)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for fd in (lock, reaper_read, reaper_write):
            os.close(fd)
    return Launched(hypervisor, reaping, ours)
