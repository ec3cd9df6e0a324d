"""The handshake against a peer that plays: any order, any omission, anything in its nodes."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.backends.echo import EchoBack
from xenlike.errors import Conflict, GrantBusy, PeerGone, ProtocolError
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import ECHO, EchoRequest, EchoResponse
from xenlike.testing import Loopback, MockBackend, MockFrontend
from xenlike.testing.fakestore import FakeAhead, FakeStore, FakeWatch
from xenlike.xenbus import XenbusState as S


@pytest.fixture
async def against_backend():
    """A mock frontend, and a real backend."""
    async with Loopback() as machine:
        guest = await machine.add_domain("mock", buses=False)
        yield MockFrontend(machine, machine.plug("echo", guest=guest))


@pytest.fixture
async def against_frontend():
    """A mock backend, and a real frontend."""
    async with Loopback() as machine:
        driver = await machine.add_domain("mock", buses=False)
        yield MockBackend(machine, machine.plug("echo", driver=driver))


async def answer(ring, index, **members):
    """Answers the request at an index, as an honest backend."""
    request = EchoRequest.unpack(ring.read(index, EchoRequest.__layout__.size))
    ring.write(index, EchoResponse(id=request.id, **members).pack())
    ring.rsp_prod = index + 1
    ring.channel.notify()


async def wait_for_request(ring, index):
    while ring.req_prod != index + 1:
        await trio.lowlevel.checkpoint()


def error_of(peer):
    """What the other half wrote to its error node, or None."""
    home = "/".join(peer.otherend.split("/")[:4])
    nodename = peer.otherend.removeprefix(f"{home}/")
    return peer.machine.tree.nodes.get(f"{home}/error/{nodename}/error")


# An honest peer.


async def test_a_frontend_waits_for_each_step(against_frontend):
    peer = against_frontend
    await wait_all_tasks_blocked()
    assert peer.heard() is S.Initialising
    await peer.say(S.Initialising)
    await wait_all_tasks_blocked()
    assert peer.heard() is S.Initialising
    ring = await peer.connect(ECHO)
    assert peer.node("protocol") == "x86_64-abi"
    frontend = peer.device.frontend
    async with trio.open_nursery() as nursery:
        nursery.start_soon(frontend.upper, b"x")
        await wait_for_request(ring, 0)
        await answer(ring, 0)


@pytest.fixture
def busy_pages(monkeypatch):
    """Has a frontend's pages mapped by a backend of before, for so many attempts to set up."""
    attempts = [0]

    async def setup(self):
        attempts[0] -= 1
        if attempts[0] >= 0:
            raise GrantBusy(errno.EBUSY, "still mapped")

    monkeypatch.setattr(EchoFront, "setup", setup)
    monkeypatch.setattr("xenlike.xenbus.frontend.BUSY_FIRST_S", 0.0)
    return attempts


async def test_a_frontend_waits_for_pages_that_are_about_to_come_back(against_frontend, busy_pages):
    busy_pages[0] = 3
    await against_frontend.connect(ECHO)
    assert error_of(against_frontend) is None


async def test_a_frontend_gives_up_on_pages_that_never_come_back(against_frontend, busy_pages):
    busy_pages[0] = 1000
    await against_frontend.say(S.InitWait)
    while error_of(against_frontend) is None:
        await trio.lowlevel.checkpoint()
    assert "still mapped" in error_of(against_frontend)


async def test_a_backend_serves_a_ring_that_begins_near_the_wrap(against_backend):
    peer = against_backend
    first = (1 << 32) - 3
    ring = await peer.connect(ECHO, first=first)
    window = peer.domain.memory.alloc(peer.device.back.domid, 1)
    gref = peer.domain.grants.grant(window.pfn, peer.device.back.domid)
    for number in range(6):
        window.buffer[:5] = b"hello"
        ring.write(first + number, EchoRequest(id=number, gref=gref, size=5).pack())
        ring.req_prod = first + number + 1
        ring.channel.notify()
        while ring.rsp_prod != ring.req_prod:
            await trio.lowlevel.checkpoint()
        response = EchoResponse.unpack(ring.read(first + number, EchoResponse.__layout__.size))
        assert (response.id, response.status, response.size) == (number, 0, 5)
        assert bytes(window.buffer[:5]) == b"HELLO"


async def test_features_are_there_before_init_wait(against_backend):
    await against_backend.hear(S.InitWait)
    history = [path.rpartition("/")[2] for path, _ in against_backend.machine.tree.history]
    assert history.index("max-size") < len(history) - 1 - history[::-1].index("state")
    assert against_backend.node("ring-layout") == "xen cacheline"
    assert against_backend.node("max-ring-page-order") == "4"


# States skipped, repeated, early.


