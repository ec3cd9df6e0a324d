"""Laws of the key-value driver against peers that lie: about lists, sizes, references and versions."""

from __future__ import annotations

import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.abi.types import PAGE_SIZE
from xenlike.backends.kv import MAX_VALUE, MAX_WATCHES
from xenlike.errors import ProtocolError
from xenlike.frontends.kv import KvFailed, ValueTooBig
from xenlike.io.kv import (
    KV,
    KVIF_OP_DELETE,
    KVIF_OP_GET,
    KVIF_OP_PUT,
    KVIF_OP_WATCH,
    KVIF_RSP_ERROR,
    KVIF_RSP_NOT_FOUND,
    KVIF_RSP_OKAY,
    KVIF_RSP_QUOTA,
    KVIF_RSP_TOO_BIG,
    KvRequest,
    KvResponse,
)
from xenlike.testing import Loopback, MockBackend, MockFrontend
from xenlike.xenbus import XenbusState as S

ENTRY = KV.entry_size


@pytest.fixture
async def machine():
    async with Loopback() as machine:
        yield machine


class Guest:
    """A frontend without manners, with pages of its own."""

    def __init__(self, machine, device, peer, ring):
        self.machine, self.device, self.peer, self.ring = machine, device, peer, ring
        self.window = peer.domain.memory.alloc(device.back.domid, 20)
        pfns = range(self.window.pfn, self.window.pfn + 20)
        self.grefs = [peer.domain.grants.grant(pfn, device.back.domid) for pfn in pfns]

    @classmethod
    async def make(cls, machine):
        device = machine.plug("kv", guest=await machine.add_domain("mock", buses=False))
        peer = MockFrontend(machine, device)
        return cls(machine, device, peer, await peer.connect(KV))

    def page(self, index):
        return self.window.page(index)

    def write_list(self, index, grefs):
        self.page(index)[: 4 * len(grefs)] = struct.pack(f"<{len(grefs)}I", *grefs)

    def send(self, **members):
        self.ring.write(self.ring.req_prod, KvRequest(**members).pack())
        self.ring.req_prod += 1
        self.ring.channel.notify()

    async def ask(self, **members):
        at = self.ring.rsp_prod
        self.send(**members)
        with trio.fail_after(20):
            while self.ring.rsp_prod == at:
                self.ring.rsp_event = at + 1
                await self.ring.channel.wait()
        return KvResponse.unpack(self.ring.read(at, ENTRY))

    async def dies(self, **members):
        self.send(**members)
        await self.peer.hear(S.Closing)
        return self.machine.tree.nodes[f"{self.device.back.home}/error/backend/kv/{self.device.front.domid}/0/error"]


# A hostile frontend.


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"operation": 4, "key": b"key"}, KVIF_RSP_ERROR),
        ({"operation": 255, "key": b"key"}, KVIF_RSP_ERROR),
        ({"operation": KVIF_OP_GET}, KVIF_RSP_ERROR),
        ({"operation": KVIF_OP_PUT, "key": b"a\0b"}, KVIF_RSP_ERROR),
        ({"operation": KVIF_OP_PUT, "key": b"key", "size": MAX_VALUE + 1}, KVIF_RSP_TOO_BIG),
        ({"operation": KVIF_OP_GET, "key": b"key", "size": 2**32 - 1}, KVIF_RSP_TOO_BIG),
        ({"operation": KVIF_OP_WATCH, "key": b"key", "size": 2**32 - 1}, KVIF_RSP_TOO_BIG),
        ({"operation": KVIF_OP_GET, "key": b"key", "size": PAGE_SIZE, "gref": 2**32 - 1}, KVIF_RSP_NOT_FOUND),
        ({"operation": KVIF_OP_DELETE, "key": b"key"}, KVIF_RSP_NOT_FOUND),
    ],
)
async def test_nonsense_is_an_error_status_and_touches_no_page(machine, members, status):
    guest = await Guest.make(machine)
    response = await guest.ask(id=7, **members)
    assert (response.id, response.status) == (7, status)
    assert guest.peer.heard() == S.Connected
    assert len(guest.device.backend.foreign) == 0


@pytest.mark.parametrize("gref", [0, 7, 2**32 - 1])
async def test_a_page_that_was_not_granted_ends_the_connection(machine, gref):
    guest = await Guest.make(machine)
    said = await guest.dies(operation=KVIF_OP_PUT, key=b"key", size=10, gref=gref)
    assert f"grant {gref}" in said
    assert guest.device.backend.store._entries == {}


async def test_a_list_with_one_bad_page_ends_the_connection_and_keeps_nothing(machine):
    guest = await Guest.make(machine)
    guest.write_list(0, [guest.grefs[1], 2**32 - 1, guest.grefs[3]])
    said = await guest.dies(operation=KVIF_OP_PUT, key=b"key", size=3 * PAGE_SIZE, gref=guest.grefs[0])
    assert "grant 4294967295" in said
    assert guest.device.backend.store._entries == {}


