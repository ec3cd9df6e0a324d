"""The hypercall client of a domain.

A hypercall is synchronous, as on Xen, where it is a trap: the message goes out, and the calling thread
waits for the reply. The hypervisor never waits for anyone, so that is some tens of microseconds. Calls from
several threads of the domain take turns.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from xenlike import _core
from xenlike._core.fds import DescriptorsLost, recv_message, send_message
from xenlike.abi import event_channel as ev
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi.sched import SCHEDOP_remote_shutdown, SCHEDOP_shutdown, SchedRemoteShutdown, SchedShutdown
from xenlike.abi.start_info import StartInfo
from xenlike.abi.struct import Struct
from xenlike.abi.xen import DOMID_SELF
from xenlike.errors import HypercallError, HypervisorGone

S = TypeVar("S", bound=Struct)

REPLY = hc.HypercallReply.__layout__.size
HEAD = hc.Hypercall.__layout__.size
# What one message holds; longer batches are sent in parts.
MAPS = (hc.XENLIKE_MESSAGE_MAX - HEAD) // gt.GnttabMapGrantRef.__layout__.size
UNMAPS = (hc.XENLIKE_MESSAGE_MAX - HEAD) // gt.GnttabUnmapGrantRef.__layout__.size

HINTS = {
    errno.EMFILE: "too many open files here or in the hypervisor: raise `ulimit -n`, or detach devices",
    errno.ENOSPC: "this domain has as many windows or ports as it may",
    errno.ENOMEM: "the domain's memory is used up: give it more with memory=",
}


class Ends(NamedTuple):
    """Descriptors of one end of an event channel."""

    rx: int
    tx: int


class Reply(NamedTuple):
    """What came back: result, structures as bytes, descriptors (now the caller's)."""

    ret: int
    body: bytes
    fds: list[int]


class _AnswerWithoutDescriptors(HypercallError):
    """The call was carried out, but what came back could not be taken; whoever made it takes it back.

    Args:
        name: of the hypercall.
        body: the structures of the answer.
    """

    def __init__(self, name: str, body: bytes) -> None:
        super().__init__(errno.EMFILE, name, HINTS[errno.EMFILE])
        self.body = body


class Hypercalls:
    """Hypercalls over one domain's socket.

    Args:
        sock: the domain's `SOCK_SEQPACKET` end; taken over.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._tag = 0

    def close(self) -> None:
        """Hangs up: an adopted domain is dead for the hypervisor from now on."""
        self._socket.close()

    @property
    def socket(self) -> socket.socket:
        """Readable only when the hypervisor is gone, since nothing comes unasked."""
        return self._socket

    def call(self, op: int, cmd: int, payload: bytes, count: int, name: str, fds: Sequence[int] = ()) -> Reply:
        """Makes one call.

        Args:
            op: `HYPERVISOR_*`.
            cmd: sub-operation.
            payload: argument structures.
            count: how many.
            name: for error messages.
            fds: to send along (domain 0 only; dropped otherwise).

        Raises:
            HypercallError: the call was refused.
            HypervisorGone: the hypervisor is dead.
        """
        with self._lock:
            if self._socket.fileno() < 0:
                raise HypervisorGone("this domain has hung up: its machine has ended")
            self._tag = tag = (self._tag + 1) & 0xFFFFFFFF
            message = hc.Hypercall(tag, op, cmd, count).pack() + payload
            try:
                send_message(self._socket, message, fds)
                while True:
                    lost = False
                    try:
                        data, received = recv_message(self._socket, hc.XENLIKE_MESSAGE_MAX, hc.XENLIKE_MAX_FDS)
                    except DescriptorsLost as error:
                        data, received, lost = error.data, [], True
                    head = hc.HypercallReply.unpack(data) if len(data) >= REPLY else None
                    if head is None:
                        raise HypervisorGone("the hypervisor is gone, and its machine with it")
                    if head.tag == tag:
                        break
                    # The answer to a call that was interrupted by an exception.
                    for fd in received:
                        os.close(fd)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise HypervisorGone("the hypervisor is gone, and its machine with it") from error
        if head.ret < 0:
            raise HypercallError(-head.ret, name, HINTS.get(-head.ret, ""))
        if lost:
            raise _AnswerWithoutDescriptors(name, data[REPLY:])
        return Reply(head.ret, data[REPLY:], received)

    def _one(self, op: int, cmd: int, argument: S, name: str) -> tuple[S, list[int]]:
        """Makes a call with one structure, and returns it updated."""
        reply = self.call(op, cmd, argument.pack(), 1, name)
        if len(reply.body) >= argument.__layout__.size:
            argument = type(argument).unpack(reply.body)
        return argument, reply.fds

    # -- bootstrap ---------------------------------------------------------------------------------

    def bootstrap(self) -> tuple[StartInfo, list[int]]:
        """The first call of a domain: its start-info and descriptors (see `xenlike.abi.hypercall`)."""
        reply = self.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_BOOTSTRAP, b"", 0, "XENLIKE_BOOTSTRAP")
        return StartInfo.unpack(reply.body), reply.fds

    def config(self) -> tuple[bytes, int]:
        """Returns the toolstack's words to this domain, and the resource channel's descriptor or -1."""
        reply = self.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GET_CONFIG, b"", 0, "XENLIKE_GET_CONFIG")
        body, fds = reply.body, reply.fds
        if reply.ret & hc.XENLIKE_CONFIG_MEMFD:
            fd = fds.pop(0)
            body = os.pread(fd, os.fstat(fd).st_size, 0)
            os.close(fd)
        return body, fds.pop() if reply.ret & hc.XENLIKE_CONFIG_RESOURCE else -1

    def recorder(self) -> _core.Recorder:
        """This domain's recorder, begun; one that no tool sees where the host has no descriptors or memory left."""
        try:
            memory = self.recorder_memory(DOMID_SELF)
        except (HypercallError, OSError) as error:
            if error.errno not in (errno.EMFILE, errno.ENOMEM):
                raise
            return _core.Recorder.private()
        return _core.Recorder(memory)

    def recorder_memory(self, domid: int) -> memoryview:
        """Maps a domain's recorder; others' only in domain 0.

        Raises:
            HypercallError: ESRCH, there is no such domain; EPERM; EMFILE.
        """
        reply = self.call(
            hc.HYPERVISOR_xenlike_op, hc.XENLIKE_RECORDER, hc.RecorderOp(domid).pack(), 1, "XENLIKE_RECORDER"
        )
        return _core.map_recorder(reply.fds[0])

    # -- windows -----------------------------------------------------------------------------------

    def alloc_window(self, peer: int, nr_pages: int, readonly: bool) -> tuple[int, int]:
        """Makes grantable memory for one peer; returns its first pfn and its descriptor."""
        flags = hc.XENLIKE_WINDOW_READONLY if readonly else 0
        argument = hc.AllocWindow(peer, flags, nr_pages)
        try:
            argument, fds = self._one(
                hc.HYPERVISOR_xenlike_op, hc.XENLIKE_ALLOC_WINDOW, argument, "XENLIKE_ALLOC_WINDOW"
            )
        except _AnswerWithoutDescriptors as lost:
            self.free_window(hc.AllocWindow.unpack(lost.body).pfn)
            raise
        return argument.pfn, fds[0]

    def replace_window(self, pfn: int, peer: int, readonly: bool) -> int:
        """Puts fresh memory for another peer at the same frames; returns its descriptor."""
        flags = hc.XENLIKE_WINDOW_READONLY if readonly else 0
        argument = hc.ReplaceWindow(peer=peer, flags=flags, pfn=pfn)
        _, fds = self._one(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_REPLACE_WINDOW, argument, "XENLIKE_REPLACE_WINDOW")
        return fds[0]

    def free_window(self, pfn: int) -> None:
        """Gives a window back; HypercallError(EBUSY) while a page is mapped."""
        self._one(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_FREE_WINDOW, hc.FreeWindow(pfn), "XENLIKE_FREE_WINDOW")

    def seal_window(self, pfn: int) -> None:
        """Says that a read-only window is mapped here, and may now be by its peer."""
        self._one(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_SEAL_WINDOW, hc.SealWindow(pfn), "XENLIKE_SEAL_WINDOW")

    # -- event channels ----------------------------------------------------------------------------

    def alloc_unbound(self, remote_domid: int) -> tuple[int, Ends]:
        """Makes a port that `remote_domid` may bind to."""
        argument = ev.EvtchnAllocUnbound(DOMID_SELF, remote_domid)
        try:
            argument, fds = self._one(
                hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_alloc_unbound, argument, "EVTCHNOP_alloc_unbound"
            )
        except _AnswerWithoutDescriptors as lost:
            self.close_port(ev.EvtchnAllocUnbound.unpack(lost.body).port)
            raise
        return argument.port, Ends(*fds)

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> tuple[int, Ends]:
        """Joins a new port to the peer's unbound one."""
        argument = ev.EvtchnBindInterdomain(remote_domid, remote_port)
        try:
            argument, fds = self._one(
                hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_interdomain, argument, "EVTCHNOP_bind_interdomain"
            )
        except _AnswerWithoutDescriptors as lost:
            self.close_port(ev.EvtchnBindInterdomain.unpack(lost.body).local_port)
            raise
        return argument.local_port, Ends(*fds)

    def bind_virq(self, virq: int) -> tuple[int, int]:
        """Binds a virtual interrupt; returns its port and the descriptor to wait on."""
        argument, fds = self._one(
            hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_virq, ev.EvtchnBindVirq(virq), "EVTCHNOP_bind_virq"
        )
        return argument.port, fds[0]

    def close_port(self, port: int) -> None:
        """Closes a port at this end."""
        self._one(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_close, ev.EvtchnClose(port), "EVTCHNOP_close")

    def port_status(self, port: int, domid: int = DOMID_SELF) -> ev.EvtchnStatus:
        """Asks what a port is bound to."""
        argument = ev.EvtchnStatus(dom=domid, port=port)
        return self._one(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_status, argument, "EVTCHNOP_status")[0]

    def carrier(self, port: int) -> Ends:
        """Fresh descriptors for a port whose peer died."""
        _, fds = self._one(
            hc.HYPERVISOR_xenlike_op, hc.XENLIKE_EVTCHN_CARRIER, hc.EvtchnCarrier(port), "XENLIKE_EVTCHN_CARRIER"
        )
        return Ends(*fds)

    # -- grants ------------------------------------------------------------------------------------

    def map_grants(
        self, operations: Sequence[gt.GnttabMapGrantRef]
    ) -> list[tuple[list[gt.GnttabMapGrantRef], list[int]]]:
        """Maps a batch, in as many messages as it needs.

        Returns:
            For every message its operations, updated, and the descriptors that came with it.
        """
        done: list[tuple[list[gt.GnttabMapGrantRef], list[int]]] = []
        try:
            for reply in self._batches(gt.GNTTABOP_map_grant_ref, operations, MAPS, "GNTTABOP_map_grant_ref"):
                done.append((_unpack(gt.GnttabMapGrantRef, reply.body), reply.fds))  # noqa: PERF401 - kept on errors
        except _AnswerWithoutDescriptors as lost:
            done.append((_unpack(gt.GnttabMapGrantRef, lost.body), []))
            self.give_back(done)
            raise
        return done

    def give_back(self, done: Sequence[tuple[Sequence[gt.GnttabMapGrantRef], Sequence[int]]]) -> None:
        """Takes back a batch that was mapped and cannot be used: ends its handles, closes its descriptors."""
        for operations, fds in done:
            self.unmap_grants([operation.handle for operation in operations if operation.status == gt.GNTST_okay])
            for fd in fds:
                os.close(fd)

    def unmap_grants(self, handles: Sequence[int]) -> None:
        """Ends a batch of handles; unknown ones are passed over."""
        operations = [gt.GnttabUnmapGrantRef(handle=handle) for handle in handles]
        for _ in self._batches(gt.GNTTABOP_unmap_grant_ref, operations, UNMAPS, "GNTTABOP_unmap_grant_ref"):
            pass

    def copy_grants(self, operations: Sequence[gt.GnttabCopy]) -> list[gt.GnttabCopy]:
        """Copies between pages; each operation has its own status."""
        size = (hc.XENLIKE_MESSAGE_MAX - HEAD) // gt.GnttabCopy.__layout__.size
        done: list[gt.GnttabCopy] = []
        for reply in self._batches(gt.GNTTABOP_copy, operations, size, "GNTTABOP_copy"):
            done += _unpack(gt.GnttabCopy, reply.body)
        return done

    def grant_status(self, ref: int, domid: int = DOMID_SELF) -> hc.GrantStatus:
        """Asks how a reference stands; others' only in domain 0.

        Raises:
            HypercallError: ESRCH, there is no such domain; EINVAL, no such reference, or a table that is gone; EPERM.
        """
        argument = hc.GrantStatus(domid=domid, ref=ref)
        return self._one(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GRANT_STATUS, argument, "XENLIKE_GRANT_STATUS")[0]

    def _batches(self, cmd: int, operations: Sequence[Struct], size: int, name: str) -> Iterator[Reply]:
        for at in range(0, len(operations), size):
            part = operations[at : at + size]
            payload = b"".join([operation.pack() for operation in part])
            yield self.call(hc.HYPERVISOR_grant_table_op, cmd, payload, len(part), name)

    # -- scheduling --------------------------------------------------------------------------------

    def shutdown(self, reason: int) -> None:
        """Ends this domain with Xen's reason; does not return."""
        payload = SchedShutdown(reason).pack()
        message = hc.Hypercall(0, hc.HYPERVISOR_sched_op, SCHEDOP_shutdown, 1).pack() + payload
        try:
            self._socket.send(message)
            # The hypervisor ends this process. Should it be gone, then so is the machine.
            self._socket.recv(1)
        except (BrokenPipeError, ConnectionResetError):
            pass
        os._exit(1)

    # -- domain 0 ----------------------------------------------------------------------------------

    def remote_shutdown(self, domid: int, reason: int) -> None:
        """Ends another domain in its name."""
        self._one(
            hc.HYPERVISOR_sched_op,
            SCHEDOP_remote_shutdown,
            SchedRemoteShutdown(domid, reason),
            "SCHEDOP_remote_shutdown",
        )

    def create_domain(
        self, arguments: hc.CreateDomain, config: bytes, resource_fd: int = -1, stdio_fd: int = -1
    ) -> tuple[hc.CreateDomain, list[int]]:
        """Creates a domain.

        Args:
            arguments: as `xenlike_domctl_createdomain`; flags and length for what follows are set here.
            config: what the domain gets by GET_CONFIG.
            resource_fd: its end of the resource channel, or -1; still the caller's afterwards.
            stdio_fd: where its descriptors 1 and 2 go, or -1; likewise.

        Returns:
            The arguments with domid and ports, and for an adopted domain its socket's descriptor.
        """
        fds: list[int] = []
        memfd = -1
        if len(config) > hc.XENLIKE_CONFIG_INLINE_MAX - hc.CreateDomain.__layout__.size:
            memfd = os.memfd_create("xenlike-config", os.MFD_CLOEXEC)
            os.write(memfd, config)
            fds.append(memfd)
            arguments.config_length = hc.XENLIKE_CONFIG_IN_FD
        else:
            arguments.config_length = len(config)
        if resource_fd >= 0:
            arguments.flags |= hc.XENLIKE_CREATE_RESOURCE
            fds.append(resource_fd)
        if stdio_fd >= 0:
            arguments.flags |= hc.XENLIKE_CREATE_STDIO
            fds.append(stdio_fd)
        payload = arguments.pack() + (config if memfd < 0 else b"")
        try:
            reply = self.call(
                hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_createdomain, payload, 1, "XEN_DOMCTL_createdomain", fds
            )
        except _AnswerWithoutDescriptors as lost:
            self.destroy_domain(hc.CreateDomain.unpack(lost.body).domid)
            raise
        finally:
            if memfd >= 0:
                os.close(memfd)
        return hc.CreateDomain.unpack(reply.body), reply.fds

    def unpause_domain(self, domid: int) -> None:
        """Starts a domain that was created with `XENLIKE_CREATE_PAUSED`."""
        argument = hc.UnpauseDomain(domid)
        self._one(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_unpausedomain, argument, "XEN_DOMCTL_unpausedomain")

    def destroy_domain(self, domid: int) -> None:
        """Ends a domain at once; on a dead one, forgets its record."""
        argument = hc.DestroyDomain(domid=domid, signal=9)
        self._one(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_destroydomain, argument, "XEN_DOMCTL_destroydomain")

    def publish(self, period_ms: int, lease_ms: int) -> int:
        """Has statistics published now, and then in a period for as long as the lease lasts.

        Returns:
            The number of the first snapshot that is newer than this call; it comes within some milliseconds.

        Raises:
            HypercallError: ENODEV, this machine publishes none.
        """
        argument = hc.Publish(period_ms, lease_ms)
        return self._one(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_PUBLISH, argument, "XENLIKE_PUBLISH")[0].sequence

    def domain_info(self, domid: int) -> hc.GetDomainInfo | None:
        """The first domain at or after `domid`, or None."""
        try:
            return self._one(
                hc.HYPERVISOR_domctl,
                hc.XEN_DOMCTL_getdomaininfo,
                hc.GetDomainInfo(domid=domid),
                "XEN_DOMCTL_getdomaininfo",
            )[0]
        except HypercallError as error:
            if error.errno == errno.ESRCH:
                return None
            raise

    def domain_infos(self) -> list[hc.GetDomainInfo]:
        """All domains, also the dead whose record is still there."""
        infos: list[hc.GetDomainInfo] = []
        info = self.domain_info(0)
        while info is not None:
            infos.append(info)
            info = self.domain_info(info.domid + 1) if info.domid < 0xFFFF else None
        return infos


def _unpack(kind: type[S], body: bytes) -> list[S]:
    size = kind.__layout__.size
    return [kind.unpack(body, at) for at in range(0, len(body), size)]
