"""Laws of a trio run of its own: no waiting, a found hang, a found runaway, an order that a seed deals."""

from __future__ import annotations

import hashlib

import pytest
import trio
from trio._core import _run

from xenlike.testing.running import Runaway, limited, run_apart


def test_a_day_passes_at_once():
    async def main():
        began = trio.current_time()
        await trio.sleep(86400)
        return trio.current_time() - began

    assert run_apart(main, 0) == pytest.approx(86400)


def test_threads_are_waited_for():
    def work():
        # Longer than the clock's patience below, if that were a real one.
        for _ in range(200):
            hashlib.sha256(bytes(100_000)).digest()
        return "done"

    async def main():
        with trio.fail_after(0.001):
            return await trio.to_thread.run_sync(work)

    assert run_apart(main, 0) == "done"


def test_a_task_that_never_sleeps_is_found():
    async def spin():
        while True:
            await trio.lowlevel.checkpoint()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spin)

    with pytest.raises(Runaway, match=r"after 3000 steps .* most of all .*spin"):
        run_apart(main, 0, most_steps=3000)


def test_a_task_behind_a_shield_is_found():
    async def stubborn():
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    with pytest.raises(Runaway, match=r"sleep for ever behind a shield: .*stubborn"):
        run_apart(main, 0)


@pytest.mark.parametrize("busy", [False, True])
def test_what_waits_in_vain_is_limited_whether_others_sleep_or_not(busy):
    async def spin():
        while True:
            await trio.lowlevel.checkpoint()

    async def main():
        async with trio.open_nursery() as nursery:
            if busy:
                nursery.start_soon(spin)
            with limited(steps=500) as steps:
                await trio.Event().wait()
            nursery.cancel_scope.cancel()
        return steps.cancelled_caught

    assert run_apart(main, 0)


def test_a_seed_deals_the_order_and_nothing_is_left_of_it():
    async def main():
        order = []

        async def mark(number):
            await trio.lowlevel.checkpoint()
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(mark, number)
        return order

    before = _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    orders = [run_apart(main, seed) for seed in range(5)]
    assert orders == [run_apart(main, seed) for seed in range(5)]
    assert len(set(map(tuple, orders))) == 5
    assert (_run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING) == before
