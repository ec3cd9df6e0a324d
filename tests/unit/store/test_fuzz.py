"""Whatever bytes arrive, on a socket or in a ring's page: a clean end for that client, and nothing for the others."""

from __future__ import annotations

import logging
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.store.live import Hypervisor, running
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_sync import SyncStore
from xenlike.domain.store_wire import HEADER

# The server outlives the examples, and must.
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

words = st.sampled_from([b"/", b"/a", b"a/b", b"@releaseDomain", b"n0", b"T", b"tok", b"3", b"check", b"\xff"])
payloads = st.lists(words, max_size=4).map(lambda parts: b"".join(part + b"\0" for part in parts)) | st.binary(
    max_size=30
)
kinds = st.integers(0, 24).filter(lambda kind: kind != xs.XS_RELEASE)


@st.composite
def message(draw):
    """A message, more often right than wrong; a wrong length shifts all that follows."""
    payload = draw(payloads)
    length = draw(st.just(len(payload)) | st.integers(0, 5000) | st.integers(0, 2**32 - 1))
    return HEADER.pack(draw(kinds), draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 3)), length) + payload


streams = st.lists(message(), max_size=8).map(b"".join) | st.binary(max_size=100)


@pytest.fixture
def defects(caplog):
    """Fails the test if the daemon had to catch an error of its own."""
    caplog.set_level(logging.ERROR, "xenlike.xenstored")
    yield
    assert not caplog.records


def test_sockets(defects):
    with running() as server, SyncStore(server.connect()) as good:

        @FUZZ
        @given(stream=streams, cut=st.integers(0, 100))
        def fuzz(stream, cut):
            bad = server.connect()
            bad.setblocking(False)
            for part in (stream[:cut], stream[cut:]):
                try:
                    bad.send(part)
                except (BrokenPipeError, ConnectionResetError):
                    pass
            bad.close()
            assert good.read("/tool") == ""

        fuzz()
        server.settle()
        assert len(server.server._sockets) == 1
        assert len(server.server.store.watches) == 0


def test_rings(defects):
    hypervisor = Hypervisor()
    with running(hypervisor) as server, SyncStore(server.connect()) as good:
        page, channel = hypervisor.create(3)
        server.introduce(3)

        @FUZZ
        @given(
            stream=streams,
            offset=st.integers(0, 2**32 - 1),
            indices=st.tuples(*[st.integers(-3, 3) | st.integers(-(2**31), 2**31)] * 3),
            words=st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 2**32 - 1)),
        )
        def fuzz(stream, offset, indices, words):
            data = stream[:1024]
            for at, byte in enumerate(data):
                page[(offset + at) % 1024] = byte
            numbers = (0, len(data) + indices[0], indices[1], indices[2])
            struct.pack_into("<4I", page, 2048, *((offset + number) & 0xFFFFFFFF for number in numbers))
            struct.pack_into("<2I", page, 2068, *words)
            channel.notify()
            assert good.read("/tool") == ""

        fuzz()
        # A reconnection mends whatever it was.
        struct.pack_into("<I", page, 2068, 1)
        channel.notify()
        while struct.unpack_from("<I", page, 2068)[0]:
            channel.wait_sync()
        assert struct.unpack_from("<4I", page, 2048) == (0, 0, 0, 0)
        assert good.is_domain_introduced(3)


def test_a_flood_of_connections_leaves_nothing(defects):
    with running() as server:
        for _ in range(300):
            server.connect().close()
        with SyncStore(server.connect()) as store:
            assert store.ls("/") == ["tool"]
        server.settle()
        assert len(server.server._sockets) <= 1
