"""The spare: a child that was forked ahead of time, while nothing else happened, and becomes the next domain.

    zygote                                  spare
    fork, when it has been idle      ->     rehearse, and wait
    request and descriptors          ->     is the domain
    end (its socket is closed)       ->     leaves

A fork shares all memory with the zygote, and pays for each page on its first write to it: for fifteen hundred
pages, and as many cold caches, until a domain's function is called. The spare has paid when it is asked for:
it has played a domain's first moments (`rehearsal`) and thrown them away. In all else it is what a fork at the
request would be. As Android's pool of unspecialized processes.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from typing import NoReturn

from xenlike import _core
from xenlike._core.fds import recv_message, send_message
from xenlike.zygote.child import REQUEST, be_domain, name_process


class Spare:
    """A process that waits to become a domain.

    Attributes:
        pid: its pid.
    """

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self._socket = sock

    @classmethod
    def make(cls, hypervisor: socket.socket) -> Spare | None:
        """Forks one; None when the host refuses.

        Args:
            hypervisor: closed in the spare.
        """
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return None
        with theirs:
            try:
                pid = _core.fork_orphan()
            except OSError:
                ours.close()
                return None
            if pid == 0:
                hypervisor.close()
                ours.close()
                _wait(theirs)
        return cls(pid, ours)

    def become(self, request: bytes, fds: list[int]) -> int:
        """Has it be a domain.

        Returns:
            The domain's pid; 0 when the spare is dead.
        """
        with self._socket:
            try:
                send_message(self._socket, request, fds)
            except OSError:
                return 0
        return self.pid


def _wait(zygote: socket.socket) -> NoReturn:
    """Rehearses and waits; is a domain then, or leaves when the zygote is gone."""
    try:
        name_process(b"xl-spare")
        rehearse(1)
        gc.enable()
        request, fds = recv_message(zygote, REQUEST.size, 2)
        zygote.close()
        if request:
            be_domain(request, fds)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(0)


def rehearse(rounds: int) -> None:
    """Plays what every domain does first, so that its memory and its caches are there; never fails.

    Args:
        rounds: how often.
    """
    try:
        import trio

        from xenlike.zygote.rehearsal import Stage, play

        for _ in range(rounds):
            with Stage.opened() as stage:
                trio.run(play, stage)
    except Exception as error:
        # It was for speed only.
        sys.stderr.write(f"xenlike: the rehearsal of a domain's birth failed: {error!r}\n")
    # A domain's own collections need not look at this any more.
    gc.collect()
    gc.freeze()
