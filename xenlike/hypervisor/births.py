"""The hypervisor's side of the zygote: it asks for forks and hears of pids.

The zygote is started here as a clean interpreter with none of the hypervisor's mappings. It may die at any
moment, also between a fork and its report: then it is started anew and asked again, with a new hypercall
socket, so that a child nobody knows of finds its own socket closed and leaves.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from xenlike._core.fds import send_message

REQUEST = struct.Struct("<H62s")
REPORT = struct.Struct("<Hxxi")


@dataclass(slots=True)
class Birth:
    """A fork that was asked for and not yet reported."""

    domid: int
    name: bytes
    stdio_fd: int


class Zygote:
    """The running zygote process and the births it owes.

    Args:
        new_socket: gives the domain a fresh hypercall socket and returns the child's end.
    """

    def __init__(self, new_socket: Callable[[int], socket.socket | None]) -> None:
        self._new_socket = new_socket
        self._owed: dict[int, Birth] = {}
        # Forks that this process was asked for and has not reported, also those called off meanwhile.
        self._unreported = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.socket: socket.socket | None = None
        self.pidfd = -1
        # Deaths in a row before it was ready: a zygote that cannot start is not to be started for ever.
        self.failures = 0

    def start(self) -> None:
        """Starts a zygote; asks it for every birth that its predecessor still owed.

        Raises:
            OSError: the host has no descriptors or memory left; `stop` cleans up.
        """
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xenlike.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self.pidfd = os.pidfd_open(self._process.pid)
        for birth in self._owed.values():
            self._send(birth)

    def bury(self) -> None:
        """The zygote died: forgets it and everything it had open."""
        self.failures += 1
        self._unreported = 0
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def owes(self) -> bool:
        """Whether a child may be there that was not told of yet."""
        return bool(self._owed) or self._unreported > 0

    def stop(self) -> None:
        """Ends the zygote."""
        if self._process is not None:
            self._process.kill()
        self.bury()

    def ask(self, domid: int, name: bytes, stdio_fd: int) -> None:
        """Asks for one fork. The child's pid comes with `hear`.

        Raises:
            OSError: the host has no descriptors left; `stdio_fd` is still the caller's.
        """
        birth = Birth(domid, name, stdio_fd)
        self._send(birth)
        self._owed[domid] = birth

    def _send(self, birth: Birth) -> None:
        if self.socket is None:
            # Between two zygotes; the next one is asked.
            return
        child_end = self._new_socket(birth.domid)
        if child_end is None:
            return
        descriptors = [child_end.fileno()] + ([birth.stdio_fd] if birth.stdio_fd >= 0 else [])
        with child_end:
            try:
                send_message(self.socket, REQUEST.pack(birth.domid, birth.name[:62]), descriptors)
                self._unreported += 1
            except (BrokenPipeError, ConnectionResetError):
                # It just died; its successor is asked again.
                pass

    def hear(self) -> tuple[int, int] | None:
        """Reads one report.

        Returns:
            (domid, pid), with pid -1 when the zygote is only ready, and 0 when it could not fork; None when
            it hung up.
        """
        if self.socket is None:
            return None
        try:
            message = self.socket.recv(REPORT.size)
        except (BlockingIOError, ConnectionResetError):
            return None
        if len(message) != REPORT.size:
            return None
        domid, pid = REPORT.unpack(message)
        self.failures = 0
        if pid >= 0:
            self._unreported -= 1
        birth = self._owed.pop(domid, None)
        if birth is not None and birth.stdio_fd >= 0:
            os.close(birth.stdio_fd)
        return domid, pid

    def give_up(self) -> list[int]:
        """No zygote will start: returns the domids that are owed, and forgets them."""
        owed = list(self._owed)
        for domid in owed:
            self.call_off(domid)
        return owed

    def call_off(self, domid: int) -> None:
        """The domain was destroyed before it was born."""
        birth = self._owed.pop(domid, None)
        if birth is not None and birth.stdio_fd >= 0:
            os.close(birth.stdio_fd)
