"""The resource channel: what a domain needs from outside is opened by the toolstack and handed to it.

A domain opens no image, no socket and no device itself. One message is a JSON object `{"key": …, …}`, with a
descriptor or without; one with `"withdraw": true` takes the resource of that key back.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from xenlike._core.fds import recv_message, send_message

MESSAGE_MAX = 65536
# A domain that lives reads at once.
PATIENCE_S = 5.0


@dataclass(slots=True)
class Resource:
    """A descriptor from the toolstack, if it needs one, and what it says of it. Whoever takes it closes it."""

    fd: int | None
    info: dict[str, object]


class Resources:
    """The domain's end of the channel.

    Args:
        fd: the channel's descriptor, taken over; -1 for a domain without one.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd) if fd >= 0 else None
        self._held: dict[str, Resource] = {}
        self._arrived = trio.Event()
        self._reading = False

    async def get(self, key: str) -> Resource:
        """Takes a resource, waiting until the toolstack has sent it.

        The toolstack sends a device's resource before it writes the device's nodes, so that is no long wait.
        """
        while True:
            self._receive_all()
            if key in self._held:
                await trio.lowlevel.checkpoint()
                return self._held.pop(key)
            await self._more()

    async def run(self) -> None:
        """Takes in what the toolstack sends, and takes back, so that it need not wait; for a task of the domain."""
        while self._socket is not None:
            self._receive_all()
            await self._more()

    async def _more(self) -> None:
        """Waits until there is something to receive, or somebody has received something."""
        if self._reading or self._socket is None:
            await self._arrived.wait()
            return
        self._reading = True
        try:
            await trio.lowlevel.wait_readable(self._socket)
        finally:
            self._reading = False
            self._arrived.set()
            self._arrived = trio.Event()

    def take(self, key: str) -> Resource | None:
        """Takes a resource that has arrived, or returns None."""
        self._receive_all()
        return self._held.pop(key, None)

    def discard(self, key: str) -> None:
        """Closes a resource that nobody has taken, and will not."""
        self._receive_all()
        _discard(self._held.pop(key, None))

    def put(self, key: str, fd: int | None, info: Mapping[str, object]) -> None:
        """Puts a resource here by hand, with a duplicate of its descriptor: how domain 0 serves itself."""
        _discard(self._held.pop(key, None))
        self._held[key] = Resource(None if fd is None else os.dup(fd), dict(info))
        self._arrived.set()
        self._arrived = trio.Event()

    def _receive_all(self) -> None:
        while self._socket is not None:
            try:
                message, fds = recv_message(self._socket, MESSAGE_MAX, 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not message:
                self._socket.close()
                self._socket = None
                return
            info = json.loads(message)
            key = str(info.pop("key"))
            _discard(self._held.pop(key, None))
            if not info.pop("withdraw", False):
                self._held[key] = Resource(fds[0] if fds else None, info)

    def close(self) -> None:
        """Closes the channel and what nobody took."""
        for resource in self._held.values():
            _discard(resource)
        self._held.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _discard(resource: Resource | None) -> None:
    if resource is not None and resource.fd is not None:
        os.close(resource.fd)


class ResourceSender:
    """The toolstack's end of a domain's resource channel."""

    def __init__(self) -> None:
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)

    def child_end(self) -> socket.socket:
        """The domain's end; close it when it was passed on."""
        return self._theirs

    def send(self, key: str, fd: int | None, info: Mapping[str, object]) -> None:
        """Hands over a resource, with a duplicate of its descriptor.

        Raises:
            OSError: the domain is gone, or has left too many unread.
        """
        message = json.dumps({**info, "key": key}).encode()
        send_message(self._socket, message, [] if fd is None else [fd])

    async def deliver(self, key: str, fd: int | None, info: Mapping[str, object]) -> None:
        """As `send`, but waits while the domain has too many unread.

        Raises:
            OSError: the domain is gone.
            TimeoutError: it does not read.
        """
        with trio.move_on_after(PATIENCE_S):
            while True:
                try:
                    self.send(key, fd, info)
                    return
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
        raise TimeoutError(f"the domain has not read what it was sent for {PATIENCE_S} s")

    def withdraw(self, key: str) -> None:
        """Takes back what the domain has not taken yet; silent when the domain is gone."""
        try:
            self._socket.send(json.dumps({"key": key, "withdraw": True}).encode())
        except OSError:
            pass

    def close(self) -> None:
        """Closes both ends that are still here."""
        self._socket.close()
        self._theirs.close()
