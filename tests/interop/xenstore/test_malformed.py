"""The tables of malformed messages are what Xen's own daemon says; how it and ours end a broken conversation."""

from __future__ import annotations

import struct

import pytest

from tests.interop.xenstore.oracle import RUNNING, Oracle, Peer, RingPeer
from tests.unit.store.malformed import CASES, IN_TRANSACTION, NO_TRANSACTION, PRIVILEGED
from tests.unit.store.test_malformed import shown
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import HEADER, frame
from xenlike.errors import ProtocolError

pytestmark = pytest.mark.interop


@pytest.fixture
def oracle(tmp_path):
    oracle = Oracle(tmp_path)
    yield oracle
    oracle.close()


def answer(told: bytes | str) -> bytes:
    """Returns an answer that is no error."""
    assert isinstance(told, bytes), told
    return told


def introduced(oracle: Oracle, tool: Peer) -> RingPeer:
    """Lets there be domain 1, with a home of its own."""
    oracle.create(1)
    tool.send(xs.XS_WRITE, b"/local/domain/1\0")
    tool.send(xs.XS_SET_PERMS, b"/local/domain/1\0n1\0")
    assert tool.send(xs.XS_INTRODUCE, b"1\x001\x005\0") == b"OK\0"
    return oracle.ring(1)


def test_the_table_is_xen_s(oracle):
    tool = oracle.tool()
    guest = introduced(oracle, tool)
    got = []
    for kind, payload, _, _ in CASES:
        number = getattr(xs, f"XS_{kind}")
        answers = [shown(kind, client.send(number, payload)) for client in (tool, guest)]
        got.append((kind, payload, *answers))
    assert got == CASES


def test_foreign_transactions_are_xen_s(oracle):
    tool = oracle.tool()
    guest = introduced(oracle, tool)
    for kind in IN_TRANSACTION + NO_TRANSACTION + PRIVILEGED:
        number = getattr(xs, f"XS_{kind}")
        for payload in (b"", b"\0", b"/a\0", b"garbage"):
            expected = "EINVAL" if kind in NO_TRANSACTION else "ENOENT"
            assert tool.send(number, payload, 77) == expected
            assert guest.send(number, payload, 77) == ("EACCES" if kind in PRIVILEGED else expected)


def test_a_message_too_long_ends_a_socket_and_no_other(oracle):
    tool, other = oracle.tool(), oracle.tool()
    tool.put(HEADER.pack(xs.XS_READ, 1, 0, 4097))
    with pytest.raises(ConnectionError):
        tool.get()
    assert other.send(xs.XS_READ, b"/tool\0") == b""


def test_a_message_too_long_stops_a_ring_with_a_word(oracle):
    tool = oracle.tool()
    guest = introduced(oracle, tool)
    guest.put(HEADER.pack(xs.XS_READ, 1, 0, 4097))
    tool.events()
    assert guest.streams.error == xs.XENSTORE_ERROR_PROTO
    with pytest.raises(ConnectionError):
        guest.get()
    assert tool.send(xs.XS_READ, b"/tool\0") == b""


def test_impossible_indices_stop_a_ring_with_a_word(oracle):
    tool = oracle.tool()
    guest = introduced(oracle, tool)
    struct.pack_into("<I", guest.page, xs.XENSTORE_RING_SIZE * 2 + 4, 5000)
    with pytest.raises((ProtocolError, ConnectionError)):
        guest.put(b"x" * 16)
        guest.get()
    oracle.state(1, RUNNING)
    tool.events()
    tool.events()
    assert guest.streams.error == xs.XENSTORE_ERROR_RINGIDX
    assert tool.send(xs.XS_READ, b"/tool\0") == b""


def test_twenty_requests_are_outstanding_at_most(oracle: Oracle) -> None:
    tool = oracle.tool()
    busy = introduced(oracle, tool)
    oracle.create(2)
    assert tool.send(xs.XS_INTRODUCE, b"2\x001\x005\0") == b"OK\0"
    sleeper = oracle.ring(2)
    tool.send(xs.XS_WRITE, b"/shared\0")
    tool.send(xs.XS_SET_PERMS, b"/shared\0b0\0")
    sleeper.send(xs.XS_WATCH, b"/shared\0" + b"t" * 900 + b"\0")
    for index in range(40):
        busy.put(frame(xs.XS_WRITE, index + 1, 0, b"/shared/%d\0" % index))

    def held() -> bytes:
        return answer(tool.send(xs.XS_CONTROL, b"quota\x001\0"))

    while b"outstanding     :       20" not in held():
        pass
    # And there it stays.
    told = held()
    assert [held() for _ in range(10)] == [told] * 10
