"""Two real processes over one ring, sleeping between events: every entry arrives once, and nobody oversleeps.

A lost wake-up leaves both asleep; the bound of the wait is what notices it.
"""

from __future__ import annotations

import mmap
import os
import random
import select
import struct

import pytest

from tests.core.effort import EXAMPLES
from tests.core.processes import HANG_GUARD_S, child
from tests.unit.ring.pages import U32
from xenlike import _core
from xenlike.ring import CACHELINE, CACHELINE_TAG, LAYOUTS, XEN, BackRing, ConsoleStreams, Consumer, FrontRing, Producer

REQUESTS = 200 * EXAMPLES
SIZE = 64
REQUEST = struct.Struct("<Q56s")
RESPONSE = struct.Struct("<QQ")
FIRSTS = [0, U32 - 3000]


class Channel:
    """Both directions of an event channel, as each end sees them."""

    def __init__(self) -> None:
        self._pipes = [os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(2)]

    def end(self, number: int) -> tuple[int, int]:
        return self._pipes[number][0], self._pipes[1 - number][1]

    def close(self) -> None:
        for pipe in self._pipes:
            for fd in pipe:
                os.close(fd)


def sleep_on(rx: int) -> None:
    assert select.select([rx], [], [], HANG_GUARD_S)[0], "overslept"
    _core.drain(rx)


def body(number: int) -> bytes:
    return bytes((number + place * 3) & 0xFF for place in range(56))


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("layout", [*LAYOUTS, CACHELINE_TAG])
def test_every_request_is_answered_once_in_any_order(layout: str, first: int, asymmetric: bool) -> None:
    if asymmetric and not _core.membarrier_register():
        pytest.skip("this kernel has no membarrier")
    memory = mmap.mmap(-1, 4096)
    channel = Channel()
    sizes = (SIZE, RESPONSE.size)
    front = FrontRing(memory, layout, *sizes, first_index=first, asymmetric_fence=asymmetric)

    def serve() -> None:
        _core.membarrier_register()
        choose = random.Random(1)
        rx, tx = channel.end(1)
        back = BackRing(memory, layout, *sizes, asymmetric_fence=asymmetric)
        requests, held, answered = bytearray(SIZE * back.size), [], 0
        while answered < REQUESTS:
            for at in range(back.pop(requests, choose.randint(1, back.size))):
                number, content = REQUEST.unpack_from(requests, at * SIZE)
                assert content == body(number)
                held.append(number)
            choose.shuffle(held)
            now = choose.randint(0, len(held)) if back.available else len(held)
            answers = b"".join(RESPONSE.pack(number, ~number & (1 << 64) - 1) for number in held[:now])
            assert back.push(answers, now) == now
            del held[:now]
            answered += now
            back.kick_fd(tx)
            if answered < REQUESTS and not held and not back.arm():
                sleep_on(rx)

    choose = random.Random(2)
    rx, tx = channel.end(0)
    responses = bytearray(RESPONSE.size * front.size)
    in_flight: set[int] = set()
    sent = 0
    with child(serve):
        while sent < REQUESTS or in_flight:
            count = min(choose.randint(1, front.size), front.free, REQUESTS - sent)
            data = b"".join(REQUEST.pack(sent + n, body(sent + n)) for n in range(count))
            assert front.push(data, count) == count
            in_flight.update(range(sent, sent + count))
            sent += count
            front.kick_fd(tx)
            got = front.pop(responses)
            for at in range(got):
                number, check = RESPONSE.unpack_from(responses, at * RESPONSE.size)
                assert number in in_flight
                assert check == ~number & (1 << 64) - 1
                in_flight.remove(number)
            if not got and in_flight and not front.arm(choose.randint(1, 3)):
                sleep_on(rx)
    assert front.statistics().pushed == front.statistics().popped == REQUESTS
    channel.close()


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("layout", [CACHELINE, XEN])
def test_a_one_way_ring_delivers_everything_in_order(layout: str, first: int) -> None:
    memory = mmap.mmap(-1, 4096)
    channel = Channel()
    producer = Producer(memory, SIZE, layout, first_index=first)

    def consume() -> None:
        choose = random.Random(3)
        rx, tx = channel.end(1)
        consumer = Consumer(memory, SIZE, layout)
        entries, expected = bytearray(SIZE * consumer.size), 0
        while expected < REQUESTS:
            for at in range(consumer.pop(entries, choose.randint(1, consumer.size))):
                assert REQUEST.unpack_from(entries, at * SIZE) == (expected, body(expected))
                expected += 1
            consumer.kick_fd(tx)
            if expected < REQUESTS and not consumer.arm():
                sleep_on(rx)

    choose = random.Random(4)
    rx, tx = channel.end(0)
    sent = 0
    with child(consume):
        while sent < REQUESTS:
            count = min(choose.randint(1, producer.size), REQUESTS - sent)
            data = b"".join(REQUEST.pack(sent + n, body(sent + n)) for n in range(count))
            taken = producer.push(data, count)
            sent += taken
            producer.kick_fd(tx)
            if taken < count and not producer.arm_space(choose.randint(1, producer.size)):
                sleep_on(rx)
    channel.close()


def test_a_byte_stream_delivers_everything_in_order() -> None:
    memory = mmap.mmap(-1, 4096)
    struct.pack_into("<II", memory, 3080, U32 - 5000, U32 - 5000)
    channel = Channel()
    text = random.Random(5).randbytes(300_000)

    def listen() -> None:
        choose = random.Random(6)
        rx, tx = channel.end(1)
        stream, heard = ConsoleStreams(memory).output, bytearray()
        while len(heard) < len(text):
            data = stream.read(choose.randint(1, 3000))
            heard += data
            if stream.kick():
                _core.notify(tx)
            if not data:
                sleep_on(rx)
        assert heard == text

    choose = random.Random(7)
    rx, tx = channel.end(0)
    stream, told = ConsoleStreams(memory).output, 0
    with child(listen):
        while told < len(text):
            wanted = text[told : told + choose.randint(1, 4000)]
            taken = stream.write(wanted)
            told += taken
            if stream.kick():
                _core.notify(tx)
            if taken < len(wanted):
                sleep_on(rx)
    channel.close()
