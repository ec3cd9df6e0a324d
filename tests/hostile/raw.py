"""Raw hypercalls against a hypervisor process of one's own: what a hostile domain can do with its socket.

There is no client library in between: messages are built by hand, so that they can be wrong in any way. The
domains are *adopted*, which means that the test holds their sockets, and plays all of them.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from xenlike.abi import event_channel as ev
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi.start_info import StartInfo
from xenlike.abi.struct import Struct
from xenlike.abi.xen import DOMID_INVALID, DOMID_SELF, VIRQ_DOM_EXC, XENVER_version

S = TypeVar("S", bound=Struct)

PAGE = 4096
HEAD = struct.Struct("<IHHII")
REPLY = struct.Struct("<IiII")
VERSION = 4 << 16 | 17
HANG_GUARD_S = 30


class Reply(NamedTuple):
    """One answer as it came; its descriptors belong to the domain, which closes them at the end."""

    tag: int
    ret: int
    structs: int
    body: bytes
    fds: list[int]


class Raw:
    """One domain, played by the test."""

    def __init__(self, sock: socket.socket, domid: int = 0) -> None:
        sock.settimeout(HANG_GUARD_S)
        self.sock = sock
        self.domid = domid
        self.fds: list[int] = []
        self._tag = 0
        self._table: mmap.mmap | None = None

    # -- messages ------------------------------------------------------------------------------------

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self.sock, [message], fds)

    def receive(self) -> Reply:
        """Takes one answer; raises EOFError when the hypervisor has hung up."""
        try:
            data, fds, flags, _ = socket.recv_fds(self.sock, hc.XENLIKE_MESSAGE_MAX, hc.XENLIKE_MAX_FDS)
        except ConnectionResetError:
            # It hung up while something that we sent lay unread.
            data, fds, flags = b"", [], 0
        self.fds += fds
        if not data:
            raise EOFError("the hypervisor hung up")
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        tag, ret, count, nr_fds = REPLY.unpack_from(data)
        assert nr_fds == len(fds)
        return Reply(tag, ret, count, data[REPLY.size :], fds)

    def call(self, op: int, cmd: int, payload: bytes = b"", count: int = 1, fds: Sequence[int] = ()) -> Reply:
        self._tag += 1
        self.send(HEAD.pack(self._tag, op, cmd, count, 0) + payload, fds)
        reply = self.receive()
        assert reply.tag == self._tag
        return reply

    def ask(self, op: int, cmd: int, argument: S) -> tuple[int, S, list[int]]:
        """One structure there and back."""
        reply = self.call(op, cmd, argument.pack())
        return reply.ret, type(argument).unpack(reply.body) if reply.body else argument, reply.fds

    def batch(self, cmd: int, operations: Sequence[S]) -> tuple[list[S], list[int]]:
        """A batch of grant operations."""
        payload = b"".join(operation.pack() for operation in operations)
        reply = self.call(hc.HYPERVISOR_grant_table_op, cmd, payload, len(operations))
        assert reply.ret == 0
        assert reply.structs == len(operations)
        return type(operations[0]).unpack_many(reply.body, reply.structs), reply.fds

    def alive(self) -> bool:
        """Whether the hypervisor still answers this domain."""
        try:
            return self.call(hc.HYPERVISOR_xen_version, XENVER_version, count=0).ret == VERSION
        except (EOFError, ConnectionError):
            return False

    def close(self) -> None:
        self.sock.close()
        if self._table is not None:
            self._table.close()
        for fd in self.fds:
            # A test may have closed one itself; a number is reused only by what is closed here too.
            with contextlib.suppress(OSError):
                os.close(fd)
        self.fds.clear()

    # -- memory and grants ---------------------------------------------------------------------------

    def bootstrap(self) -> tuple[StartInfo, list[int]]:
        reply = self.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_BOOTSTRAP, count=0)
        assert reply.ret == 0
        self._table = mmap.mmap(reply.fds[1], 0)
        return StartInfo.unpack(reply.body), reply.fds

    def window(
        self, peer: int, nr_pages: int = 1, *, readonly: bool = False, seal: bool = True
    ) -> tuple[int, mmap.mmap]:
        """Makes a window and maps it, as a well-behaved granter does; returns its first frame too."""
        argument = hc.AllocWindow(peer, hc.XENLIKE_WINDOW_READONLY if readonly else 0, nr_pages)
        ret, argument, fds = self.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_ALLOC_WINDOW, argument)
        assert ret == 0, os.strerror(-ret)
        memory = mmap.mmap(fds[0], 0)
        if readonly and seal:
            assert self.seal(argument.pfn) == 0
        return argument.pfn, memory

    def alloc(self, peer: int, nr_pages: int = 1, flags: int = 0) -> int:
        return self.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_ALLOC_WINDOW, hc.AllocWindow(peer, flags, nr_pages))[0]

    def seal(self, pfn: int) -> int:
        return self.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_SEAL_WINDOW, hc.SealWindow(pfn))[0]

    def free(self, pfn: int) -> int:
        return self.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_FREE_WINDOW, hc.FreeWindow(pfn))[0]

    def replace(self, pfn: int, peer: int, flags: int = 0) -> tuple[int, list[int]]:
        argument = hc.ReplaceWindow(peer=peer, flags=flags, pfn=pfn)
        ret, _, fds = self.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_REPLACE_WINDOW, argument)
        return ret, fds

    @property
    def table(self) -> mmap.mmap:
        if self._table is None:
            self.bootstrap()
            assert self._table is not None
        return self._table

    def grant(self, ref: int, peer: int, frame: int, flags: int = gt.GTF_permit_access) -> int:
        """Writes an entry, whatever it says."""
        struct.pack_into("<HI", self.table, ref * 8 + 2, peer, frame)
        struct.pack_into("<H", self.table, ref * 8, flags)
        return ref

    def flags(self, ref: int) -> int:
        return int(struct.unpack_from("<H", self.table, ref * 8)[0])

    def map(self, granter: int, *refs: int, readonly: bool = False) -> tuple[list[gt.GnttabMapGrantRef], list[int]]:
        flags = gt.GNTMAP_host_map | (gt.GNTMAP_readonly if readonly else 0)
        operations = [gt.GnttabMapGrantRef(flags=flags, ref=ref, dom=granter) for ref in refs]
        return self.batch(gt.GNTTABOP_map_grant_ref, operations)

    def map_status(self, granter: int, ref: int, *, readonly: bool = False) -> int:
        operations, fds = self.map(granter, ref, readonly=readonly)
        assert bool(fds) <= (operations[0].status == gt.GNTST_okay)
        return int(operations[0].status)

    def unmap(self, *handles: int) -> list[int]:
        operations = [gt.GnttabUnmapGrantRef(handle=handle) for handle in handles]
        return [int(operation.status) for operation in self.batch(gt.GNTTABOP_unmap_grant_ref, operations)[0]]

    # -- event channels ------------------------------------------------------------------------------

    def alloc_unbound(self, remote: int, dom: int = DOMID_SELF) -> tuple[int, int, list[int]]:
        argument = ev.EvtchnAllocUnbound(dom, remote)
        ret, argument, fds = self.ask(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_alloc_unbound, argument)
        return ret, argument.port, fds

    def bind(self, remote: int, port: int) -> tuple[int, int, list[int]]:
        argument = ev.EvtchnBindInterdomain(remote, port)
        ret, argument, fds = self.ask(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_interdomain, argument)
        return ret, argument.local_port, fds

    def close_port(self, port: int) -> int:
        return self.ask(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_close, ev.EvtchnClose(port))[0]

    def carrier(self, port: int) -> tuple[int, list[int]]:
        ret, _, fds = self.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_EVTCHN_CARRIER, hc.EvtchnCarrier(port))
        return ret, fds

    def status(self, port: int, dom: int = DOMID_SELF) -> tuple[int, ev.EvtchnStatus]:
        argument = ev.EvtchnStatus(dom=dom, port=port)
        ret, argument, _ = self.ask(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_status, argument)
        return ret, argument


class RawMachine:
    """A hypervisor process, and domain 0 of it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Its closing says that the process is gone, as for the reaper of a real machine.
        self._gone, held = os.pipe()
        numbers = [theirs.fileno(), held, held, DOMID_INVALID, os.getpid()]
        # Its statistics, as POSIX has the name.
        self.segment = f"/xenlike-hostile-{os.getpid()}-{ours.fileno()}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xenlike.hypervisor", *map(str, numbers), self.segment],
            pass_fds=numbers[:2],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        os.close(held)
        self.dom0 = Raw(ours)
        self.domains: list[Raw] = []
        self._death = -1
        # A test has left it without what others need.
        self.expendable = False

    def close(self) -> None:
        for domain in [*self.domains, self.dom0]:
            domain.close()
        self.process.wait(HANG_GUARD_S)
        os.close(self._gone)

    @property
    def running(self) -> bool:
        return self.process.poll() is None and self.dom0.alive()

    def create(
        self,
        *,
        how: int = hc.XENLIKE_CREATE_ADOPT,
        config: dict[str, object] | None = None,
        nr_pages: int = 4,
        pool_pages: int = 64,
        max_windows: int = 16,
        domid: int | None = None,
        console: int = DOMID_INVALID,
        stdio: int = -1,
    ) -> tuple[int, hc.CreateDomain, list[int]]:
        """A bare createdomain, for domains that nobody plays."""
        words = json.dumps(config).encode() if config is not None else b""
        argument = hc.CreateDomain(
            domid=domid or 0,
            flags=how
            | (hc.XENLIKE_CREATE_FIXED_DOMID if domid is not None else 0)
            | (hc.XENLIKE_CREATE_STDIO if stdio >= 0 else 0),
            max_windows=max_windows,
            nr_pages=nr_pages,
            pool_pages=pool_pages,
            store_domid=DOMID_INVALID,
            console_domid=console,
            config_length=len(words),
            name=b"raw",
        )
        fds = [stdio] if stdio >= 0 else []
        reply = self.dom0.call(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_createdomain, argument.pack() + words, fds=fds)
        return reply.ret, hc.CreateDomain.unpack(reply.body) if reply.body else argument, reply.fds

    def domain(self, how: int = 0, **arguments: Any) -> Raw:
        """Makes a domain and plays it."""
        ret, argument, fds = self.create(how=how | hc.XENLIKE_CREATE_ADOPT, **arguments)
        assert ret == 0, os.strerror(-ret)
        return self.play(fds[0], argument.domid)

    def play(self, fd: int, domid: int) -> Raw:
        """Plays a domain that was created, by its socket."""
        # The socket's number is the domain's own now.
        self.dom0.fds.remove(fd)
        domain = Raw(socket.socket(fileno=fd), domid)
        self.domains.append(domain)
        return domain

    def exec(self, *command: str) -> int:
        """Starts a program as a domain of its own process; returns the domid."""
        ret, argument, _ = self.create(how=hc.XENLIKE_CREATE_FORK, config={"exec": list(command)})
        assert ret == 0, os.strerror(-ret)
        return argument.domid

    def info(self, domid: int) -> hc.GetDomainInfo | None:
        argument = hc.GetDomainInfo(domid=domid)
        ret, argument, _ = self.dom0.ask(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_getdomaininfo, argument)
        return argument if ret == 0 and argument.domid == domid else None

    def destroy(self, domid: int) -> int:
        argument = hc.DestroyDomain(domid=domid, signal=9)
        return self.dom0.ask(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_destroydomain, argument)[0]

    def publish(self, period_ms: int = 0, lease_ms: int = 0) -> int:
        """Asks for statistics; returns the number of the snapshot that answers."""
        ret, argument, _ = self.dom0.ask(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_PUBLISH, hc.Publish(period_ms, lease_ms))
        assert ret == 0, os.strerror(-ret)
        return argument.sequence

    def unpause(self, domid: int) -> int:
        argument = hc.UnpauseDomain(domid)
        return self.dom0.ask(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_unpausedomain, argument)[0]

    def wait_state(self, domid: int, *states: int) -> hc.GetDomainInfo:
        """Waits for a domain's state."""
        info = self._wait(domid, states)
        assert info is not None, f"d{domid} is gone"
        return info

    def wait_gone(self, domid: int) -> None:
        """Waits until a destroyed domain's record is gone."""
        assert self._wait(domid, ()) is None

    def _wait(self, domid: int, states: Sequence[int]) -> hc.GetDomainInfo | None:
        """Waits by the death interrupt, as a toolstack does."""
        if self._death < 0:
            argument = ev.EvtchnBindVirq(VIRQ_DOM_EXC)
            ret, _, fds = self.dom0.ask(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_virq, argument)
            assert ret == 0
            self._death = fds[0]
        while True:
            info = self.info(domid)
            if info is None or info.state in states:
                return info
            assert select.select([self._death], [], [], HANG_GUARD_S)[0], f"d{domid} stays in state {info.state}"
            os.read(self._death, 4096)

    def limit_descriptors(self, limit: int) -> None:
        """Lets the hypervisor have so many descriptors, until told otherwise."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (limit, hard))

    def children(self) -> list[int]:
        """The hypervisor's children, zombies among them: its zygote, and domains of their own process."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            pids = [int(pid) for pid in children.read().split()]
        # One waits to be the next domain, or is just leaving because its zygote has died.
        return [pid for pid in pids if name_of(pid) not in ("xl-spare", "")]

    def descriptors(self) -> int | None:
        """How many descriptors the hypervisor has open; None for who may not look."""
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except PermissionError:
            return None

    def clear(self) -> None:
        """Destroys all domains."""
        for domain in self.domains:
            domain.close()
        self.domains.clear()
        while (domid := self._next(1)) is not None:
            self.destroy(domid)
            # A process of its own takes a moment to end.
            self.wait_gone(domid)
        for fd in set(self.dom0.fds) - {self._death}:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.dom0.fds = [self._death] if self._death >= 0 else []

    def _next(self, domid: int) -> int | None:
        argument = hc.GetDomainInfo(domid=domid)
        ret, argument, _ = self.dom0.ask(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_getdomaininfo, argument)
        return argument.domid if ret == 0 else None


def entry(op: int, cmd: int, body: bytes = b"", count: int = 1, length: int | None = None) -> bytes:
    """One entry of a multicall, which may lie about its length."""
    head = hc.MulticallEntry(op, cmd, count, len(body) if length is None else length)
    return head.pack() + body


def name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as comm:
            return comm.read().strip()
    except OSError:
        return ""


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def clear(fd: int) -> bool:
    """Clears an event channel; True when its other end is gone."""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(fd, 4096):
            assert data
        return True
    return False
