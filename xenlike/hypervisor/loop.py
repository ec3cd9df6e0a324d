"""The hypervisor's event loop: one epoll, no waiting anywhere else.

A hypercall is a function from a message to a reply, so there is nothing to await and no scheduler here:
this loop reads one message of one domain, answers it, and looks again. That keeps the trusted process
small, and a domain that floods it gets one turn like all others.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from functools import partial

from xenlike._core.fds import DescriptorsLost, recv_message, send_message
from xenlike.abi.hypercall import (
    XENLIKE_CREATE_FORK,
    XENLIKE_CREATE_PRIVILEGED,
    XENLIKE_DOMAIN_BUILDING,
    XENLIKE_MAX_FDS,
    XENLIKE_MESSAGE_MAX,
    CreateDomain,
    HypercallReply,
)
from xenlike.abi.sched import SHUTDOWN_crash
from xenlike.abi.xen import DOMID_INVALID
from xenlike.hypervisor.domain import Domain
from xenlike.hypervisor.hypercalls import Hypercalls
from xenlike.hypervisor.hypervisor import Hypervisor
from xenlike.hypervisor.orphans import end_children, reap_strangers
from xenlike.hypervisor.publisher import Publisher
from xenlike.hypervisor.segment import Segment

log = logging.getLogger(__name__)

DOM0_PAGES = 16
DOM0_POOL_PAGES = 1 << 20
DOM0_WINDOWS = 4096
# How often in a row a zygote may die before it is ready.
ZYGOTE_FAILURES = 3
END_PATIENCE_S = 2


class Loop:
    """Runs one machine until domain 0 hangs up.

    Args:
        dom0: the hypervisor's end of domain 0's hypercall socket.
        store_domid: who will serve domain 0's store ring.
        parent_pid: the process behind domain 0; the machine ends with it.
        statistics: name of the segment in which statistics are published; empty for none.
    """

    def __init__(self, dom0: socket.socket, store_domid: int, parent_pid: int, statistics: str = "") -> None:
        self._epoll = select.epoll()
        # Descriptors that are listened to only since this turn: its events are of others that had their numbers.
        self._fresh: set[int] = set()
        self._ready: dict[int, Callable[[], None]] = {}
        self._watched: dict[int, list[int]] = {}
        self.xen = Hypervisor(self._watch)
        self._calls = Hypercalls(self.xen)
        self._running = True
        self._listen(os.pidfd_open(parent_pid), self.stop)
        args = CreateDomain(
            flags=XENLIKE_CREATE_PRIVILEGED,
            max_windows=DOM0_WINDOWS,
            nr_pages=DOM0_PAGES,
            pool_pages=DOM0_POOL_PAGES,
            store_domid=store_domid,
            console_domid=DOMID_INVALID,
            name=b"Domain-0",
        )
        self.xen.create(args, b"", own_socket=dom0)
        self._publisher = Publisher(self.xen, Segment(statistics), parent_pid) if statistics else None
        self.xen.publisher = self._publisher

    def run(self) -> None:
        """Serves until domain 0 is gone; then ends every process of the machine."""
        self._listen_for_children()
        self._start_zygote()
        publisher = self._publisher
        while self._running:
            self._fresh.clear()
            for fd, _ in self._epoll.poll(publisher.wait_s() if publisher is not None else None):
                handler = self._ready.get(fd)
                if handler is not None and fd not in self._fresh:
                    handler()
            if publisher is not None:
                publisher.turn()
        if publisher is not None:
            publisher.close()
        self._end_all()

    def stop(self) -> None:
        """Ends the machine after this turn."""
        self._running = False

    def _listen(self, fd: int, handler: Callable[[], None]) -> None:
        self._ready[fd] = handler
        self._fresh.add(fd)
        self._epoll.register(fd, select.EPOLLIN)

    def _ignore(self, fd: int) -> None:
        # A closed descriptor has left the epoll by itself.
        if self._ready.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass

    def _listen_for_children(self) -> None:
        """Wakes when a child ended: a domain's pidfd tells of that domain, but not of its orphans."""
        rx, tx = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(tx, warn_on_full_buffer=False)

        def reap() -> None:
            os.read(rx, 4096)
            self.xen.orphans.reap()
            self._reap_strangers()

        self._listen(rx, reap)

    def _reap_strangers(self) -> None:
        zygote = self.xen.zygote
        if not zygote.owes:
            domains = self.xen.domains.values()
            reap_strangers({zygote.pid, *(domain.pid for domain in domains if domain.pidfd >= 0)})

    # -- zygote ------------------------------------------------------------------------------------

    def _start_zygote(self) -> None:
        zygote = self.xen.zygote
        zygote.start()
        assert zygote.socket is not None
        self._listen(zygote.socket.fileno(), self._zygote_spoke)
        self._listen(zygote.pidfd, self._zygote_died)

    def _zygote_spoke(self) -> None:
        zygote = self.xen.zygote
        if zygote.socket is None:
            return
        report = zygote.hear()
        if report is None:
            # Hung up; its pidfd tells the rest.
            self._ignore(zygote.socket.fileno())
        else:
            self._born(*report)

    def _born(self, domid: int, pid: int) -> None:
        domain = self.xen.born(domid, pid)
        if domain is not None and domain.early is not None:
            message, domain.early = domain.early, None
            self._answer(domain, message, [])
        self._reap_strangers()

    def _zygote_died(self) -> None:
        zygote = self.xen.zygote
        if zygote.socket is not None:
            # What it reported before its death still counts.
            self._drain_reports()
            self._ignore(zygote.socket.fileno())
        self._ignore(zygote.pidfd)
        zygote.bury()
        if zygote.failures < ZYGOTE_FAILURES:
            log.warning("the zygote died; starting another")
            try:
                self._start_zygote()
                return
            except OSError as error:
                log.error("no zygote can be started: %s", error)
                zygote.stop()
        log.error("the zygote died %d times in a row; new domains are refused", zygote.failures)
        for domid in zygote.give_up():
            self.xen.shut_down(self.xen.domains[domid], SHUTDOWN_crash)

    def _drain_reports(self) -> None:
        zygote = self.xen.zygote
        if zygote.socket is not None:
            zygote.socket.setblocking(False)
            while (report := zygote.hear()) is not None:
                self._born(*report)

    # -- domains -----------------------------------------------------------------------------------

    def _watch(self, domain: Domain) -> None:
        """Listens to what the domain has open now: its socket, and its pidfd once it has one."""
        for fd in self._watched.pop(domain.domid, []):
            self._ignore(fd)
        handlers = {domain.socket.fileno(): self._socket_ready, domain.pidfd: self._process_ended}
        handlers.pop(-1, None)
        for fd, handler in handlers.items():
            self._listen(fd, partial(handler, domain))
        if handlers:
            self._watched[domain.domid] = list(handlers)

    def _process_ended(self, domain: Domain) -> None:
        self.xen.died(domain)

    def _socket_ready(self, domain: Domain) -> None:
        privileged = domain.domid == 0
        try:
            # Nobody but domain 0 can make this process hold a descriptor.
            message, fds = recv_message(
                domain.socket, XENLIKE_MESSAGE_MAX, XENLIKE_MAX_FDS if privileged else 0, socket.MSG_DONTWAIT
            )
        except DescriptorsLost as lost:
            # Only domain 0 can send any, and it waits for its answer.
            tag = int.from_bytes(lost.data[:4], "little")
            send_message(domain.socket, HypercallReply(tag, -errno.EMFILE).pack(), flags=socket.MSG_DONTWAIT)
            return
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return
            message, fds = b"", []
        if not message:
            self._hung_up(domain)
            return
        if domain.state == XENLIKE_DOMAIN_BUILDING:
            if domain.early is None:
                domain.early = message
            else:
                self.xen.shut_down(domain, SHUTDOWN_crash)
            return
        self._answer(domain, message, fds)

    def _answer(self, domain: Domain, message: bytes, fds: list[int]) -> None:
        answered = self._calls.handle(domain, message, fds)
        for fd in fds:
            os.close(fd)
        if answered is None:
            return
        reply, call = answered
        descriptors = call.send + call.give
        try:
            send_message(domain.socket, reply, descriptors, socket.MSG_DONTWAIT)
        except OSError:
            # It does not read its replies, or is gone: either way it is no domain any more.
            self._hung_up(domain)
        finally:
            for fd in call.give:
                os.close(fd)

    def _hung_up(self, domain: Domain) -> None:
        self._ignore(domain.socket.fileno())
        if domain.domid == 0:
            self.stop()
        elif domain.state == XENLIKE_DOMAIN_BUILDING and domain.flags & XENLIKE_CREATE_FORK:
            # Its zygote died before the report; the next one is asked again, with another socket.
            pass
        elif domain.pidfd < 0:
            self.xen.died(domain)
        elif domain.alive:
            # An exiting process closes its descriptors after its exit status is settled, so for that one
            # the signal changes nothing; one that goes on living without its socket is no domain.
            domain.kill()

    def _end_all(self) -> None:
        """Ends and reaps every process of the machine, also one that a zygote forked and never reported."""
        for domain in self.xen.domains.values():
            domain.kill()
            domain.hang_up()
        self.xen.zygote.stop()
        # A child that neither died of the signal nor of its closed socket is not waited for for ever:
        # the death signal it set, or its own next hypercall, ends it after us.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(END_PATIENCE_S)
        end_children()