async def test_a_backend_that_skips_init_wait(against_frontend):
    peer = against_frontend
    await peer.say(S.Connected)
    await peer.hear(S.Initialised, S.Connected)
    await peer.hear(S.Connected)


async def test_a_frontend_that_is_early(against_backend):
    peer = against_backend
    ring, nodes = peer.share_ring(ECHO)
    await peer.say(S.Initialised, nodes)  # before the backend has offered anything
    await peer.hear(S.Connected)
    assert ring.rsp_prod == 0


async def test_a_frontend_that_skips_initialised(against_backend):
    peer = against_backend
    await peer.hear(S.InitWait)
    _, nodes = peer.share_ring(ECHO)
    await peer.say(S.Connected, nodes)
    await peer.hear(S.Connected)


async def test_repeated_states_change_nothing(against_frontend):
    peer = against_frontend
    await peer.connect(ECHO)
    port = peer.node("event-channel")
    for state in (S.Connected, S.Connected):
        await peer.say(state)
        await wait_all_tasks_blocked()
    assert peer.heard() is S.Connected
    assert peer.node("event-channel") == port


async def test_a_frontend_that_begins_again_gets_a_fresh_connection(against_backend):
    peer = against_backend
    for _ in range(3):
        await peer.connect(ECHO)
        await peer.say(S.Initialising)
    await peer.hear(S.InitWait)


async def test_a_frontend_that_closes_and_comes_back(against_backend):
    peer = against_backend
    await peer.connect(ECHO)
    await peer.say(S.Closing)
    await peer.hear(S.Closing)
    await wait_all_tasks_blocked()
    assert peer.heard() is S.Closing  # until the frontend is Closed
    assert peer.domain.memory.windows[0x800000].mapped == 1
    await peer.say(S.Closed)
    await peer.hear(S.Closed)
    assert peer.domain.memory.windows[0x800000].mapped == 0
    await peer.say(S.Initialising)
    await peer.connect(ECHO)


async def test_a_frontend_that_never_answers_leaves_the_backend_waiting(against_backend):
    peer = against_backend
    await peer.hear(S.InitWait)
    await wait_all_tasks_blocked()
    assert peer.heard() is S.InitWait


async def test_a_backend_that_closes_before_it_ever_connected(against_frontend):
    peer = against_frontend
    await peer.say(S.InitWait)
    await peer.hear(S.Initialised)
    await peer.say(S.Closing)
    await peer.hear(S.Closed)
    await peer.say(S.Closed)
    await wait_all_tasks_blocked()
    assert peer.device.front.memory.windows == {}
    assert peer.device.front.grants.entries == {}


async def test_a_resize_is_told_once_a_node_changed(against_frontend, monkeypatch):
    peer, sizes = against_frontend, []

    async def resize(self):
        sizes.append(self.max_size)

    monkeypatch.setattr(EchoFront, "resize", resize)
    await peer.connect(ECHO, {"max-size": "100"})
    await peer.say(S.Connected)
    await wait_all_tasks_blocked()
    await peer.say(S.Connected, {"max-size": "200"})
    await wait_all_tasks_blocked()
    assert sizes == [200]


# What a hostile peer writes.


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ({"max-size": "65536"}, "max-size"),
        ({"max-size": "-1"}, "max-size"),
        ({"max-size": "much"}, "decimal"),
        ({"max-ring-page-order": "x" * 2000}, "decimal"),
        ({"max-ring-page-order": "99999999999999999999999"}, "decimal"),
    ],
)
async def test_nonsense_from_a_backend_closes_the_frontend(against_frontend, nodes, complaint):
    peer = against_frontend
    await peer.say(S.InitWait, nodes)
    await peer.hear(S.Closing)
    assert complaint in (error_of(peer) or "")
    with pytest.raises(ProtocolError, match=complaint):
        await peer.device.frontend.wait_connected()
    await peer.say(S.Closing)
    await peer.hear(S.Closed)


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ({"ring-ref": ""}, "ring-ref is missing"),
        ({"ring-ref": "4294967296"}, "ring-ref"),
        ({"ring-ref": "7"}, "grant 7"),
        ({"ring-ref": "0"}, "grant 0"),
        ({"event-channel": "4000"}, "bind_interdomain"),
        ({"event-channel": "-3"}, "event-channel"),
        ({"protocol": "arm-abi"}, "protocol"),
        ({"ring-layout": "tag"}, "ring-layout"),
        ({"ring-page-order": "5"}, "ring-page-order"),
        ({"ring-page-order": "1"}, "ring-ref0"),
        ({"ring-page-order": "1", "ring-ref0": "8", "ring-ref1": "8"}, "not consecutive"),
    ],
)
async def test_nonsense_from_a_frontend_closes_the_backend(against_backend, nodes, complaint):
    peer = against_backend
    await peer.hear(S.InitWait)
    _, ours = peer.share_ring(ECHO)
    await peer.say(S.Initialised, ours | nodes)
    await peer.hear(S.Closing)
    assert complaint in (error_of(peer) or "")
    assert not peer.device.back.grants.mappings
    # It may mend its ways: closed, it can begin again.
    await peer.say(S.Closed)
    await peer.hear(S.Closed)
    for name in nodes:
        peer.machine.tree.remove(f"{peer.path}/{name}")
    await peer.say(S.Initialising)
    await peer.connect(ECHO)


