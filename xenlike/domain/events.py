"""Event channels of a domain.

A notification is one byte in a pipe; a full pipe is one that is pending already. Waiting is readiness of
the pipe's other end, and a hang-up there means that the peer is gone.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

import trio

from xenlike import _core
from xenlike.abi import recorder as tr
from xenlike.domain.hypercalls import Ends, Hypercalls
from xenlike.errors import HypercallError, HypervisorGone, PeerGone, PortClosed


class EventChannel:
    """One end of an event channel.

    Attributes:
        port: its number in this domain.
        remote_domid: who is at the other end.
    """

    def __init__(self, hypercalls: Hypercalls, port: int, remote_domid: int, rx: int, tx: int) -> None:
        self._hypercalls = hypercalls
        self.port = port
        self.remote_domid = remote_domid
        self.rx_fd = rx
        self.tx_fd = tx
        self.hung_up = False
        self.recorder: _core.Recorder | None = None
        self.notifications = 0
        self.wakes = 0

    def notify(self) -> None:
        """Sends an event. One to a peer that is gone is lost; `wait` tells."""
        if self.tx_fd >= 0:
            self.notifications += 1
            if self.recorder is not None:
                self.recorder.trace(tr.XENLIKE_TRACE_EVENT, tr.XENLIKE_TRACE_NOTIFY, "", self.port)
            _core.notify(self.tx_fd)

    def drain(self) -> bool:
        """Takes pending events.

        Returns:
            True when the peer has hung up.

        Raises:
            PortClosed: this end was closed.
        """
        if self.rx_fd < 0:
            raise PortClosed(9, f"event channel {self.port} is closed")
        if _core.drain(self.rx_fd):
            self.hung_up = True
        return self.hung_up

    async def wait(self) -> None:
        """Waits for an event and takes all that are pending.

        Events that came before are not lost: it returns at once then.

        Raises:
            PeerGone: the peer died or closed its end.
            PortClosed: this end was closed, possibly by another task meanwhile.
        """
        if self.rx_fd < 0:
            raise PortClosed(9, f"event channel {self.port} is closed")
        if self.hung_up:
            raise PeerGone(f"d{self.remote_domid} is gone")
        try:
            await trio.lowlevel.wait_readable(self.rx_fd)
        except trio.ClosedResourceError:
            raise PortClosed(9, f"event channel {self.port} is closed") from None
        self.wakes += 1
        if self.drain():
            raise PeerGone(f"d{self.remote_domid} is gone")

    def renew(self) -> None:
        """Gets fresh descriptors after the peer died, to wait for its successor on the same port.

        Raises:
            HypercallError: EBUSY, the peer lives.
        """
        rx, tx = self._hypercalls.carrier(self.port)
        self._close_descriptors()
        self.rx_fd, self.tx_fd = rx, tx
        self.hung_up = False

    def close(self) -> None:
        """Closes this end; idempotent. The peer sees a hang-up."""
        if self.rx_fd < 0:
            return
        if self.recorder is not None:
            self.recorder.trace(tr.XENLIKE_TRACE_EVENT, tr.XENLIKE_TRACE_CLOSE, "", self.port, self.remote_domid)
        self._close_descriptors()
        try:
            self._hypercalls.close_port(self.port)
        except (HypercallError, HypervisorGone, OSError):
            # Gone with the machine, or closed by EVTCHNOP_reset.
            pass

    def _close_descriptors(self) -> None:
        rx, tx, self.rx_fd, self.tx_fd = self.rx_fd, self.tx_fd, -1, -1
        if rx >= 0:
            if _in_trio():
                trio.lowlevel.notify_closing(rx)
            os.close(rx)
        if tx >= 0:
            os.close(tx)


def _in_trio() -> bool:
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


class Events:
    """Makes event channels for one domain."""

    def __init__(self, hypercalls: Hypercalls, recorder: _core.Recorder | None = None) -> None:
        self._hypercalls = hypercalls
        self._recorder = recorder
        self._channels: weakref.WeakSet[EventChannel] = weakref.WeakSet()

    def alloc_unbound(self, remote_domid: int) -> EventChannel:
        """Makes a port that the peer may bind to.

        Raises:
            HypercallError: ENOSPC, too many ports; EMFILE, out of descriptors.
        """
        channel = self._channel(remote_domid, lambda: self._hypercalls.alloc_unbound(remote_domid))
        self._trace(tr.XENLIKE_TRACE_ALLOC, channel, 0)
        return channel

    def bind(self, remote_domid: int, remote_port: int) -> EventChannel:
        """Joins the peer's unbound port.

        Raises:
            HypercallError: EINVAL, the peer has no such port for us; ESRCH, no such domain.
        """
        channel = self._channel(remote_domid, lambda: self._hypercalls.bind_interdomain(remote_domid, remote_port))
        self._trace(tr.XENLIKE_TRACE_BIND, channel, remote_port)
        return channel

    def _trace(self, event: int, channel: EventChannel, remote_port: int) -> None:
        if self._recorder is not None:
            self._recorder.trace(tr.XENLIKE_TRACE_EVENT, event, "", channel.port, channel.remote_domid, remote_port)

    def bind_virq(self, virq: int) -> EventChannel:
        """Binds a virtual interrupt, which can be waited for and not sent."""
        port, rx = self._hypercalls.bind_virq(virq)
        return self.adopt(port, 0, rx, -1)

    def adopt(self, port: int, remote_domid: int, rx: int, tx: int) -> EventChannel:
        """Takes a channel that came with the bootstrap."""
        channel = EventChannel(self._hypercalls, port, remote_domid, rx, tx)
        self._channels.add(channel)
        return channel

    def close(self) -> None:
        """The domain ends: lets go of every channel that is still open."""
        for channel in list(self._channels):
            channel._close_descriptors()

    def _channel(self, remote_domid: int, make: Callable[[], tuple[int, Ends]]) -> EventChannel:
        port, ends = make()
        channel = self.adopt(port, remote_domid, *ends)
        channel.recorder = self._recorder
        return channel
