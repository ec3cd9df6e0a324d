"""The domain table and what happens to domains: birth, shutdown, death, burial.

Pure of loops: `loop.py` calls in when a descriptor is readable, `hypercalls.py` when a message came.

The end of a domain has steps, as in Xen. *Shutdown*: it said why, and its process is ended, since
SCHEDOP_shutdown never returns. *Dying*: the process is gone, its channels are broken and its mappings
released, but a peer still maps pages of it (a zombie). *Dead*: nothing is left but the record of how it
ended, until the toolstack has read it. VIRQ_DOM_EXC is raised at each.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from xenlike import _core
from xenlike.abi import grant_table as gt
from xenlike.abi.hypercall import (
    XENLIKE_CREATE_FIXED_DOMID,
    XENLIKE_CREATE_FORK,
    XENLIKE_CREATE_PAUSED,
    XENLIKE_CREATE_PRIVILEGED,
    XENLIKE_CREATE_STORE_SERVER,
    XENLIKE_DOMAIN_BUILDING,
    XENLIKE_DOMAIN_DEAD,
    XENLIKE_DOMAIN_DYING,
    XENLIKE_DOMAIN_RUNNING,
    XENLIKE_DOMAIN_SHUTDOWN,
    XENLIKE_EXIT_UNKNOWN,
    CreateDomain,
)
from xenlike.abi.sched import SHUTDOWN_crash
from xenlike.abi.start_info import XENLIKE_POOL_BASE_PFN
from xenlike.abi.xen import DOMID_FIRST_RESERVED, DOMID_INVALID, VIRQ_DOM_EXC
from xenlike.hypervisor.births import Zygote
from xenlike.hypervisor.domain import TABLE_SIZE, Domain
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import Port, PortState, make_channel, notify
from xenlike.hypervisor.frames import PAGE, Pool, make_memory
from xenlike.hypervisor.grants import Grants
from xenlike.hypervisor.orphans import Orphans

if TYPE_CHECKING:
    from xenlike.hypervisor.publisher import Publisher

# Start-info lies in the first frame, so a domain has at least one.
MIN_PAGES = 1
MAX_PAGES = 1 << 22
# What a domain may make the hypervisor hold for channels that nobody has bound; bound ones cost nothing.
DESCRIPTORS_PER_CHANNEL = 4
MAX_UNBOUND_DESCRIPTORS = 512
# Answers that a domain may leave unread: some thirty small ones, or four of the largest.
ANSWERS_SIZE = 16384


class Hypervisor:
    """All domains of one machine.

    Args:
        watch: called with a domain whose hypercall socket or pidfd is new or gone: those it has are to be
            listened to.
    """

    def __init__(self, watch: Callable[[Domain], None]) -> None:
        self.domains: dict[int, Domain] = {}
        self.grants = Grants(self.domains)
        self.zygote = Zygote(self._new_socket)
        self.orphans = Orphans()
        # Counts births, deaths and what else changes the list of domains.
        self.generation = 0
        self.publisher: Publisher | None = None
        self._watch = watch
        self._next_domid = 0

    # -- birth -------------------------------------------------------------------------------------

    def _new_domid(self, args: CreateDomain) -> int:
        if args.flags & XENLIKE_CREATE_FIXED_DOMID:
            old = self.domains.get(args.domid)
            if old is not None:
                # Only a trusted server's successor takes its predecessor's place.
                if old.state != XENLIKE_DOMAIN_DEAD or not old.flags & XENLIKE_CREATE_STORE_SERVER:
                    raise Refused(errno.EEXIST)
                old.close_recorder()
                del self.domains[args.domid]
            return args.domid
        # Numbers come round only after all others: a stale one names nobody for as long as can be.
        for _ in range(DOMID_FIRST_RESERVED):
            domid = self._next_domid
            self._next_domid = (domid + 1) % DOMID_FIRST_RESERVED
            if domid not in self.domains:
                return domid
        raise Refused(errno.ENOSPC)

    def create(
        self,
        args: CreateDomain,
        config: bytes | int,
        *,
        own_socket: socket.socket | None = None,
        resource_fd: int = -1,
        stdio_fd: int = -1,
    ) -> tuple[Domain, socket.socket | None]:
        """Builds a domain.

        Args:
            args: what was asked; `domid` and the ports are filled in.
            config: what the domain gets by GET_CONFIG: bytes, or a descriptor to hand on (taken over).
            own_socket: the hypervisor's end of a hypercall socket that exists already (domain 0).
            resource_fd: the domain's end of its resource channel (taken over), or -1.
            stdio_fd: where a forked domain's descriptors 1 and 2 go (taken over), or -1.

        Returns:
            The domain, and for an adopted one the far end of its hypercall socket.

        Raises:
            Refused, OSError: EINVAL, EEXIST, ENOMEM, EMFILE; the caller still owns the descriptors then, and
                nothing was made.
        """
        if not MIN_PAGES <= args.nr_pages <= MAX_PAGES or args.pool_pages > MAX_PAGES:
            raise Refused(errno.EINVAL)
        domid = self._new_domid(args)
        with ExitStack() as undo:
            ram_fd = make_memory(f"xenlike-d{domid}-ram", args.nr_pages * PAGE)
            undo.callback(os.close, ram_fd)
            table_fd = make_memory(f"xenlike-d{domid}-grants", TABLE_SIZE)
            undo.callback(os.close, table_fd)
            theirs = None
            if own_socket is None:
                own_socket, theirs = _socket_pair()
                undo.callback(own_socket.close)
                undo.callback(theirs.close)
            table = _core.map_shared(table_fd, TABLE_SIZE)
            undo.callback(table.close)
            domain = Domain(
                domid=domid,
                name=args.name,
                flags=args.flags,
                nr_pages=args.nr_pages,
                socket=own_socket,
                ram_fd=ram_fd,
                table_fd=table_fd,
                table=table,
                pool=Pool(domid, XENLIKE_POOL_BASE_PFN, args.pool_pages, args.max_windows),
                config=config,
                resource_fd=resource_fd,
                store_domid=args.store_domid,
                console_domid=args.console_domid,
            )
            undo.callback(self._release, domain)
            domain.store_pfn, domain.store_port = self._reserve(domain, gt.GNTTAB_RESERVED_XENSTORE, args.store_domid)
            domain.console_pfn, domain.console_port = self._reserve(
                domain, gt.GNTTAB_RESERVED_CONSOLE, args.console_domid
            )
            self.domains[domid] = domain
            undo.callback(self.domains.pop, domid)
            if args.flags & XENLIKE_CREATE_FORK:
                if theirs is not None:
                    theirs.close()
                    theirs = None
                domain.paused, domain.stdio_fd = True, stdio_fd
                if not args.flags & XENLIKE_CREATE_PAUSED:
                    self.unpause(domain)
            else:
                self._watch(domain)
                domain.state = XENLIKE_DOMAIN_RUNNING
            undo.pop_all()
        self.generation += 1
        args.domid, args.store_port, args.console_port = domid, domain.store_port, domain.console_port
        return domain, theirs

    def unpause(self, domain: Domain) -> None:
        """Asks for the process of a domain that is to be forked.

        Raises:
            Refused, OSError: EINVAL, it is not paused; ECHILD, there is no zygote; EMFILE.
        """
        if not domain.paused or not domain.alive:
            raise Refused(errno.EINVAL)
        if self.zygote.socket is None:
            # It was given up; refuse at once rather than keep the caller waiting for nothing.
            raise Refused(errno.ECHILD)
        self.zygote.ask(domain.domid, domain.name, domain.stdio_fd)
        domain.paused, domain.stdio_fd = False, -1

    def _new_socket(self, domid: int) -> socket.socket | None:
        """Gives a domain that is to be forked its hypercall socket, and returns the child's end."""
        domain = self.domains.get(domid)
        if domain is None or domain.state != XENLIKE_DOMAIN_BUILDING:
            return None
        domain.socket.close()
        domain.early = None
        domain.socket, theirs = _socket_pair()
        self._watch(domain)
        return theirs

    def _reserve(self, domain: Domain, ref: int, peer: int) -> tuple[int, int]:
        """Makes the page and port with which every domain is born, under a reserved reference."""
        if peer in (DOMID_INVALID, domain.domid):
            return 0, 0
        window = domain.pool.allocate(peer, 1, readonly=False)
        _core.gnttab_set(domain.table.buffer, ref, peer, window.pfn, gt.GTF_permit_access)
        return window.pfn, self.alloc_unbound(domain, peer).number

    def born(self, domid: int, pid: int) -> Domain | None:
        """The zygote reported a child, which is this process's child by now; pid 0 if it could not fork."""
        if pid < 0:
            return None
        domain = self.domains.get(domid)
        if domain is None or domain.state != XENLIKE_DOMAIN_BUILDING:
            # Destroyed meanwhile.
            if pid:
                _end_child(pid)
            return None
        if not pid:
            self.shut_down(domain, SHUTDOWN_crash)
            return None
        try:
            domain.pidfd = os.pidfd_open(pid)
        except OSError:
            # Without a descriptor for it nobody would see its end.
            _end_child(pid)
            self.shut_down(domain, SHUTDOWN_crash)
            return None
        domain.pid = pid
        domain.state = XENLIKE_DOMAIN_RUNNING
        self.generation += 1
        self._watch(domain)
        return domain

    # -- event channels ----------------------------------------------------------------------------

    def alloc_unbound(self, domain: Domain, remote: int) -> Port:
        """Makes a port that `remote` may bind to; `near` has the owner's descriptors."""
        port = domain.ports.allocate(PortState.UNBOUND)
        port.remote_domid = remote
        try:
            self.renew(domain, port)
        except Refused:
            domain.ports.release(port)
            raise
        return port

    def bind_interdomain(self, domain: Domain, remote_domid: int, remote_port: int) -> Port:
        """Joins a new local port to an unbound one; `near` has the caller's descriptors."""
        remote = self.domains.get(remote_domid)
        if remote is None or not remote.alive:
            raise Refused(errno.ESRCH)
        far_port = remote.ports.get(remote_port)
        if far_port.state != PortState.UNBOUND or far_port.remote_domid != domain.domid:
            raise Refused(errno.EINVAL)
        port = domain.ports.allocate(PortState.INTERDOMAIN)
        try:
            if far_port.broken:
                self.renew(remote, far_port)
        except Refused:
            domain.ports.release(port)
            raise
        port.near, far_port.far = far_port.far, None
        far_port.broken = False
        port.remote_domid, port.remote_port = remote_domid, remote_port
        far_port.state, far_port.remote_port = PortState.INTERDOMAIN, port.number
        return port

    def renew(self, owner: Domain, port: Port) -> None:
        """Makes the descriptors of an unbound port, also anew when its peer is gone.

        Raises:
            Refused: ENOSPC, the owner has too many of these; EMFILE.
        """
        port.close_descriptors()
        if owner.ports.descriptors + DESCRIPTORS_PER_CHANNEL > MAX_UNBOUND_DESCRIPTORS:
            raise Refused(errno.ENOSPC)
        port.near, port.far = make_channel()
        # Whoever binds finds an event pending, as on Xen: it may have been waited for already.
        notify(port.near.tx)
        port.broken = False

    def close_port(self, domain: Domain, port: Port) -> None:
        """Closes one end; the other becomes unbound again, as in Xen's `evtchn_close`."""
        if port.state == PortState.INTERDOMAIN:
            remote = self.domains.get(port.remote_domid)
            far_port = remote.ports.ports.get(port.remote_port) if remote is not None else None
            if far_port is not None and far_port is not port:
                far_port.state = PortState.UNBOUND
                far_port.broken = True
        domain.ports.release(port)

    def bind_virq(self, domain: Domain, virq: int) -> tuple[Port, int]:
        """Binds VIRQ_DOM_EXC.

        Returns:
            The port, and the read end of its pipe (to be handed over and closed).
        """
        if virq != VIRQ_DOM_EXC:
            raise Refused(errno.EINVAL)
        if not domain.flags & XENLIKE_CREATE_PRIVILEGED:
            raise Refused(errno.EPERM)
        if any(port.virq == virq and port.state == PortState.VIRQ for port in domain.ports.ports.values()):
            raise Refused(errno.EEXIST)
        port = domain.ports.allocate(PortState.VIRQ)
        try:
            near, far = make_channel()
        except Refused:
            domain.ports.release(port)
            raise
        # One direction is enough: nobody notifies a virtual interrupt.
        os.close(near.tx)
        os.close(far.rx)
        port.virq, port.virq_tx = virq, far.tx
        # Deaths before the binding must not be missed.
        notify(port.virq_tx)
        return port, near.rx

    def _raise_dom_exc(self) -> None:
        self.generation += 1
        for domain in self.domains.values():
            for port in domain.ports.ports.values():
                if port.virq_tx >= 0:
                    notify(port.virq_tx)

    # -- death -------------------------------------------------------------------------------------

    def shut_down(self, domain: Domain, reason: int) -> None:
        """A domain said why it ends, or domain 0 said it for it; its process is ended."""
        if domain.state not in (XENLIKE_DOMAIN_BUILDING, XENLIKE_DOMAIN_RUNNING):
            return
        domain.shutdown_reason, domain.was_shut_down = reason, True
        self._end(domain, XENLIKE_DOMAIN_SHUTDOWN)

    def destroy(self, domain: Domain) -> None:
        """Ends a domain whatever it does; on a dead one, forgets the record."""
        domain.reaped = True
        if domain.alive:
            self._end(domain, XENLIKE_DOMAIN_DYING)
        self._bury_if_done(domain)

    def _end(self, domain: Domain, state: int) -> None:
        unborn = domain.state == XENLIKE_DOMAIN_BUILDING
        domain.state = state
        self._raise_dom_exc()
        if unborn:
            self.zygote.call_off(domain.domid)
        if domain.pidfd >= 0:
            domain.kill()
        else:
            self.died(domain)

    def died(self, domain: Domain) -> None:
        """The process is gone, or an adopted one hung up: breaks and releases what it had."""
        if domain.state == XENLIKE_DOMAIN_DEAD:
            return
        if domain.pidfd >= 0:
            self.orphans.end(domain.pid)
            domain.exit_code = _wait(domain.pidfd)
            os.close(domain.pidfd)
            domain.pidfd = -1
            self.orphans.reap()
        domain.state = XENLIKE_DOMAIN_DYING
        domain.hang_up()
        self._watch(domain)
        touched = self.grants.release_all(domain)
        for port in list(domain.ports.ports.values()):
            self.close_port(domain, port)
        if not domain.flags & XENLIKE_CREATE_STORE_SERVER:
            for other in self.domains.values():
                other.pool.revoke_peer(domain.domid)
        domain.close_memory()
        self._bury_if_done(domain)
        self.bury_zombies(touched)
        self._raise_dom_exc()

    def bury_zombies(self, domids: set[int]) -> None:
        """Mappings of these domains ended: the dying among them may be able to go."""
        for domid in domids:
            domain = self.domains.get(domid)
            if domain is not None and domain.state == XENLIKE_DOMAIN_DYING:
                self._bury_if_done(domain)

    def _bury_if_done(self, domain: Domain) -> None:
        if domain.state == XENLIKE_DOMAIN_DYING and domain.pidfd < 0 and domain.pool.close_idle():
            domain.state = XENLIKE_DOMAIN_DEAD
            self._raise_dom_exc()
        if domain.state == XENLIKE_DOMAIN_DEAD and domain.reaped:
            domain.close_recorder()
            self.domains.pop(domain.domid, None)
            self.generation += 1

    def _release(self, domain: Domain) -> None:
        """Undoes what a creation that failed had made around its memory."""
        domain.hang_up()
        self._watch(domain)
        for port in list(domain.ports.ports.values()):
            domain.ports.release(port)
        domain.pool.close_idle()


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Makes a hypercall socket: the hypervisor's end, and the domain's.

    Few answers fit into it: their descriptors are open for as long as the domain does not read, and count
    against the user of all domains.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ANSWERS_SIZE)
    return ours, theirs


def _end_child(pid: int) -> None:
    """Ends and reaps a child that is to be no domain; it waits for its first answer, so it is soon over."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _wait(pidfd: int) -> int:
    """Reaps a child: its exit status, or minus the signal that ended it."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return XENLIKE_EXIT_UNKNOWN
    if result is None:
        return XENLIKE_EXIT_UNKNOWN
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
