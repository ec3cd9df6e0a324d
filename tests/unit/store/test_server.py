"""The loop, over real sockets and over rings whose other end the test holds."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from tests.unit.store.live import Hypervisor, running
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_sync import SyncStore
from xenlike.domain.store_wire import FrameReader, frame
from xenlike.errors import PeerGone
from xenlike.ring.stream import XenstoreStreams
from xenlike.xenstored.rules import Quotas


@pytest.fixture
def server():
    with running() as server:
        yield server


# --- sockets ---


def test_a_script_reads_what_it_wrote(server):
    with SyncStore(server.connect()) as store:
        store.write("/a/b", "text")
        store.write("/a/n", 5)
        store.write("/a/bin", b"\0\xff")
        assert (store.read("/a/b"), store.read("/a/n"), store.read_bytes("/a/bin")) == ("text", "5", b"\0\xff")
        assert store.ls("/a") == ["b", "n", "bin"]
        assert list(store.walk("/a")) == [("/a", b""), ("/a/b", b"text"), ("/a/n", b"5"), ("/a/bin", b"\0\xff")]
        store.rm("/a")
        assert not store.exists("/a")
        assert store.get("/a", "none") == "none"
        store.rm("/a/b/c/d")
        with pytest.raises(KeyError):
            store.read("/a")


def test_a_script_sees_watches_that_came_with_answers(server):
    with SyncStore(server.connect()) as store, SyncStore(server.connect()) as other:
        store.watch("/a", "tok")
        assert store.wait_event(20) == ("/a", "tok")
        assert store.wait_event(0) is None
        other.write("/a/b", "1")
        assert store.wait_event(20) == ("/a/b", "tok")
        store.unwatch("/a", "tok")
        other.write("/a/b", "2")
        assert store.wait_event(0) is None


def test_a_script_repeats_its_transaction(server):
    with SyncStore(server.connect()) as store, SyncStore(server.connect()) as other:
        store.write("/n", 0)
        attempts = []

        def add(tx):
            attempts.append(1)
            number = int(tx.read("/n"))
            if len(attempts) < 3:
                other.write("/n", number + 10)
            tx.write("/n", number + 1)
            return number + 1

        assert store.transact(add) == 21
        assert len(attempts) == 3
        assert other.read("/n") == "21"
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:
            tx.write("/n", 99)
            raise ZeroDivisionError
        assert store.read("/n") == "21"


def test_messages_may_come_in_any_pieces(server):
    sock = server.connect()
    for byte in frame(xs.XS_WRITE, 1, 0, b"/a\0x") + frame(xs.XS_READ, 2, 0, b"/a\0"):
        sock.send(bytes([byte]))
    assert receive(sock, 2) == [(xs.XS_WRITE, 1, 0, b"OK\0"), (xs.XS_READ, 2, 0, b"x")]


def receive(sock: socket.socket, count: int) -> list[tuple[int, int, int, bytes]]:
    sock.settimeout(20)
    reader = FrameReader()
    messages: list[tuple[int, int, int, bytes]] = []
    while len(messages) < count:
        message = reader.take()
        if message is None:
            data = sock.recv(65536)
            assert data, "closed"
            reader.feed(data)
        else:
            messages.append(message)
    return messages


@pytest.mark.parametrize(
    "garbage", [struct.pack("<4I", xs.XS_READ, 1, 0, 4097), b"\xff" * 16, struct.pack("<4I", 0, 0, 0, 1 << 31)]
)
def test_a_message_too_long_ends_that_connection_and_no_other(server, garbage):
    with SyncStore(server.connect()) as good:
        bad = server.connect()
        bad.send(frame(xs.XS_WRITE, 1, 0, b"/before\0") + garbage)
        bad.settimeout(20)
        received = b""
        while data := bad.recv(4096):
            received += data
        assert good.read("/before") == ""
        assert good.ls("/") == ["tool", "before"]


def test_a_client_that_leaves_takes_its_watches_and_transactions_along(server):
    with SyncStore(server.connect()) as store:
        other = SyncStore(server.connect())
        other.watch("/a")
        with pytest.raises(PeerGone), other.transaction() as tx:
            tx.write("/a", "1")
            other.close()
        store.write("/a", "2")
        server.settle()
        assert len(server.server.store.watches) == 0
        assert len(server.server._sockets) == 1


def test_what_was_asked_before_leaving_is_done(server):
    with SyncStore(server.connect()) as store:
        store.watch("/last")
        store.wait_event(20)
        sock = server.connect()
        sock.send(b"".join(frame(xs.XS_WRITE, index, 0, b"/last\0%d" % index) for index in range(200)))
        sock.shutdown(socket.SHUT_WR)
        assert len(receive(sock, 200)) == 200
        assert sock.recv(1) == b""
        assert store.read("/last") == "199"


def test_a_client_that_does_not_read_is_not_read_from(server):
    with SyncStore(server.connect()) as store:
        store.write("/big", b"x" * 4000)
        lazy = server.connect()
        lazy.setblocking(False)
        asked = 0
        request = frame(xs.XS_READ, 1, 0, b"/big\0")
        try:
            while asked < 100_000:
                lazy.send(request)
                asked += 1
        except BlockingIOError:
            pass
        assert asked < 100_000
        # Others are served meanwhile, and the daemon holds little for it.
        assert store.read("/tool") == ""
        while not (paused := [c for c in server.server._sockets if c.paused]):
            server.settle()
        (connection,) = paused
        assert connection.backlog < 1 << 20
        assert len(receive(lazy, asked)) == asked
        lazy.setblocking(True)
        lazy.send(frame(xs.XS_READ, 2, 0, b"/tool\0"))
        assert receive(lazy, 1) == [(xs.XS_READ, 2, 0, b"")]


def test_a_client_that_lets_events_pile_up_is_dropped(server):
    lazy = server.connect()
    lazy.send(frame(xs.XS_WATCH, 1, 0, b"/\0t\0"))
    receive(lazy, 2)
    with SyncStore(server.connect()) as store:
        for index in range(15000):
            store.write(f"/flood/{index % 5000}/{'y' * 200}{index}", "")
            if index % 100 == 0 and len(server.server._sockets) == 1:
                break
        assert len(server.server._sockets) == 1
        assert store.read("/tool") == ""


def test_a_busy_client_does_not_keep_another_waiting(server):
    busy = server.connect()
    busy.setblocking(False)
    requests = frame(xs.XS_READ, 1, 0, b"/tool\0") * 1000
    sent = busy.send(requests)
    with SyncStore(server.connect()) as store:
        assert store.read("/tool") == ""
    assert sent % 22 or sent // 22 == len(receive(busy, sent // 22))


def test_nothing_runs_while_nobody_asks(server):
    with SyncStore(server.connect()) as store:
        store.watch("/a")
        store.wait_event(20)
        turns = []
        original = server.server._end_turn

        def count():
            turns.append(1)
            original()

        server.server._end_turn = count
        server.settle()
        before = len(turns)
        store.read("/tool")
        server.settle()
        # One turn for the request, one for each call.
        assert len(turns) - before <= 4


def test_the_listener_asks_whether_a_process_may(server, tmp_path):
    asked = []

    def admits(pid):
        asked.append(pid)
        return len(asked) > 1

    path = tmp_path / "socket"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    server.call(lambda: server.server.listen(sock, admits))
    with SyncStore(path) as refused, pytest.raises(PeerGone):
        refused.read("/tool")
    with SyncStore(path) as store:
        assert store.read("/tool") == ""
    assert asked == [os.getpid()] * 2


def test_the_log_is_compacted_on_the_way():
    log = os.memfd_create("log")
    try:
        with running(log_fd=log) as first, SyncStore(first.connect()) as store:
            for number in range(600):
                store.write(f"/n/{number % 7}", f"{number} " * 900)
        assert os.fstat(log).st_size > 1 << 20 > os.fstat(log).st_blocks * 512
        with running(log_fd=log) as second, SyncStore(second.connect()) as store:
            assert store.ls("/n") == [str(number) for number in range(7)]
            for number in range(593, 600):
                assert store.read(f"/n/{number % 7}") == f"{number} " * 900
    finally:
        os.close(log)


# --- rings ---


class Guest:
    """A domain that speaks the wire by hand."""

    def __init__(self, hypervisor: Hypervisor, domid: int) -> None:
        self.page, self.channel = hypervisor.create(domid)
        self.streams = XenstoreStreams(self.page)
        self._reader = FrameReader()

    def ask(self, kind: int, payload: bytes, req_id: int = 1, tx: int = 0) -> tuple[int, int, int, bytes]:
        self.send(frame(kind, req_id, tx, payload))
        return self.receive()

    def send(self, data: bytes) -> None:
        while data:
            data = data[self.streams.requests.write(data) :]
            if self.streams.kick():
                self.channel.notify()
            if data:
                self.channel.wait_sync()

    def receive(self) -> tuple[int, int, int, bytes]:
        while (message := self._reader.take()) is None:
            data = self.streams.responses.read()
            if self.streams.kick():
                self.channel.notify()
            if data:
                self._reader.feed(data)
            else:
                self.channel.wait_sync()
        return message

    def reconnect(self) -> None:
        self.streams.connection = 1
        self.channel.notify()
        while self.streams.connection:
            self.channel.wait_sync()
        self._reader.clear()
        self.streams.close()
        self.streams = XenstoreStreams(self.page)


@pytest.fixture
def hypervisor():
    return Hypervisor()


@pytest.fixture
def machine(hypervisor):
    with running(hypervisor) as machine:
        yield machine


def test_a_domain_is_served_on_its_ring(hypervisor, machine):
    guest = Guest(hypervisor, 3)
    with SyncStore(machine.connect()) as dom0:
        dom0.write("/local/domain/3/name", "web")
        dom0.set_perms("/local/domain/3/name", ["n0"])
        dom0.set_perms("/local/domain/3", ["n0", "r3"])
        machine.introduce(3)
        assert guest.streams.server_features == 3
        assert guest.ask(xs.XS_READ, b"name\0")[0] == xs.XS_ERROR
        dom0.set_perms("/local/domain/3/name", ["n0", "r3"])
        assert guest.ask(xs.XS_READ, b"name\0", 7) == (xs.XS_READ, 7, 0, b"web")


def test_a_request_from_before_the_introduction_is_answered(hypervisor, machine):
    guest = Guest(hypervisor, 3)
    guest.send(frame(xs.XS_GET_DOMAIN_PATH, 1, 0, b"3\0"))
    machine.introduce(3)
    assert guest.receive()[3] == b"/local/domain/3\0"


def test_messages_larger_than_the_ring_pass_both_ways(hypervisor, machine):
    with SyncStore(machine.connect()) as dom0:
        dom0.write("/big", b"v" * 4000)
        dom0.set_perms("/big", ["b0"])
        guest = Guest(hypervisor, 3)
        machine.introduce(3)
        assert guest.ask(xs.XS_READ, b"/big\0")[3] == b"v" * 4000
        # Too large for its quota, and understood as such.
        assert guest.ask(xs.XS_WRITE, b"/big\0" + b"w" * 4000)[3] == b"ENOSPC\0"


def test_indices_may_begin_anywhere(hypervisor, machine):
    guest = Guest(hypervisor, 3)
    struct.pack_into("<4I", guest.page, 2048, *([2**32 - 5] * 4))
    guest.streams = XenstoreStreams(guest.page)
    machine.introduce(3)
    for index in range(10):
        assert guest.ask(xs.XS_GET_DOMAIN_PATH, b"3\0", index)[1] == index


@pytest.mark.parametrize(
    ("at", "value"), [(2052, 5000), (2048, 500), (2056, 1 << 31)], ids=["req_prod", "req_cons", "rsp_cons"]
)
def test_impossible_indices_stop_that_ring_until_it_reconnects(hypervisor, machine, at, value):
    guest, other = Guest(hypervisor, 3), Guest(hypervisor, 4)
    machine.introduce(3)
    machine.introduce(4, 2)
    guest.ask(xs.XS_WATCH, b"/local\0t\0")
    guest.receive()
    struct.pack_into("<I", guest.page, at, value)
    if at == 2056:
        guest.streams.requests.write(frame(xs.XS_GET_DOMAIN_PATH, 1, 0, b"3\0"))
    guest.channel.notify()
    while not guest.streams.error:
        guest.channel.wait_sync()
    assert guest.streams.error == xs.XENSTORE_ERROR_RINGIDX
    assert other.ask(xs.XS_GET_DOMAIN_PATH, b"4\0")[3] == b"/local/domain/4\0"
    assert len(machine.server.store.watches) == 0
    guest.reconnect()
    assert guest.streams.error == 0
    assert guest.ask(xs.XS_GET_DOMAIN_PATH, b"3\0")[3] == b"/local/domain/3\0"


def test_a_message_too_long_stops_that_ring(hypervisor, machine):
    guest = Guest(hypervisor, 3)
    machine.introduce(3)
    guest.send(struct.pack("<4I", xs.XS_READ, 1, 0, 5000))
    while not guest.streams.error:
        guest.channel.wait_sync()
    assert guest.streams.error == xs.XENSTORE_ERROR_PROTO
    guest.reconnect()
    assert guest.ask(xs.XS_GET_DOMAIN_PATH, b"3\0")[3] == b"/local/domain/3\0"


def test_a_reconnection_drops_everything_half_done(hypervisor, machine):
    guest = Guest(hypervisor, 3)
    machine.introduce(3)
    guest.ask(xs.XS_WATCH, b"x\0t\0")
    guest.receive()
    tx = guest.ask(xs.XS_TRANSACTION_START, b"\0")[3]
    guest.send(frame(xs.XS_WRITE, 1, 0, b"x\0value")[:20])
    guest.reconnect()
    assert guest.ask(xs.XS_TRANSACTION_END, b"T\0", tx=int(tx[:-1]))[3] == b"ENOENT\0"
    assert len(machine.server.store.watches) == 0


def test_a_dead_domain_is_let_go_of(hypervisor, machine):
    guest = Guest(hypervisor, 3)
    with SyncStore(machine.connect()) as dom0:
        machine.introduce(3)
        dom0.watch("@releaseDomain")
        dom0.wait_event(20)
        guest.channel.close()
        assert dom0.is_domain_introduced(3)
        machine.call(lambda: machine.server.store.mourn({}.get))
        assert dom0.wait_event(20) == ("@releaseDomain", "watch")
        assert not dom0.is_domain_introduced(3)
    assert hypervisor.unmapped == [3]


def test_introducing_again_takes_another_port(hypervisor, machine):
    guest = Guest(hypervisor, 3)
    machine.introduce(3)
    guest.channel = hypervisor.renew(3)
    machine.introduce(3, 9)
    guest.streams = XenstoreStreams(guest.page)
    assert guest.ask(xs.XS_GET_DOMAIN_PATH, b"3\0")[3] == b"/local/domain/3\0"


def test_a_domain_that_cannot_be_attached_is_refused(hypervisor, machine):
    sock = machine.connect()
    sock.send(frame(xs.XS_INTRODUCE, 1, 0, b"9\x000\x001\0"))
    assert receive(sock, 1)[0][3] == b"EACCES\0"


def test_after_a_restart_a_ring_is_left_alone_until_its_domain_reconnects(hypervisor):
    log = os.memfd_create("log")
    try:
        guest = Guest(hypervisor, 3)
        with running(hypervisor, log_fd=log) as first:
            first.introduce(3)
            with SyncStore(first.connect()) as dom0:
                dom0.write("/shared", "kept")
                dom0.set_perms("/shared", ["b0"])
            assert guest.ask(xs.XS_WRITE, b"/shared\0by the guest")[3] == b"OK\0"
            assert guest.ask(xs.XS_WATCH, b"/shared\0t\0")[0] == xs.XS_WATCH
            guest.receive()
        guest.channel.drain()
        assert guest.channel.hung_up
        guest.channel = hypervisor.renew(3)
        with running(hypervisor, log_fd=log) as second:
            # Half a request, and an event: neither means anything any more.
            guest.streams.requests.write(b"\1\2\3")
            guest.channel.notify()
            with SyncStore(second.connect()) as dom0:
                assert dom0.is_domain_introduced(3)
                assert dom0.read("/shared") == "by the guest"
                dom0.write("/shared", "changed")
            assert guest.streams.responses.available == 0
            guest.reconnect()
            assert guest.ask(xs.XS_READ, b"/shared\0")[3] == b"changed"
    finally:
        os.close(log)


def test_a_domain_with_twenty_requests_outstanding_waits_for_those_it_told(hypervisor, machine):
    """A domain cannot bury another one, which does not read its events, under them."""
    sleeper, busy = Guest(hypervisor, 3), Guest(hypervisor, 4)
    machine.introduce(3)
    machine.introduce(4)
    with SyncStore(machine.connect()) as dom0:
        dom0.write("/shared", "")
        dom0.set_perms("/shared", ["b0"])
    # Events large enough that few of them fill a ring.
    sleeper.ask(xs.XS_WATCH, b"/shared\0" + b"t" * 900 + b"\0")
    for index in range(40):
        busy.send(frame(xs.XS_WRITE, index + 1, 0, b"/shared/%d\0" % index))
    machine.settle()
    session = machine.server.store.domains[4].session
    assert session.outstanding == 20
    # Everybody else goes on.
    with SyncStore(machine.connect()) as dom0:
        assert dom0.read("/shared/0") == ""
    told = {sleeper.receive()[3].partition(b"\0")[0] for _ in range(41)}
    assert told == {b"/shared"} | {b"/shared/%d" % index for index in range(40)}
    assert [busy.receive()[1] for _ in range(40)] == list(range(1, 41))
    machine.settle()
    assert session.outstanding == 0


def test_a_domain_without_memory_is_served_again_when_it_has_some(hypervisor):
    with running(hypervisor, quotas=Quotas(memory=3000)) as machine:
        guest = Guest(hypervisor, 3)
        machine.introduce(3)
        with SyncStore(machine.connect()) as dom0:
            dom0.write("/theirs", b"v" * 2900)
            dom0.set_perms("/theirs", ["n3"])
            assert guest.ask(xs.XS_READ, b"/theirs\0")[3] == b"ENOMEM\0"
            with dom0.transaction() as tx:
                # What commits is no longer asked about.
                tx.write("/more", b"v" * 200)
                tx.set_perms("/more", ["n3"])
            guest.send(frame(xs.XS_GET_DOMAIN_PATH, 2, 0, b"3\0"))
            machine.settle()
            assert guest.streams.responses.read() == b""
            dom0.rm("/more")
            dom0.rm("/theirs")
        assert guest.receive()[1] == 2
