"""Laws of births: whatever becomes of a domain meanwhile, its zygote's report is awaited."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from xenlike._core.fds import recv_message
from xenlike.hypervisor.births import REPORT, REQUEST, Zygote


class Played:
    """A zygote that the test plays."""

    def __init__(self) -> None:
        self.sockets: dict[int, socket.socket] = {}
        self.zygote = Zygote(self._new_socket)
        self.zygote.socket, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def _new_socket(self, domid: int) -> socket.socket:
        self.sockets[domid], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return theirs

    def request(self) -> tuple[int, bytes, int]:
        """Takes a request; returns domid, name and how many descriptors came."""
        message, fds = recv_message(self.far, REQUEST.size, 2)
        for fd in fds:
            os.close(fd)
        domid, name = REQUEST.unpack(message)
        return domid, name.rstrip(b"\0"), len(fds)

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()
        self.far.close()
        self.zygote.bury()


def owes(played: Played) -> bool:
    return played.zygote.owes


@pytest.fixture
def played() -> Iterator[Played]:
    played = Played()
    yield played
    played.close()


def test_a_birth_is_owed_until_it_is_reported(played: Played) -> None:
    read_end, write_end = os.pipe()
    played.zygote.ask(5, b"guest", write_end)
    assert played.request() == (5, b"guest", 2)
    assert owes(played)
    played.far.send(REPORT.pack(5, 1234))
    assert played.zygote.hear() == (5, 1234)
    assert not owes(played)
    # Nobody needs where its output goes any more: the domain has it.
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_a_birth_that_was_called_off_is_still_awaited(played: Played) -> None:
    """Its child is there, and has a number that must not be anybody's before it was reported."""
    played.zygote.ask(5, b"guest", -1)
    assert played.request() == (5, b"guest", 1)
    played.zygote.call_off(5)
    assert owes(played)
    played.far.send(REPORT.pack(5, 1234))
    assert played.zygote.hear() == (5, 1234)
    assert not owes(played)


def test_a_dead_zygote_reports_nothing_more(played: Played) -> None:
    played.zygote.ask(5, b"guest", -1)
    played.zygote.call_off(5)
    played.zygote.bury()
    assert not owes(played)
    assert played.zygote.hear() is None
    played.zygote.ask(6, b"guest", -1)
    assert played.zygote.give_up() == [6]
    assert not owes(played)


def test_being_ready_pays_no_debt(played: Played) -> None:
    played.zygote.failures = 2
    played.zygote.ask(5, b"guest", -1)
    played.far.send(REPORT.pack(0, -1))
    assert played.zygote.hear() == (0, -1)
    assert (owes(played), played.zygote.failures) == (True, 0)
    played.far.close()
    assert played.zygote.hear() is None