@pytest.mark.parametrize("text", ["9", "connected", "-1", "44"])
async def test_a_state_that_is_none(against_frontend, text):
    peer = against_frontend
    await peer.connect(ECHO)
    await peer.say(text)
    await peer.hear(S.Closing)
    assert "is not a xenbus state" in (error_of(peer) or "")
    await peer.say("no state either")
    await wait_all_tasks_blocked()
    assert peer.heard() is S.Closing
    await peer.say(S.Closed)
    await peer.hear(S.Closed)


async def test_a_backend_with_a_broken_ring_is_given_up(against_frontend):
    peer = against_frontend
    ring = await peer.connect(ECHO)
    async with trio.open_nursery() as nursery:

        async def ask():
            with pytest.raises(ProtocolError, match="rsp_prod"):
                await peer.device.frontend.upper(b"x")

        nursery.start_soon(ask)
        await wait_for_request(ring, 0)
        ring.rsp_prod = 2
        ring.channel.notify()
    await peer.hear(S.Closing)
    with pytest.raises(ProtocolError):
        await peer.device.frontend.upper(b"x")


async def test_a_frontend_with_a_broken_ring_is_given_up(against_backend):
    peer = against_backend
    ring = await peer.connect(ECHO)
    ring.req_prod = 4000
    ring.channel.notify()
    await peer.hear(S.Closing)
    assert "req_prod" in (error_of(peer) or "")
    assert not peer.device.back.grants.mappings
    await peer.say(S.Closed)
    await peer.hear(S.Closed)


async def test_a_hang_up_that_comes_with_the_last_word_does_not_hide_it(against_backend, monkeypatch):
    peer = against_backend
    await peer.connect(ECHO)
    for name, value in (("online", "0"), ("state", "5")):
        peer.machine.tree.write(f"{peer.otherend}/{name}", value)
    await wait_all_tasks_blocked()
    backend = peer.device.backend
    assert backend.state is S.Closing
    # Both are there before the control task looks once.
    monkeypatch.setattr(type(backend._bell), "ring", lambda bell: None)
    peer.machine.tree.write(f"{peer.path}/state", str(int(S.Closed)))
    await wait_all_tasks_blocked()
    monkeypatch.undo()
    backend._fail(PeerGone("it hung up"))
    await peer.hear(S.Closed)


async def test_a_page_that_was_not_granted(against_backend):
    peer = against_backend
    ring = await peer.connect(ECHO)
    ring.write(0, EchoRequest(id=1, gref=4000, size=5).pack())
    ring.req_prod = 1
    ring.channel.notify()
    await peer.hear(S.Closing)
    assert "grant 4000" in (error_of(peer) or "")


async def test_a_request_that_is_too_long_is_refused_and_nothing_else(against_backend):
    peer = against_backend
    ring = await peer.connect(ECHO)
    ring.write(0, EchoRequest(id=1, gref=4000, size=4097).pack())
    ring.req_prod = 1
    ring.channel.notify()
    while ring.rsp_prod != 1:
        await trio.lowlevel.checkpoint()
    assert EchoResponse.unpack(ring.read(0, EchoResponse.__layout__.size)).status == -1
    assert peer.heard() is S.Connected


# What is sent ahead.


@pytest.mark.parametrize("half", ["frontend", "backend"])
async def test_a_state_that_changed_behind_the_first_event_is_seen(monkeypatch, half):
    """The daemon may make one event of a watch's registration and of a change that follows the first look."""
    async with Loopback() as machine:
        quiet = await machine.add_domain("mock", buses=False)
        real, wait = FakeStore.read_many, FakeWatch.__anext__
        ready = trio.Event()

        async def read_many(self, paths, tx=None):
            values = await real(self, paths, tx)
            for path, value in zip(paths, values, strict=True):
                if path == f"{peer.path}/state" and not ready.is_set():
                    assert value != str(int(change["state"]))
                    for name, text in change.items():
                        machine.tree.write(f"{peer.path}/{name}", text)
                    ready.set()
            return values

        async def late(self):
            if self.path == f"{peer.path}/state":
                await ready.wait()
            return await wait(self)

        monkeypatch.setattr(FakeStore, "read_many", read_many)
        monkeypatch.setattr(FakeWatch, "__anext__", late)
        change: dict[str, str]
        peer: MockBackend | MockFrontend
        if half == "frontend":
            peer = MockBackend(machine, machine.plug("echo", driver=quiet))
            change = {"state": str(int(S.InitWait))}
            await peer.hear(S.Initialised)
        else:
            peer = front = MockFrontend(machine, machine.plug("echo", guest=quiet))
            change = {**front.share_ring(ECHO)[1], "state": str(int(S.Initialised))}
            await peer.hear(S.Connected)
        assert ready.is_set()


