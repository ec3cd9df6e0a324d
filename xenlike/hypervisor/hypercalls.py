"""From a message to a reply: every hypercall, by Xen's numbers.

A call is decoded, carried out at once and answered; nothing in here waits. What a domain sends is data of
a stranger: a malformed message is -EINVAL, an unknown operation -ENOSYS, and neither harms anyone.
"""

from __future__ import annotations

import errno
import os

from xenlike.abi import hypercall as hc
from xenlike.abi.xen import XEN_VERSION, XENVER_version
from xenlike.hypervisor import domctl, event_channel_op, grant_table_op, sched_op, xenlike_op
from xenlike.hypervisor.call import Call, Operations
from xenlike.hypervisor.domain import Domain
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.hypervisor import Hypervisor

CALL = hc.Hypercall.__layout__.size
ENTRY = hc.MulticallEntry.__layout__.size
# A reply's descriptors must fit one message, and so must a batch of maps in the worst case.
MAX_FDS = hc.XENLIKE_MAX_FDS


class Hypercalls:
    """Carries out the calls of all domains on one hypervisor."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._xen = hypervisor
        self._operations: Operations = {
            (hc.HYPERVISOR_xen_version, XENVER_version): _version,
            (hc.HYPERVISOR_multicall, 0): lambda _, call: self._multicall(call),
            **sched_op.TABLE,
            **event_channel_op.TABLE,
            **grant_table_op.TABLE,
            **xenlike_op.TABLE,
            **domctl.TABLE,
        }

    def handle(self, caller: Domain, message: bytes, fds: list[int]) -> tuple[bytes, Call] | None:
        """Answers one message.

        Args:
            caller: whose socket it came from.
            message: at most 4096 bytes.
            fds: descriptors that came with it (from privileged domains only).

        Returns:
            The reply and its call, whose `send` and `give` go along; None when there is nobody to answer.
        """
        if len(message) < CALL:
            return hc.HypercallReply(ret=-errno.EINVAL).pack(), Call(caller, 0, 0, b"")
        head = hc.Hypercall.unpack(message)
        call = Call(caller, head.cmd, head.count, message[CALL:], fds)
        result = self._dispatch(head.op, call)
        if call.silent:
            call.drop()
            return None
        reply = hc.HypercallReply(head.tag, result, call.out_count, len(call.send) + len(call.give))
        return reply.pack() + call.out, call

    def _dispatch(self, op: int, call: Call) -> int:
        operation = self._operations.get((op, call.cmd))
        if operation is None:
            return -errno.ENOSYS
        if op == hc.HYPERVISOR_domctl and not _may_domctl(call):
            return -errno.EPERM
        try:
            return operation(self._xen, call)
        except Refused as refused:
            result = refused.errno
        except OSError as error:
            # The host refused; whatever the caller did to bring that about is its own loss.
            result = error.errno or errno.EIO
        except ValueError:
            # A number that does not fit its field: the caller's arguments made it.
            result = errno.EINVAL
        call.drop()
        return -result

    def _multicall(self, call: Call) -> int:
        """Carries out several calls in order; each has its own result. None of them may be a batch."""
        out: list[bytes] = []
        done = 0
        for entry, body in _entries(call):
            inner = Call(call.caller, entry.cmd, entry.count, body)
            if entry.op in (hc.HYPERVISOR_multicall, hc.HYPERVISOR_domctl):
                entry.ret = -errno.ENOSYS
            else:
                entry.ret = self._dispatch(entry.op, inner)
            # In the order in which they belong to the entries: those that stay come as duplicates.
            try:
                call.give += [os.dup(fd) for fd in inner.send]
            finally:
                call.give += inner.give
            call.silent |= inner.silent
            entry.count, entry.length = inner.out_count, len(inner.out)
            out += [entry.pack(), inner.out]
            done += 1
            if call.silent:
                break
        call.out, call.out_count = b"".join(out), done
        if len(call.out) + hc.HypercallReply.__layout__.size > hc.XENLIKE_MESSAGE_MAX or len(call.give) > MAX_FDS:
            raise Refused(errno.E2BIG)
        return 0


def _version(xen: Hypervisor, call: Call) -> int:
    return XEN_VERSION[0] << 16 | XEN_VERSION[1]


def _entries(call: Call) -> list[tuple[hc.MulticallEntry, bytes]]:
    """Takes a multicall apart before any of it is done; Refused(EINVAL) when it is not what it says."""
    entries: list[tuple[hc.MulticallEntry, bytes]] = []
    payload, at = call.payload, 0
    while at < len(payload) and len(entries) < call.count:
        if len(payload) < at + ENTRY:
            raise Refused(errno.EINVAL)
        entry = hc.MulticallEntry.unpack(payload, at)
        body = payload[at + ENTRY : at + ENTRY + entry.length]
        at += ENTRY + entry.length
        entries.append((entry, body))
    if at != len(payload) or len(entries) != call.count:
        raise Refused(errno.EINVAL)
    return entries


def _may_domctl(call: Call) -> bool:
    """Domain 0 may do all; a privileged server may look at the domains it serves."""
    privileged = bool(call.caller.flags & hc.XENLIKE_CREATE_PRIVILEGED)
    return call.caller.domid == 0 or (privileged and call.cmd == hc.XEN_DOMCTL_getdomaininfo)
