"""What the toolstack hands over arrives, however much it is and whoever waits for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from xenlike.domain import resources as module
from xenlike.domain.resources import Resources, ResourceSender

GUARD_S = 30
MANY = 1000  # far more than fit into a socket


@pytest.fixture
def sender() -> Iterator[ResourceSender]:
    sender = ResourceSender()
    yield sender
    sender.close()


@pytest.fixture
def receiver(sender: ResourceSender) -> Iterator[Resources]:
    receiver = Resources(sender.child_end().detach())
    yield receiver
    receiver.close()


async def test_a_domain_takes_what_nobody_asks_it_for(sender: ResourceSender, receiver: Resources) -> None:
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            for number in range(MANY):
                await sender.deliver(f"disk{number}", None, {"number": number})
                sender.withdraw(f"disk{number}")
            await sender.deliver("last", None, {"number": MANY})
            assert (await receiver.get("last")).info == {"number": MANY}
            nursery.cancel_scope.cancel()


async def test_who_waits_gets_it_while_others_wait_too(sender: ResourceSender, receiver: Resources) -> None:
    got: list[tuple[int, bytes]] = []

    async def wait(number: int) -> None:
        resource = await receiver.get(f"disk{number}")
        assert resource.fd is not None
        got.append((number, os.read(resource.fd, 1)))
        os.close(resource.fd)

    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            async with trio.open_nursery() as waiting:
                for number in range(3):
                    waiting.start_soon(wait, number)
                await trio.testing.wait_all_tasks_blocked()
                for number in (2, 0, 1):
                    rx, tx = os.pipe()
                    os.write(tx, b"x")
                    await sender.deliver(f"disk{number}", rx, {})
                    os.close(rx)
                    os.close(tx)
            nursery.cancel_scope.cancel()
    assert sorted(got) == [(0, b"x"), (1, b"x"), (2, b"x")]


async def test_a_domain_that_does_not_read_is_not_waited_for_for_ever(
    sender: ResourceSender, receiver: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    with trio.fail_after(GUARD_S), pytest.raises(TimeoutError, match="has not read"):
        for number in range(MANY):
            await sender.deliver(f"disk{number}", None, {})


async def test_a_domain_that_is_gone_is_an_error(sender: ResourceSender, receiver: Resources) -> None:
    receiver.close()
    with pytest.raises(BrokenPipeError):
        await sender.deliver("disk", None, {})
