"""A bell's ring is never lost and never queued."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from xenlike.xenbus.bell import Bell


async def test_rings_before_the_wait_are_one():
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    with trio.move_on_after(0.001) as scope:
        await bell.wait()
    assert scope.cancelled_caught


async def test_a_ring_wakes_and_a_cancelled_listener_leaves_it_usable(nursery):
    bell, heard = Bell(), []
    with trio.move_on_after(0.001):
        await bell.wait()

    async def listen():
        while True:
            await bell.wait()
            heard.append(1)

    nursery.start_soon(listen)
    await wait_all_tasks_blocked()
    for count in (1, 2):
        bell.ring()
        bell.ring()
        await wait_all_tasks_blocked()
        assert len(heard) == count
    with pytest.raises(RuntimeError, match="one listener"):
        await bell.wait()
    nursery.cancel_scope.cancel()
