"""What the hypervisor knows of one domain."""

from __future__ import annotations

import errno
import os
import signal
import socket
from dataclasses import dataclass, field

from xenlike import _core
from xenlike.abi.hypercall import (
    XENLIKE_DOMAIN_BUILDING,
    XENLIKE_DOMAIN_RUNNING,
    XENLIKE_EXIT_UNKNOWN,
)
from xenlike.abi.recorder import XENLIKE_RECORDER_BYTES
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import PortTable
from xenlike.hypervisor.frames import PAGE, Pool, make_memory


@dataclass(slots=True)
class GrantMapping:
    """One live handle of a mapper: which page of whom it pins, and how."""

    granter: int
    ref: int
    readonly: bool
    window_owner: Pool
    window_pfn: int


@dataclass(slots=True)
class Pins:
    """How often one grant reference is mapped, by mode; the in-use bits mirror these."""

    readers: int = 0
    writers: int = 0


@dataclass(slots=True)
class Domain:
    """One domain: a process, its memory, its grants and its ports.

    `state` follows Xen: a domain that shut down is not dead before its process is, and one whose pages a
    peer still maps stays as a zombie, so that neither its domid nor its pages are used again.
    """

    domid: int
    name: bytes
    flags: int
    nr_pages: int
    socket: socket.socket
    ram_fd: int
    table_fd: int
    table: _core.Mapping
    pool: Pool
    config: bytes | int
    store_domid: int
    console_domid: int
    resource_fd: int = -1
    recorder_fd: int = -1
    # Where a forked domain's descriptors 1 and 2 go, while it is paused; then the zygote's affair.
    stdio_fd: int = -1
    paused: bool = False
    state: int = XENLIKE_DOMAIN_BUILDING
    pid: int = 0
    pidfd: int = -1
    shutdown_reason: int = 0
    was_shut_down: bool = False
    exit_code: int = XENLIKE_EXIT_UNKNOWN
    ports: PortTable = field(default_factory=PortTable)
    mappings: dict[int, GrantMapping] = field(default_factory=dict)
    # Handles of this mapper by window identity: the first one brings the descriptor along.
    windows_held: dict[int, int] = field(default_factory=dict)
    next_handle: int = 1
    pins: dict[int, Pins] = field(default_factory=dict)
    store_port: int = 0
    store_pfn: int = 0
    console_port: int = 0
    console_pfn: int = 0
    # A bootstrap that came before the zygote told the pid: its message waits here.
    early: bytes | None = None
    # Its descriptors were handed over: a domain is born once.
    bootstrapped: bool = False
    # Toolstack has seen the death and needs the record no more.
    reaped: bool = False

    @property
    def alive(self) -> bool:
        """Whether it may make and receive grants and channels."""
        return self.state in (XENLIKE_DOMAIN_BUILDING, XENLIKE_DOMAIN_RUNNING)

    def kill(self) -> None:
        """Ends the process, if the domain has one of its own; its pidfd tells when it is over."""
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def hang_up(self) -> None:
        """Closes the hypercall socket: an adopted process learns so that it is a domain no more."""
        self.socket.close()

    def recorder(self) -> int:
        """Returns the descriptor of its recorder, which is made on first use; the domain still owns it.

        Raises:
            Refused: EMFILE, ENOMEM; ESRCH, it ended before it had one.
        """
        if self.recorder_fd < 0:
            if not self.alive:
                raise Refused(errno.ESRCH)
            self.recorder_fd = make_memory(f"xenlike-d{self.domid}-recorder", XENLIKE_RECORDER_BYTES)
        return self.recorder_fd

    def close_recorder(self) -> None:
        """Frees its recorder, which outlives it: the last words of the dead are the interesting ones."""
        if self.recorder_fd >= 0:
            os.close(self.recorder_fd)
            self.recorder_fd = -1

    def close_memory(self) -> None:
        """Frees what no peer can reach: RAM and the grant table."""
        if self.ram_fd >= 0:
            os.close(self.ram_fd)
            self.ram_fd = -1
        if self.table_fd >= 0:
            self.table.close()
            os.close(self.table_fd)
            self.table_fd = -1
        for fd in (self.resource_fd, self.stdio_fd, self.config if isinstance(self.config, int) else -1):
            if fd >= 0:
                os.close(fd)
        self.resource_fd = self.stdio_fd = -1
        self.config = b""


TABLE_FRAMES = 64
TABLE_SIZE = TABLE_FRAMES * PAGE
NR_REFS = TABLE_SIZE // 8
