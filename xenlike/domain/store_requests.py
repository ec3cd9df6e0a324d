"""Requests to xenstored as values, and the operations that are made of them.

`Requests` is what a connection and a transaction on it have in common. A `Pipeline` gathers requests
of any kind, to send them in one go: a hundred cost one round trip.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import PAYLOAD_MAX, Perm
from xenlike.errors import NoEntry, StoreDenied, XenstoreError

__all__ = ["Pipeline", "Reply", "Request", "Requests", "Value", "decode_listing", "decode_perms"]

Value = str | bytes | int
"""What a node may be given; numbers are written in decimal."""

Reply = bytes | XenstoreError


class Request(NamedTuple):
    """One message without its ids.

    Args:
        kind: `XS_*`.
        payload: as the wire has it.
        what: the path, for error messages.
    """

    kind: int
    payload: bytes
    what: str


def of_path(kind: int, path: str) -> Request:
    """Returns a request whose payload is a path."""
    return Request(kind, _path(path), path)


def write(path: str, value: Value) -> Request:
    """Returns a WRITE."""
    if isinstance(value, int):
        value = str(int(value))
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    return checked(Request(xs.XS_WRITE, _path(path) + data, path))


def set_perms(path: str, perms: Iterable[Perm | str]) -> Request:
    """Returns a SET_PERMS; permissions may be in the wire's form, such as `r3`."""
    texts = [str(Perm.parse(perm)) if isinstance(perm, str) else str(Perm(*perm)) for perm in perms]
    if not texts:
        raise ValueError(f"permissions of {path}: at least the owner's entry")
    return checked(Request(xs.XS_SET_PERMS, _path(path) + "".join(f"{text}\0" for text in texts).encode(), path))


def domains(kind: int, *numbers: int) -> Request:
    """Returns a request about domains, whose arguments are numbers."""
    return Request(kind, b"".join(b"%d\0" % number for number in numbers), f"d{numbers[0]}")


def checked(request: Request) -> Request:
    """Returns a request that xenstored will not end the connection for.

    Raises:
        XenstoreError: E2BIG.
    """
    if len(request.payload) > PAYLOAD_MAX:
        raise XenstoreError.named("E2BIG", f"{request.what}: {len(request.payload)} bytes, the most is {PAYLOAD_MAX}")
    return request


def _path(path: str) -> bytes:
    if "\0" in path:
        raise ValueError(f"path {path!r} has a NUL")
    return path.encode("utf-8", "surrogateescape") + b"\0"


def decode_perms(reply: bytes) -> list[Perm]:
    """Reads the answer of GET_PERMS."""
    return [Perm.parse(text.decode("ascii")) for text in reply.split(b"\0") if text]


def decode_listing(reply: bytes) -> list[str]:
    """Reads the answer of DIRECTORY."""
    return [name.decode("ascii", "replace") for name in reply.split(b"\0") if name]


def decode_value(reply: bytes) -> str:
    """Reads a value as text; bytes that are no UTF-8 survive as surrogates."""
    return reply.decode("utf-8", "surrogateescape")


def decode_values(replies: Iterable[Reply]) -> list[str | None]:
    """Reads the answers of READs; None for a node that does not exist or may not be read.

    Raises:
        XenstoreError: the first other error.
    """
    values: list[str | None] = []
    for reply in replies:
        if isinstance(reply, bytes):
            values.append(decode_value(reply))
        elif isinstance(reply, NoEntry | StoreDenied):
            values.append(None)
        else:
            raise reply
    return values


def read_part(listing: bytes, reply: bytes) -> tuple[bytes, bytes, bool]:
    """Reads the answer of DIRECTORY_PART.

    Args:
        listing: what earlier parts brought.
        reply: the answer.

    Returns:
        the node's generation, the listing so far, and whether that was all.
    """
    generation, _, part = reply.partition(b"\0")
    done = part == b"\0" or part.endswith(b"\0\0")
    return generation, listing + (part[:-1] if done else part), done