@pytest.mark.parametrize("obstacle", ["every commit conflicts", "there is no room for one", "it is refused"])
async def test_devices_connect_without_transactions_that_were_begun_ahead(monkeypatch, obstacle):
    async def conflict(self, nodes):
        raise Conflict("EAGAIN", "transaction")

    async def refuse(self, paths):
        raise Conflict("EAGAIN", "the store was restarted in mid-transaction")

    if obstacle == "every commit conflicts":
        monkeypatch.setattr(FakeAhead, "commit", conflict)
    elif obstacle == "there is no room for one":
        monkeypatch.setattr(FakeStore, "begin", lambda self: None)
    else:
        monkeypatch.setattr(FakeAhead, "capture", refuse)
    async with Loopback() as machine:
        device = await machine.attach("echo")
        assert await device.frontend.upper(b"x") == b"X"
        await machine.detach(device)


async def test_what_was_begun_ahead_is_ended_whatever_comes(monkeypatch):
    begun, ended = [], []
    real_begin, real_commit, real_discard = FakeStore.begin, FakeAhead.commit, FakeAhead.discard

    def begin(self):
        begun.append(real_begin(self))
        return begun[-1]

    async def commit(self, nodes):
        ended.append(self)
        await real_commit(self, nodes)

    def discard(self):
        ended.append(self)
        real_discard(self)

    monkeypatch.setattr(FakeStore, "begin", begin)
    monkeypatch.setattr(FakeAhead, "commit", commit)
    monkeypatch.setattr(FakeAhead, "discard", discard)
    async with Loopback() as machine:
        for number in range(3):
            device = await machine.attach("echo", number)
            await machine.detach(device)
        other = await machine.attach("echo")
        await machine.kill(machine.driver)
        await wait_all_tasks_blocked()
        assert not other.frontend.connected
        assert begun
        assert set(begun) == set(ended)


# Errors of our own.


async def test_a_driver_that_fails_takes_only_its_device(monkeypatch):
    async def handle(self, request):
        if self.id == "0":
            raise ZeroDivisionError("a bug")
        return await real(self, request)

    real = EchoBack.handle
    monkeypatch.setattr(EchoBack, "handle", handle)
    async with Loopback() as machine:
        bad, good = await machine.attach("echo", 0), await machine.attach("echo", 1)
        bad.frontend.on_peer_gone = "fail"
        with pytest.raises(PeerGone):
            await bad.frontend.upper(b"x")
        assert await good.frontend.upper(b"still here") == b"STILL HERE"
        await bad.wait_states(S.Closed, S.Closed)
        assert "ZeroDivisionError: a bug" in machine.tree.nodes["/local/domain/1/error/backend/echo/2/0/error"]


@pytest.mark.parametrize("hook", ["setup", "connect", "disconnect"])
@pytest.mark.parametrize("half", [EchoFront, EchoBack])
async def test_a_hook_that_fails_takes_only_its_device(monkeypatch, half, hook):
    real, calls = getattr(half, hook), []

    async def failing(self):
        calls.append(self.id)
        if self.id == "0":
            raise OSError(errno.EIO, "a bad day")
        return await real(self)

    monkeypatch.setattr(half, hook, failing)
    async with Loopback() as machine:
        bad = machine.plug("echo", 0)
        good = await machine.attach("echo", 1)
        if hook == "disconnect":
            await bad.wait_connected()
            await machine.detach(bad)
        else:
            await bad.wait_states(S.Closed, S.Closed)
        assert await good.frontend.upper(b"fine") == b"FINE"
        assert "0" in calls


async def test_disconnect_is_called_once_for_every_setup(monkeypatch):
    calls = []
    for half in (EchoFront, EchoBack):
        for hook in ("setup", "disconnect"):

            async def counting(self, half=half, hook=hook):
                calls.append((half.__name__, hook))
                return {}

            monkeypatch.setattr(half, hook, counting)
    async with Loopback() as machine:
        device = await machine.attach("echo")
        await machine.detach(device)
        other = await machine.attach("echo")
        await machine.kill(machine.driver)
        await wait_all_tasks_blocked()
        assert not other.frontend.connected
    for half in (EchoFront, EchoBack):
        assert calls.count((half.__name__, "setup")) == 2
        assert calls.count((half.__name__, "disconnect")) == 2
