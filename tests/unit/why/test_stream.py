"""One-way rings beside a device's requests: who left what unread, and who was not told."""

from __future__ import annotations

import msgspec
import pytest
import trio

from tests.unit.why.stuck import say
from xenlike.toolstack.why import Evidence, explain


@pytest.fixture
async def device(machine, autojump_clock):
    return await machine.attach("sensor")


async def test_a_guest_that_does_not_read_its_stream(device, machine):
    await device.frontend.start(1000)
    await trio.sleep(device.frontend._stream.consumer.size / 1000 + 1)
    words = ("driver waits: the stream is full: frontend d2 has left all",)
    assert (await say(machine, device, "stream-full", *words)).for_whom == "frontend d2"


@pytest.fixture
async def evidence(device, machine) -> Evidence:
    """A stream that was read to its end."""
    await device.frontend.start(1000)
    await device.frontend.read()
    await device.frontend.stop()
    await device.frontend.read()
    return (await say(machine, device, "idle")).evidence


def changed(evidence: Evidence, end: str, **members: int) -> Evidence:
    one = getattr(evidence, end)
    stream = msgspec.structs.replace(one.stream, **members)
    return msgspec.structs.replace(evidence, **{end: msgspec.structs.replace(one, stream=stream)})


async def test_samples_that_were_published_and_never_announced(evidence):
    at = evidence.back.stream.prod
    told = explain(changed(evidence, "back", prod=at + 3))
    assert told.rule == "stream-not-kicked"
    assert told.sentence.startswith("guest waits: backend d1 has published 3 of its stream and told nobody")


async def test_a_notification_of_samples_that_was_lost(evidence):
    at = evidence.back.stream.prod
    published = changed(evidence, "back", prod=at + 3, kicked=at + 3)
    told = explain(changed(published, "front", cons=at, armed=at + 1))
    assert told.rule == "stream-wakeup-lost"
    assert told.sentence.startswith("driver waits: frontend d2 sleeps on 3 of the stream")
    assert told.for_whom == "frontend d2"


async def test_a_stream_that_is_read_is_moving(evidence):
    told = explain(msgspec.structs.replace(evidence, streamed=500, watched_s=0.1))
    assert told.sentence == "connected and moving: 500 of its stream read in 0.1 s"
    told = explain(msgspec.structs.replace(evidence, answered=1, streamed=500, watched_s=0.1))
    assert told.sentence == "connected and moving: 1 request answered and 500 of its stream read in 0.1 s"
