"""The backend's queue: private copies, budget, notifications, and frontends that lie."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.errors import PeerGone, ProtocolError
from xenlike.io.echo import ECHO, EchoRequest, EchoResponse

SIZE = ECHO.request_size


def put(raw, count, start=None):
    """Writes requests as a front does; their sizes count up."""
    first = raw.req_prod if start is None else start
    for number in range(count):
        raw.write(first + number, EchoRequest(id=number, size=number).pack())
    raw.req_prod = first + count


@pytest.fixture
def back(ends):
    queue = ends.back_queue()
    yield queue
    queue.close()


async def test_batches_are_what_is_there(ends, back):
    raw = ends.raw()
    put(raw, 5)
    assert [r.size for r in await anext(back)] == [0, 1, 2, 3, 4]
    back.respond([EchoResponse(id=n) for n in range(5)])
    put(raw, 1)
    assert [r.size for r in await anext(back)] == [0]
    statistics = back.statistics()
    assert (statistics.requests, statistics.responses, statistics.unanswered) == (6, 5, 1)


async def test_what_was_popped_is_private(ends, back):
    raw = ends.raw()
    first = raw.req_prod
    put(raw, 1)
    await back.wait()
    entries = back.pop_raw()
    raw.write(first, EchoRequest(id=99, size=99).pack())
    assert EchoRequest.unpack(entries).size == 0
    assert entries.readonly
    assert len(back.pop_raw()) == 0


async def test_it_sleeps_until_there_is_something_and_wakes_for_it(ends, back, nursery):
    raw, got = ends.raw(), []

    async def take():
        got.extend(await anext(back))

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    assert raw.req_event == (raw.req_prod + 1) & 0xFFFF_FFFF
    ends.front_channel.notify()  # a request that is not there yet
    await wait_all_tasks_blocked()
    put(raw, 1)
    ends.front_channel.notify()
    await wait_all_tasks_blocked()
    assert len(got) == 1
    assert back.statistics().spurious == 1


async def test_responses_are_kicked_before_the_next_wait(ends, back, nursery):
    raw = ends.raw()
    raw.rsp_event = raw.rsp_prod + 1
    put(raw, 2)
    await back.wait()
    back.pop_raw()
    back.respond_raw(EchoResponse(id=0).pack() + EchoResponse(id=1).pack(), 2)
    assert back.statistics().notifications == 0
    nursery.start_soon(back.wait)
    await wait_all_tasks_blocked()
    assert back.statistics().notifications == 1
    with trio.fail_after(10):
        await ends.front_channel.wait()
    nursery.cancel_scope.cancel()


async def test_more_responses_than_requests_are_a_fault_of_the_driver(ends, back):
    put(ends.raw(), 1)
    await anext(back)
    with pytest.raises(RuntimeError, match="2 responses for 1"):
        back.respond([EchoResponse(), EchoResponse()])


async def test_the_budget_lets_other_tasks_in(ends, nursery):
    back = ends.back_queue(budget=10)
    raw, turns = ends.raw(), []

    async def other():
        while True:
            turns.append(1)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    await trio.lowlevel.checkpoint()
    seen = len(turns)
    served = 0
    while served < 100:
        put(raw, 5)
        await back.wait()
        while entries := back.pop_raw():
            count = len(entries) // SIZE
            back.respond_raw(EchoResponse().pack() * count, count)
            served += count
            if served < 100:
                put(raw, 5)  # a frontend that never lets the ring run dry
    assert len(turns) - seen >= 5
    nursery.cancel_scope.cancel()
    back.close()


@pytest.mark.parametrize("jump", ["size + 1", "1000", "1 << 31", "-1"])
async def test_a_producer_index_that_cannot_be(ends, back, jump):
    raw = ends.raw()
    put(raw, 1)
    await anext(back)
    raw.req_prod = raw.req_prod + eval(jump, {"size": raw.size})
    for _ in range(2):  # sticky
        with pytest.raises(ProtocolError, match="req_prod"):
            await back.wait()
    with pytest.raises(ProtocolError):
        back.pop_raw()
    with pytest.raises(ProtocolError):
        back.respond([EchoResponse()])


async def test_a_sleeping_back_hears_of_a_broken_ring(ends, back, nursery):
    errors = []

    async def take():
        try:
            await back.wait()
        except ProtocolError as error:
            errors.append(error)

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    raw = ends.raw()
    raw.req_prod = raw.req_prod + 500
    ends.front_channel.notify()
    await wait_all_tasks_blocked()
    assert len(errors) == 1


async def test_a_full_ring_is_no_offence_and_one_more_is(ends, back):
    raw = ends.raw()
    put(raw, raw.size)
    assert len(await anext(back)) == raw.size
    raw.req_prod = raw.req_prod + 1  # none is answered, so there is no room
    with pytest.raises(ProtocolError):
        await back.wait()


async def test_what_a_dead_frontend_asked_for_is_still_served(ends, back):
    put(ends.raw(), 2)
    ends.front_channel.close()
    assert len(await anext(back)) == 2
    back.respond([EchoResponse(), EchoResponse()])
    with pytest.raises(PeerGone):
        await back.wait()


async def test_a_hang_up_wakes_a_sleeping_back(ends, back, nursery):
    errors = []

    async def take():
        try:
            await back.wait()
        except PeerGone as error:
            errors.append(error)

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    ends.front_channel.close()
    await wait_all_tasks_blocked()
    assert len(errors) == 1


async def test_a_flood_of_empty_notifications_costs_its_author(ends, back, nursery, autojump_clock):
    nursery.start_soon(back.wait)
    began = trio.current_time()
    while trio.current_time() - began < 5:
        ends.front_channel.notify()
        await trio.sleep(0.005)
    assert 20 < back.statistics().spurious < 100
    nursery.cancel_scope.cancel()


async def test_close_is_idempotent(ends, back):
    back.close()
    back.close()
    assert back.statistics().requests == 0