async def test_only_as_much_of_a_list_counts_as_the_size_says(machine):
    """What lies behind it may be anything; it is not even looked at."""
    guest = await Guest.make(machine)
    guest.page(0)[:] = b"\xff" * PAGE_SIZE
    guest.write_list(0, guest.grefs[1:3])
    guest.page(1)[:], guest.page(2)[:] = b"1" * PAGE_SIZE, b"2" * PAGE_SIZE
    response = await guest.ask(operation=KVIF_OP_PUT, key=b"key", size=PAGE_SIZE + 1, gref=guest.grefs[0])
    assert response.status == KVIF_RSP_OKAY
    assert guest.device.backend.store.get(b"key")[1] == b"1" * PAGE_SIZE + b"2"


async def test_a_list_that_names_itself_or_a_page_twice_harms_only_its_author(machine):
    guest = await Guest.make(machine)
    guest.page(1)[:] = b"1" * PAGE_SIZE
    own = [guest.grefs[0], guest.grefs[1], guest.grefs[1]]
    guest.write_list(0, own)
    kept = bytes(guest.page(0)) + bytes(guest.page(1)) * 2
    assert (await guest.ask(operation=KVIF_OP_PUT, key=b"key", size=len(kept), gref=guest.grefs[0])).status == 0
    assert guest.device.backend.store.get(b"key")[1] == kept
    # Read back over its own list, which has been copied before the first byte is written.
    other = bytes(range(256)) * 48
    guest.device.backend.store.put(b"key", other)
    guest.write_list(0, own)
    response = await guest.ask(operation=KVIF_OP_GET, key=b"key", size=len(kept), gref=guest.grefs[0])
    assert (response.status, response.size) == (KVIF_RSP_OKAY, len(other))
    assert bytes(guest.page(0)) == other[:PAGE_SIZE]
    assert bytes(guest.page(1)) == other[2 * PAGE_SIZE :]


async def test_a_list_that_changes_while_it_is_read_is_what_it_was(machine, monkeypatch):
    """The guest rewrites the list as soon as the first page of it is mapped."""
    guest = await Guest.make(machine)
    foreign = guest.device.backend.foreign
    real, looks = foreign.page, []

    def page(gref, *, readonly=False):
        looks.append(gref)
        found = real(gref, readonly=readonly)
        if len(looks) == 2:
            guest.write_list(0, [2**32 - 1] * 3)
        return found

    monkeypatch.setattr(foreign, "page", page)
    guest.write_list(0, guest.grefs[1:4])
    size = 3 * PAGE_SIZE
    assert (await guest.ask(operation=KVIF_OP_PUT, key=b"key", size=size, gref=guest.grefs[0])).status == KVIF_RSP_OKAY
    assert looks == guest.grefs[:4]


async def test_a_value_that_changes_after_it_was_put_is_what_it_was(machine):
    guest = await Guest.make(machine)
    guest.page(0)[:5] = b"first"
    await guest.ask(operation=KVIF_OP_PUT, key=b"key", size=5, gref=guest.grefs[0])
    guest.page(0)[:5] = b"later"
    assert guest.device.backend.store.get(b"key")[1] == b"first"


async def test_a_get_writes_no_more_than_there_is_room_for(machine):
    guest = await Guest.make(machine)
    guest.device.backend.store.put(b"key", b"x" * 100)
    response = await guest.ask(operation=KVIF_OP_GET, key=b"key", size=99, gref=guest.grefs[0])
    assert (response.status, response.size) == (KVIF_RSP_TOO_BIG, 100)
    assert bytes(guest.page(0)) == bytes(PAGE_SIZE)
    await guest.ask(operation=KVIF_OP_GET, key=b"key", size=100, gref=guest.grefs[0])
    assert bytes(guest.page(0)) == b"x" * 100 + bytes(PAGE_SIZE - 100)


async def test_more_watches_than_allowed_are_refused_and_the_ring_goes_on(machine):
    guest = await Guest.make(machine)
    for number in range(MAX_WATCHES):
        guest.send(id=number, operation=KVIF_OP_WATCH, key=b"key")
    await wait_all_tasks_blocked()
    assert guest.ring.rsp_prod == 0
    response = await guest.ask(id=99, operation=KVIF_OP_WATCH, key=b"key")
    assert (response.id, response.status) == (99, KVIF_RSP_QUOTA)
    assert (await guest.ask(operation=KVIF_OP_DELETE, key=b"key")).status == KVIF_RSP_NOT_FOUND
    guest.device.backend.store.put(b"key", b"")
    await wait_all_tasks_blocked()
    assert guest.ring.rsp_prod == MAX_WATCHES + 2


