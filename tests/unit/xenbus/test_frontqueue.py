"""The frontend's queue: matching, back-pressure, cancellation, and peers that lie."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import u8, u64
from xenlike.errors import PeerGone, ProtocolError
from xenlike.io.echo import EchoRequest, EchoResponse
from xenlike.xenbus.calls import id_place


async def serve(ends, *, backwards=False):
    """An honest back; answers each batch, perhaps from its last request to its first."""
    queue = ends.back_queue()
    async for requests in queue:
        order = reversed(requests) if backwards else requests
        queue.respond([EchoResponse(id=r.id, size=r.size) for r in order])


@pytest.mark.parametrize("backwards", [False, True])
async def test_every_response_reaches_its_request(ends, nursery, backwards):
    nursery.start_soon(lambda: serve(ends, backwards=backwards))
    nursery.start_soon(ends.front.run)
    answers = {}

    async def ask(number):
        answers[number] = (await ends.front.request(EchoRequest(size=number))).size

    async with trio.open_nursery() as askers:
        for number in range(ends.front.size * 3):
            askers.start_soon(ask, number)
    assert answers == {number: number for number in range(ends.front.size * 3)}
    assert ends.front.in_flight == 0
    nursery.cancel_scope.cancel()


async def test_a_batch_keeps_its_order_and_may_be_larger_than_the_ring(ends, nursery):
    nursery.start_soon(lambda: serve(ends, backwards=True))
    nursery.start_soon(ends.front.run)
    count = ends.front.size * 2 + 5
    responses = await ends.front.submit([EchoRequest(size=n) for n in range(count)])
    assert [r.size for r in responses] == list(range(count))
    assert ends.front.statistics().full > 0
    nursery.cancel_scope.cancel()


async def test_a_lone_caller_need_not_sleep(ends, nursery):
    nursery.start_soon(lambda: serve(ends))
    nursery.start_soon(ends.front.run)
    for number in range(50):
        assert (await ends.front.request(EchoRequest(size=number))).size == number
    assert await ends.front.submit([]) == []
    nursery.cancel_scope.cancel()


async def test_a_full_ring_makes_callers_wait_in_order(ends, nursery):
    nursery.start_soon(ends.front.run)
    raw, done = ends.raw(), []

    async def ask(number):
        await ends.front.request(EchoRequest(size=number))
        done.append(number)

    for number in range(ends.front.size + 3):
        nursery.start_soon(ask, number)
        await wait_all_tasks_blocked()
    assert ends.front.in_flight == ends.front.size
    first = raw.req_prod - ends.front.size
    for index in range(first, first + 2):
        request = EchoRequest.unpack(raw.read(index, EchoRequest.__layout__.size))
        raw.write(index, EchoResponse(id=request.id).pack())
    raw.rsp_prod = first + 2
    raw.channel.notify()
    await wait_all_tasks_blocked()
    assert sorted(done) == [0, 1]
    assert ends.front.in_flight == ends.front.size
    nursery.cancel_scope.cancel()


class Tally:
    def __init__(self):
        self.sizes, self.all_done = {}, trio.Event()

    def done(self, index, response):
        self.sizes[index] = EchoResponse.unpack(response).size
        if len(self.sizes) == 3:
            self.all_done.set()

    def fail(self, error):
        raise AssertionError(error)


async def test_posted_requests_are_told_of_one_by_one(ends, nursery):
    nursery.start_soon(lambda: serve(ends))
    nursery.start_soon(ends.front.run)

    tally = Tally()
    entries = b"".join(EchoRequest(size=n).pack() for n in (7, 8, 9))
    assert ends.front.post(entries, 3, tally, 10) == 3
    await tally.all_done.wait()
    assert tally.sizes == {10: 7, 11: 8, 12: 9}
    with pytest.raises(ValueError, match="3 requests"):
        ends.front.post(entries[:-1], 3, tally)
    nursery.cancel_scope.cancel()


async def test_post_takes_only_what_fits(ends):
    class Nobody:
        def done(self, index, response): ...

        def fail(self, error):
            self.error = error

    nobody = Nobody()
    entries = EchoRequest().pack() * (ends.front.size + 1)
    assert ends.front.post(entries, ends.front.size + 1, nobody) == ends.front.size
    assert ends.front.post(entries, ends.front.size + 1, nobody) == 0
    ends.front.close(PeerGone("bye"))
    assert str(nobody.error) == "bye"


async def test_a_queue_that_holds_sends_nothing_more(ends, nursery):
    nursery.start_soon(ends.front.run)
    outcomes = []

    async def ask():
        try:
            outcomes.append(await ends.front.request(EchoRequest()))
        except PeerGone as error:
            outcomes.append(str(error))

    raw = ends.raw()
    first = raw.rsp_prod
    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    ends.front.hold()
    nursery.start_soon(ask)
    assert ends.front.post(EchoRequest().pack(), 1, Tally()) == 0
    raw.write(first, EchoResponse(id=EchoRequest.unpack(raw.read(first, EchoRequest.__layout__.size)).id).pack())
    raw.rsp_prod = first + 1
    raw.channel.notify()
    await ends.front.drained()
    await wait_all_tasks_blocked()
    assert (len(outcomes), ends.front.in_flight, raw.req_prod) == (1, 0, (first + 1) % (1 << 32))
    ends.front.close(PeerGone("bye"))
    await wait_all_tasks_blocked()
    assert outcomes[1] == "bye"
    nursery.cancel_scope.cancel()


# Cancellation.


async def test_a_cancelled_caller_leaves_its_id_in_flight_until_the_answer(ends, nursery):
    nursery.start_soon(ends.front.run)
    raw, settled = ends.raw(), []
    first = raw.rsp_prod
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await ends.front.request(EchoRequest(size=1))
    assert scope.cancelled_caught
    assert ends.front.in_flight == 1
    assert ends.front.statistics().forgotten == 1
    ends.front.when_settled(lambda: settled.append(1))
    assert settled == []

    ident = EchoRequest.unpack(raw.read(first, EchoRequest.__layout__.size)).id
    raw.write(first, EchoResponse(id=ident).pack())
    raw.rsp_prod = first + 1
    raw.channel.notify()
    await wait_all_tasks_blocked()
    assert settled == [1]
    assert ends.front.in_flight == 0
    assert not ends.failures
    ends.front.when_settled(lambda: settled.append(2))
    assert settled == [1, 2]
    nursery.cancel_scope.cancel()


async def test_the_end_of_the_connection_settles_everything(ends, nursery):
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await ends.front.request(EchoRequest())
    settled = []
    ends.front.when_settled(lambda: settled.append(1))
    ends.front.close(PeerGone("bye"))
    assert settled == [1]


async def test_a_cancelled_scope_sends_nothing(ends):
    with trio.CancelScope() as scope:
        scope.cancel()
        await ends.front.request(EchoRequest())
    assert ends.front.in_flight == 0


async def cancel_when_blocked(scope):
    await wait_all_tasks_blocked()
    scope.cancel()


# The peer's end, and peers without manners.


async def test_hang_up_fails_what_is_in_flight_and_what_comes_later(ends, nursery):
    nursery.start_soon(ends.front.run)
    errors = []

    async def ask():
        try:
            await ends.front.request(EchoRequest())
        except PeerGone as error:
            errors.append(error)

    for _ in range(ends.front.size + 2):  # two of them wait for room
        nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    ends.back_channel.close()
    await wait_all_tasks_blocked()
    assert len(errors) == ends.front.size + 2
    with pytest.raises(PeerGone):
        await ends.front.request(EchoRequest())
    assert [type(failure) for failure in ends.failures] == [PeerGone]
    await ends.front.drained()


async def test_what_was_answered_before_the_hang_up_was_answered(ends, nursery):
    raw = ends.raw()
    first = raw.rsp_prod
    async with trio.open_nursery() as asking:

        async def ask():
            assert (await ends.front.request(EchoRequest(size=3))).size == 9

        asking.start_soon(ask)
        await wait_all_tasks_blocked()
        ident = EchoRequest.unpack(raw.read(first, EchoRequest.__layout__.size)).id
        raw.write(first, EchoResponse(id=ident, size=9).pack())
        raw.rsp_prod = first + 1
        ends.back_channel.close()
        nursery.start_soon(ends.front.run)


async def misbehave(ends, nursery, act, requests=2):
    """Puts requests in flight, lets a hostile back act, and returns what became of them."""
    nursery.start_soon(ends.front.run)
    raw, errors = ends.raw(), []
    first = raw.rsp_prod

    async def ask():
        try:
            await ends.front.request(EchoRequest())
        except ProtocolError as error:
            errors.append(error)

    for _ in range(requests):
        nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    ids = [EchoRequest.unpack(raw.read(first + n, EchoRequest.__layout__.size)).id for n in range(requests)]
    act(raw, first, ids)
    raw.channel.notify()
    await wait_all_tasks_blocked()
    assert [type(failure) for failure in ends.failures] == [ProtocolError]
    with pytest.raises(ProtocolError):
        await ends.front.request(EchoRequest())
    return errors


async def test_an_id_that_is_not_in_flight(ends, nursery):
    def act(raw, first, ids):
        raw.write(first, EchoResponse(id=next(n for n in range(9) if n not in ids)).pack())
        raw.rsp_prod = first + 1

    errors = await misbehave(ends, nursery, act)
    assert len(errors) == 2
    assert "not in flight" in str(errors[0])


@pytest.mark.parametrize("ident", [1 << 63, (1 << 64) - 1, 1 << 32, 4096])
async def test_an_id_far_outside_the_table(ends, nursery, ident):
    def act(raw, first, ids):
        raw.write(first, EchoResponse(id=ident).pack())
        raw.rsp_prod = first + 1

    assert len(await misbehave(ends, nursery, act)) == 2


async def test_a_response_sent_twice(ends, nursery):
    def act(raw, first, ids):
        for index in (first, first + 1):
            raw.write(index, EchoResponse(id=ids[0]).pack())
        raw.rsp_prod = first + 2

    # One was answered, and once; the other fails with the connection.
    assert len(await misbehave(ends, nursery, act)) == 1


@pytest.mark.parametrize("ahead", [3, 33, 1000, 1 << 31, (1 << 32) - 1])
async def test_more_responses_than_requests(ends, nursery, ahead):
    def act(raw, first, ids):
        raw.rsp_prod = first + ahead

    errors = await misbehave(ends, nursery, act)
    assert len(errors) == 2
    assert "rsp_prod" in str(errors[0])


async def test_notifications_without_responses_are_counted_and_ignored_ever_longer(ends, nursery, autojump_clock):
    nursery.start_soon(ends.front.run)
    for _ in range(20):
        ends.back_channel.notify()
        await trio.sleep(1)
    statistics = ends.front.statistics()
    assert statistics.spurious == 20
    began = trio.current_time()
    # A flood costs its author, and takes little of our time.
    while trio.current_time() - began < 5:
        ends.back_channel.notify()
        await trio.sleep(0.005)
    assert ends.front.statistics().spurious - statistics.spurious < 100
    nursery.cancel_scope.cancel()


# Ids.


class Narrow(Struct, c="narrow"):
    value: u64 = field()
    id: u8 = field()


class Nameless(Struct, c="nameless"):
    value: u64 = field()


def test_where_ids_are():
    assert id_place([EchoRequest]) == (0, "Q")
    assert id_place([Narrow]) == (8, "B")
    with pytest.raises(TypeError, match="Nameless needs"):
        id_place([Nameless])
    with pytest.raises(TypeError, match="differ"):
        id_place([EchoRequest, Narrow])
