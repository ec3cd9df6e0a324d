"""A server in a thread of its own, and the ends of rings that it serves: one page, two pipes."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from xenlike import _core
from xenlike.errors import PeerGone, PortClosed
from xenlike.xenstored.rules import Quotas
from xenlike.xenstored.server import Server


class PipeChannel:
    """One end of an event channel, as a domain's `EventChannel` behaves."""

    def __init__(self, rx: int, tx: int) -> None:
        self.rx_fd = rx
        self.tx_fd = tx
        self.hung_up = False
        self.sent = 0

    @staticmethod
    def pair() -> tuple[PipeChannel, PipeChannel]:
        (a, b), (c, d) = (os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(2))
        return PipeChannel(a, d), PipeChannel(c, b)

    def notify(self) -> None:
        if self.tx_fd >= 0:
            self.sent += 1
            _core.notify(self.tx_fd)

    def drain(self) -> bool:
        if self.rx_fd < 0:
            raise PortClosed(9, "closed")
        if _core.drain(self.rx_fd):
            self.hung_up = True
        return self.hung_up

    async def wait(self) -> None:
        if self.rx_fd < 0:
            raise PortClosed(9, "closed")
        try:
            await trio.lowlevel.wait_readable(self.rx_fd)
        except trio.ClosedResourceError:
            raise PortClosed(9, "closed") from None
        if self.drain():
            raise PeerGone("the peer is gone")

    def wait_sync(self, timeout_s: float = 20) -> None:
        """Waits for an event; a hang guard, not a measurement."""
        assert select.select([self.rx_fd], [], [], timeout_s)[0], "no event came"
        self.drain()

    def close(self) -> None:
        for fd in (self.rx_fd, self.tx_fd):
            if fd >= 0:
                os.close(fd)
        self.rx_fd = self.tx_fd = -1


class Hypervisor:
    """Pages and ports of some domains, as the daemon finds them."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.waiting: dict[int, PipeChannel] = {}
        self.unmapped: list[int] = []

    def create(self, domid: int) -> tuple[bytearray, PipeChannel]:
        """Makes a domain; returns its page and its end of the channel."""
        self.pages[domid] = bytearray(4096)
        return self.pages[domid], self.renew(domid)

    def renew(self, domid: int) -> PipeChannel:
        """Makes a fresh channel for a domain to wait on."""
        mine, theirs = PipeChannel.pair()
        self.waiting[domid] = theirs
        return mine

    def map_page(self, domid: int) -> tuple[memoryview, Callable[[], None]]:
        if domid not in self.pages:
            raise PermissionError(13, "not granted")
        return memoryview(self.pages[domid]), lambda: self.unmapped.append(domid)

    def bind(self, domid: int, port: int) -> PipeChannel:
        if domid not in self.waiting:
            raise OSError(22, "no such port")
        return self.waiting.pop(domid)


class Stop(Exception):
    """Ends a server's loop."""


class Running:
    """A server in a thread."""

    def __init__(
        self, hypervisor: Hypervisor | None = None, *, log_fd: int | None = None, quotas: Quotas | None = None
    ) -> None:
        self.server = Server(quotas)
        if hypervisor is not None:
            self.server.use_rings(hypervisor.map_page, hypervisor.bind)
        if log_fd is not None:
            self.server.use_log(log_fd)
        self._calls: list[Callable[[], None]] = []
        self._opened: list[socket.socket] = []
        self._failure: BaseException | None = None
        self._bell, self._button = os.pipe()
        self.server.register(self._bell, select.EPOLLIN, self._called)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.server.run()
        except Stop:
            pass
        except BaseException as error:
            self._failure = error

    def _called(self, mask: int) -> None:
        os.read(self._bell, 1)
        self._calls.pop(0)()

    def call(self, function: Callable[[], object]) -> None:
        """Runs a function in the server's thread and waits until it is done."""
        done = threading.Event()
        raised: list[BaseException] = []

        def run() -> None:
            try:
                function()
            except BaseException as error:
                raised.append(error)
            finally:
                done.set()

        self._calls.append(run)
        os.write(self._button, b"x")
        assert done.wait(20)
        if raised:
            raise raised[0]

    def settle(self) -> None:
        """Waits until everything that happened before has been handled: the second call is of a later turn."""
        self.call(lambda: None)
        self.call(lambda: None)

    def connect(self) -> socket.socket:
        """Returns a connected socket to it."""
        from xenlike.xenstored.sockets import SocketConnection

        ours, theirs = socket.socketpair()
        self._opened.append(ours)
        self.call(lambda: self.server.opened(SocketConnection(self.server, theirs)))
        return ours

    def introduce(self, domid: int, port: int = 1) -> None:
        self.call(lambda: self.server.introduce(domid, port))

    def stop(self) -> None:
        """Ends it as a kill would: nothing is said to anybody, descriptors close."""

        def stop() -> None:
            raise Stop

        if self._thread.is_alive():
            self._calls.append(stop)
            os.write(self._button, b"x")
            self._thread.join(20)
            assert not self._thread.is_alive()
            self.server.close()
            os.close(self._bell)
            os.close(self._button)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Ends it, and the clients' ends that nobody closed."""
        self.stop()
        for sock in self._opened:
            sock.close()


@contextmanager
def running(hypervisor: Hypervisor | None = None, **options: object) -> Iterator[Running]:
    """Runs a server for the time of a test."""
    server = Running(hypervisor, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()
