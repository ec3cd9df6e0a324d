"""The machine's side of a trace, without a machine: who is heard, what is recorded for whom, and until when."""

from __future__ import annotations

import mmap
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from xenlike._core import Recorder, ask_trace
from xenlike.abi import hypercall as hc
from xenlike.abi import recorder as abi
from xenlike.errors import HypercallError
from xenlike.toolstack.tracing import Merger
from xenlike.toolstack.tracing.server import PERIOD_S, Tracing
from xenlike.toolstack.tracing.updates import TraceParams, TraceUpdate

HOT = abi.XENLIKE_TRACE_RING | abi.XENLIKE_TRACE_ENTRY
USER, TEXT = abi.XENLIKE_TRACE_USER, abi.XENLIKE_TRACE_TEXT


class Hypercalls:
    def __init__(self) -> None:
        self.recorders: dict[int, Recorder | mmap.mmap] = {}
        self.asked = 0

    def domain_infos(self) -> list[hc.GetDomainInfo]:
        self.asked += 1
        return [hc.GetDomainInfo(domid=domid, name=b"d%d" % domid) for domid in sorted(self.recorders)]

    def recorder_memory(self, domid: int) -> memoryview:
        found = self.recorders[domid]
        if domid == 13:
            raise HypercallError(3, "XENLIKE_RECORDER")
        return found.memory if isinstance(found, Recorder) else memoryview(found)


class Domain0:
    def __init__(self) -> None:
        self.hypercalls = Hypercalls()
        self.recorder = Recorder.private()
        self.hypercalls.recorders[0] = self.recorder


class Client:
    """Takes updates, and tells what they say."""

    def __init__(self) -> None:
        self._merger = Merger()
        self.names: dict[int, str] = {}
        self.texts: list[str] = []
        self.updates = 0

    async def send(self, update: TraceUpdate) -> None:
        await trio.lowlevel.checkpoint()
        self.updates += 1
        self.names |= update.names or {}
        if update.clock is not None:
            for chunk in update.chunks:
                self._merger.add(chunk, update.clock)
        if update.horizon_ns:
            self.texts += [event.text for event in self._merger.upto(update.horizon_ns) if event.kind == USER]


@pytest.fixture
def domain0() -> Domain0:
    return Domain0()


@pytest.fixture
def tracing(domain0: Domain0) -> Tracing:
    return Tracing(cast("Any", domain0), {})


def add(domain0: Domain0, domid: int) -> Recorder:
    recorder = domain0.hypercalls.recorders[domid] = Recorder.private()
    return recorder


async def rounds(count: int = 2) -> None:
    await trio.sleep(count * PERIOD_S)


async def test_last_words_that_nobody_had_read_are_heard(
    domain0: Domain0, tracing: Tracing, autojump_clock: MockClock
) -> None:
    recorder, client = add(domain0, 3), Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tracing.stream, TraceParams(), client.send)
        await rounds()
        recorder.trace(USER, TEXT, "last words")
        del domain0.hypercalls.recorders[3]
        tracing.forget(3)
        again = add(domain0, 3)
        tracing.look()
        again.trace(USER, TEXT, "first words")
        await rounds(3)
        nursery.cancel_scope.cancel()
    assert client.texts == ["last words", "first words"]


async def test_a_domain_records_from_its_first_event_on(
    domain0: Domain0, tracing: Tracing, autojump_clock: MockClock
) -> None:
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tracing.stream, TraceParams(classes=HOT), client.send)
        await rounds()
        # Made, and not yet begun: the domain's own start must not undo what was asked for.
        memory = domain0.hypercalls.recorders[3] = mmap.mmap(-1, abi.XENLIKE_RECORDER_BYTES)
        tracing.look()
        recorder = Recorder(memory)
        assert recorder.mask == abi.XENLIKE_TRACE_USUAL | HOT
        recorder.trace(USER, TEXT, "hello")
        await rounds(3)
        assert client.names[3] == "d3"
        nursery.cancel_scope.cancel()
    assert client.texts == ["hello"]
    assert recorder.mask == abi.XENLIKE_TRACE_USUAL


async def test_each_follower_has_what_he_asked_for_and_nobody_more(
    domain0: Domain0, tracing: Tracing, autojump_clock: MockClock
) -> None:
    three, four = add(domain0, 3), add(domain0, 4)
    ask_trace(four.memory, abi.XENLIKE_TRACE_ENTRY)  # the domain's own wish
    one, two = Client(), Client()
    async with trio.open_nursery() as outer:
        outer.start_soon(tracing.stream, TraceParams("d3", abi.XENLIKE_TRACE_RING), one.send)
        await rounds()
        assert (three.mask & HOT, four.mask & HOT) == (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_ENTRY)
        async with trio.open_nursery() as inner:
            inner.start_soon(tracing.stream, TraceParams(classes=HOT), two.send)
            await rounds()
            assert (three.mask & HOT, four.mask & HOT) == (HOT, HOT)
            three.trace(USER, TEXT, "three")
            four.trace(USER, TEXT, "four")
            await rounds(3)
            inner.cancel_scope.cancel()
        assert (three.mask & HOT, four.mask & HOT) == (abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_ENTRY)
        outer.cancel_scope.cancel()
    assert (three.mask & HOT, four.mask & HOT) == (0, abi.XENLIKE_TRACE_ENTRY)
    assert (one.texts, two.texts) == (["three"], ["three", "four"])
    assert tracing.followers == 0


async def test_a_follower_whose_client_dies_leaves_nothing_behind(
    domain0: Domain0, tracing: Tracing, autojump_clock: MockClock
) -> None:
    recorder = add(domain0, 3)

    async def send(update: TraceUpdate) -> None:
        await trio.lowlevel.checkpoint()
        if update.chunks:
            raise trio.BrokenResourceError

    with pytest.raises(trio.BrokenResourceError):
        await tracing.stream(TraceParams(classes=HOT), send)
    assert (tracing.followers, recorder.mask) == (0, abi.XENLIKE_TRACE_USUAL)


async def test_nothing_is_asked_of_the_hypervisor_while_nobody_follows_or_nothing_changes(
    domain0: Domain0, tracing: Tracing, autojump_clock: MockClock
) -> None:
    tracing.look()
    tracing.forget(3)
    assert domain0.hypercalls.asked == 0
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tracing.stream, TraceParams(), client.send)
        await rounds(5)
        asked, updates = domain0.hypercalls.asked, client.updates
        await rounds(50)
        assert (domain0.hypercalls.asked, client.updates) == (asked, updates)
        nursery.cancel_scope.cancel()


async def test_more_than_one_message_holds_comes_in_several(
    domain0: Domain0, tracing: Tracing, autojump_clock: MockClock
) -> None:
    recorder, client = add(domain0, 3), Client()
    for number in range(6000):
        recorder.trace(USER, TEXT, "", number)
    with trio.fail_after(60):
        await tracing.stream(TraceParams(follow=False), client.send)
    assert len(client.texts) == 6000
    assert client.updates >= 4
    assert recorder.mask == abi.XENLIKE_TRACE_USUAL


async def test_a_domain_without_a_recorder_is_left_out(
    domain0: Domain0, tracing: Tracing, autojump_clock: MockClock
) -> None:
    add(domain0, 13)
    add(domain0, 14).trace(USER, TEXT, "here")
    client = Client()
    await tracing.stream(TraceParams(follow=False), client.send)
    assert client.texts == ["here"]
