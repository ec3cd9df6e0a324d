"""What domains started and left behind: processes that come to the hypervisor when their parents end.

A domain's process leads a process group of its own, which what it starts belongs to, unless that leaves it. With
the domain its group is ended: a forgotten child would hold its output, and its hypercall socket, open.
"""

from __future__ import annotations

import os
import signal


class Orphans:
    """Process groups of dead domains, until all in them are reaped."""

    def __init__(self) -> None:
        self._groups: set[int] = set()

    def end(self, pid: int) -> None:
        """Ends the group of a domain's process.

        Args:
            pid: of a process that is dead and not reaped, so that nobody else can have its number.
        """
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            # It died before it had a group.
            return
        self._groups.add(pid)

    def reap(self) -> None:
        """Reaps whoever has come here meanwhile; to be called when a child ended."""
        for group in list(self._groups):
            try:
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                # A process comes to us before its parent can be reaped, so nobody is left.
                self._groups.discard(group)


def reap_strangers(known: set[int]) -> None:
    """Reaps children that ended and that nobody else will: forked by a zygote that did not live to tell.

    Args:
        known: pids of those that are awaited elsewhere.
    """
    for pid in _children():
        if pid not in known:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def end_children() -> None:
    """Ends and reaps all children, and who comes here when they die."""
    while True:
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return [int(pid) for pid in children.read().split()]
    except OSError:
        # A kernel without CONFIG_PROC_CHILDREN: those that we know of are ended by their sockets.
        return []