async def test_a_watch_is_answered_by_a_change_of_its_own_key_and_by_nothing_else(machine):
    guest = await Guest.make(machine)
    store = guest.device.backend.store
    guest.send(operation=KVIF_OP_WATCH, key=b"key")
    await wait_all_tasks_blocked()
    store.put(b"other", b"")
    await wait_all_tasks_blocked()
    assert guest.ring.rsp_prod == 0
    version = store.put(b"key", b"")
    await wait_all_tasks_blocked()
    assert guest.ring.rsp_prod == 1
    guest.send(operation=KVIF_OP_WATCH, key=b"key", version=version)
    await wait_all_tasks_blocked()
    assert guest.ring.rsp_prod == 1
    store.delete(b"key")
    await wait_all_tasks_blocked()
    assert guest.ring.rsp_prod == 2


async def test_a_guest_that_dies_with_watches_leaves_none(machine):
    guest = await Guest.make(machine)
    for number in range(MAX_WATCHES):
        guest.send(id=number, operation=KVIF_OP_WATCH, key=b"key")
    await wait_all_tasks_blocked()
    store = guest.device.backend.store
    assert store.changed.statistics().tasks_waiting == MAX_WATCHES
    await machine.kill(guest.device.front)
    await wait_all_tasks_blocked()
    assert store.changed.statistics().tasks_waiting == 0


# A hostile backend.


async def against(machine, script, use, nodes=None):
    """Runs `use(frontend)` against a backend that answers each request with the members that `script` returns."""
    driver = await machine.add_domain("mock", buses=False)
    device = machine.plug("kv", driver=driver)
    ring = await MockBackend(machine, device).connect(KV, {"max-value": str(MAX_VALUE), **(nodes or {})})
    asked = []

    async def serve():
        while True:
            await ring.channel.wait()
            while ring.rsp_prod != ring.req_prod:
                request = KvRequest.unpack(ring.read(ring.rsp_prod, ENTRY))
                asked.append(request)
                ring.write(ring.rsp_prod, KvResponse(id=request.id, **script(request)).pack())
                ring.rsp_prod += 1
                ring.req_event = ring.req_prod + 1
                ring.channel.notify()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.fail_after(20):
            await use(device.frontend)
        nursery.cancel_scope.cancel()
    return asked


@pytest.mark.parametrize("size", [PAGE_SIZE + 1, MAX_VALUE, 2**32 - 1])
async def test_a_value_larger_than_the_room_for_it_is_refused(machine, size):
    async def use(kv):
        with pytest.raises(ProtocolError, match=rf"a value of {size} bytes in room for 4096"):
            await kv.get(b"key")

    await against(machine, lambda _: {"version": 1, "size": size, "status": KVIF_RSP_OKAY}, use)


async def test_what_exists_has_a_version(machine):
    async def use(kv):
        for operation in (kv.get(b"key"), kv.put(b"key", b"value")):
            with pytest.raises(ProtocolError, match="the version of one that does not"):
                await operation

    await against(machine, lambda _: {"version": 0, "status": KVIF_RSP_OKAY}, use)


@pytest.mark.parametrize("size", [0, PAGE_SIZE, MAX_VALUE + 1, 2**32 - 1])
async def test_a_value_too_big_for_anybody_is_not_asked_for_again(machine, size):
    async def use(kv):
        with pytest.raises(ValueTooBig):
            await kv.get(b"key")

    asked = await against(machine, lambda _: {"size": size, "status": KVIF_RSP_TOO_BIG}, use)
    assert len(asked) == 1


async def test_a_value_that_grows_all_the_time_is_given_up(machine):
    async def use(kv):
        with pytest.raises(ValueTooBig):
            await kv.get(b"key")

    def grow(request):
        return {"size": request.size + PAGE_SIZE, "status": KVIF_RSP_TOO_BIG}

    asked = await against(machine, grow, use)
    assert [request.size for request in asked] == [PAGE_SIZE * n for n in range(1, 17)]


async def test_a_watch_that_brings_nothing_is_not_asked_for_in_a_hurry(mock_clock):
    async def use(kv):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kv.changed, b"key", 5)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    async with Loopback() as machine:
        asked = await against(machine, lambda _: {"version": 5, "status": KVIF_RSP_OKAY}, use)
    assert len(asked) == 1


async def test_a_limit_of_the_backend_beyond_our_pages_does_not_count(machine):
    async def use(kv):
        assert kv.max_value == MAX_VALUE
        with pytest.raises(ValueTooBig):
            await kv.put(b"key", bytes(MAX_VALUE + 1))

    assert await against(machine, lambda _: {}, use, {"max-value": str(2**32 - 1)}) == []


async def test_a_status_that_nobody_knows_is_a_failure(machine):
    async def use(kv):
        for operation in (kv.get(b"key"), kv.put(b"key", b""), kv.delete(b"key"), kv.changed(b"key", 0)):
            with pytest.raises(KvFailed, match="with status -77"):
                await operation

    await against(machine, lambda _: {"status": -77}, use)
