"""The spare: a child that was forked ahead of time, while nothing else happened, and becomes the next domain.

    zygote                                  spare
    fork, when it has been idle      ->     rehearse, and wait
    request and descriptors          ->     is the domain
    end (its socket is closed)       ->     leaves

A fork shares all memory with the zygote, and pays for each page on its first write to it: for fifteen hundred
pages, and as many cold caches, until a domain's function is called. The spare has paid when it is asked for:
it has run a small event loop and thrown it away. That is all it has done; it is in no way another process than
one that is forked at the request. As Android's pool of unspecialized processes.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from typing import NoReturn

import trio.lowlevel

from xenlike import _core
from xenlike._core.fds import recv_message, send_message
from xenlike.zygote.child import REQUEST, be_domain, name_process

ROUNDS = 3
"""Of the rehearsal: what runs eight times is rewritten by the interpreter for what it has seen."""


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
        gc.enable()
        rehearse()
        # The domain's own collections need not look at this any more.
        gc.collect()
        gc.freeze()
        request, fds = recv_message(zygote, REQUEST.size, 2)
        zygote.close()
        if request:
            be_domain(request, fds)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(0)


def rehearse() -> None:
    """Does in small what every domain does first, so that its memory and its caches are there."""
    import trio

    for _ in range(ROUNDS):
        trio.run(_rehearsal)


async def _rehearsal() -> None:
    import trio

    async def listener(sock: socket.socket, heard: trio.Event) -> None:
        with trio.CancelScope(), trio.move_on_after(1):
            await trio.lowlevel.wait_readable(sock)
        heard.set()

    near, far = socket.socketpair()
    with near, far:
        for _ in range(ROUNDS):
            heard = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener, near, heard)
                await trio.lowlevel.checkpoint()
                far.send(b"x")
                await heard.wait()
                nursery.cancel_scope.cancel()
            near.recv(1)