class Requests:
    """Operations on nodes. `tx` makes a request part of a transaction; transactions have the same methods.

    All of them raise `PeerGone` when the connection has ended, and the precise kind of `XenstoreError`
    that the daemon answered. Each is a checkpoint; cancelled, a request may still be carried out.
    """

    async def _send_all(self, requests: list[Request]) -> list[Reply]:
        raise NotImplementedError

    def _as_sender(self, tx: object) -> Requests:
        raise NotImplementedError

    async def _request(self, kind: int, payload: bytes, what: str) -> bytes:
        (reply,) = await self._send_all([Request(kind, payload, what)])
        if not isinstance(reply, bytes):
            raise reply
        return reply

    async def _send_checked(self, requests: list[Request]) -> list[bytes]:
        """Sends requests; raises the first error once all are answered."""
        answers = []
        for reply in await self._send_all(requests):
            if not isinstance(reply, bytes):
                raise reply
            answers.append(reply)
        return answers

    async def read_bytes(self, path: str, tx: object = None) -> bytes:
        """Returns a node's value.

        Raises:
            NoEntry: there is no such node.
            StoreDenied: this domain may not read it.
        """
        return await self._as_sender(tx)._request(*of_path(xs.XS_READ, path))

    async def read(self, path: str, tx: object = None) -> str:
        """Returns a node's value as text; see `read_bytes`."""
        return decode_value(await self.read_bytes(path, tx))

    async def read_many(self, paths: Sequence[str], tx: object = None) -> list[str | None]:
        """Returns the values of several nodes in one round trip.

        A node that does not exist or may not be read is None. A domain that may not read the nodes
        above a missing one is not told which of the two it is.
        """
        requests = [of_path(xs.XS_READ, path) for path in paths]
        return decode_values(await self._as_sender(tx)._send_all(requests))

    async def get(self, path: str, default: str | None = None, tx: object = None) -> str | None:
        """Returns a node's value as text, or the default where there is none."""
        (value,) = await self.read_many([path], tx)
        return default if value is None else value

    async def exists(self, path: str, tx: object = None) -> bool:
        """Says whether there is a node that this domain may read."""
        return (await self.read_many([path], tx))[0] is not None

    async def write(self, path: str, value: Value, tx: object = None) -> None:
        """Writes a node, made with all above it if need be.

        Raises:
            StoreDenied: this domain may not.
            QuotaExceeded: the domain has as many nodes, or as large ones, as it may.
        """
        await self._as_sender(tx)._request(*write(path, value))

    async def write_many(self, nodes: Mapping[str, Value], tx: object = None) -> None:
        """Writes several nodes in order, in one round trip; see `write`.

        Not one transaction: others may see some without the rest, and after an error the other nodes
        are written nevertheless.
        """
        await self._as_sender(tx)._send_checked([write(path, value) for path, value in nodes.items()])

    async def mkdir(self, path: str, tx: object = None) -> None:
        """Makes sure that a node exists; an existing one keeps its value."""
        await self._as_sender(tx)._request(*of_path(xs.XS_MKDIR, path))

    async def rm(self, path: str, tx: object = None) -> None:
        """Makes sure that a node and what is below it do not exist."""
        try:
            await self._as_sender(tx)._request(*of_path(xs.XS_RM, path))
        except NoEntry:
            # Said when not even the parent exists.
            pass

    async def ls(self, path: str, tx: object = None) -> list[str]:
        """Returns the names of a node's children, in the order of their creation.

        Raises:
            NoEntry: there is no such node.
        """
        sender = self._as_sender(tx)
        try:
            return decode_listing(await sender._request(*of_path(xs.XS_DIRECTORY, path)))
        except XenstoreError as error:
            if error.name != "E2BIG":
                raise
        while True:
            listing, first, done = b"", b"", False
            while not done:
                payload = of_path(xs.XS_DIRECTORY_PART, path).payload + b"%d\0" % len(listing)
                reply = await sender._request(xs.XS_DIRECTORY_PART, payload, path)
                generation, listing, done = read_part(listing, reply)
                first = first or generation
                if generation != first:
                    # It changed between two parts.
                    break
            else:
                return decode_listing(listing)

    async def get_perms(self, path: str, tx: object = None) -> list[Perm]:
        """Returns a node's permissions, the owner's entry first."""
        return decode_perms(await self._as_sender(tx)._request(*of_path(xs.XS_GET_PERMS, path)))

    async def set_perms(self, path: str, perms: Iterable[Perm | str], tx: object = None) -> None:
        """Changes a node's permissions; for its owner.

        Raises:
            ValueError: not permissions.
        """
        await self._as_sender(tx)._request(*set_perms(path, perms))

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """Gathers changes in its body and sends them at its end, in order, in one round trip.

        Raises the first error, once all are answered; the others are carried out nevertheless.
        """
        gathered = Pipeline()
        yield gathered
        await self._send_checked(gathered.requests)


class Pipeline:
    """Changes that are not sent yet; made by `Requests.pipeline`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def write(self, path: str, value: Value) -> None:
        """Writes a node, made with all above it if need be."""
        self.requests.append(write(path, value))

    def mkdir(self, path: str) -> None:
        """Makes sure that a node exists."""
        self.requests.append(of_path(xs.XS_MKDIR, path))

    def rm(self, path: str) -> None:
        """Removes a node that exists, or whose parent does, with all below it."""
        self.requests.append(of_path(xs.XS_RM, path))

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Tells xenstored of a new domain. For domain 0."""
        self.requests.append(domains(xs.XS_INTRODUCE, domid, gfn, port))

    def set_quota(self, domid: int, name: str, value: int) -> None:
        """Gives an introduced domain a limit of its own, such as `nodes`. For domain 0."""
        payload = f"quota\0set\0{domid}\0{name}\0{value}\0".encode()
        self.requests.append(Request(xs.XS_CONTROL, payload, f"d{domid}"))

    def set_perms(self, path: str, perms: Iterable[Perm | str]) -> None:
        """Changes a node's permissions."""
        self.requests.append(set_perms(path, perms))
