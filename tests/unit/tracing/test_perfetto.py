"""Files for viewers: requests are slices from their beginning to their end, and every file is whole."""

from __future__ import annotations

import io
import json
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tracing.viewer import check_trace
from xenlike.abi import recorder as abi
from xenlike.io.echo import DRIVER, EchoRequest, EchoResponse
from xenlike.testing import Loopback
from xenlike.toolstack.tracing import Protocols, TraceEvent, last_events
from xenlike.toolstack.tracing.event import NAMES
from xenlike.toolstack.tracing.perfetto import PerfettoWriter

RING, ENTRY = abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_ENTRY
FRONT, BACK = "device/echo/0", "backend/echo/3/0"


def written(events: list[TraceEvent]) -> dict[str, Any]:
    file = io.StringIO()
    writer = PerfettoWriter(file, Protocols())
    writer.know({2: "storage", 3: "guest"})
    for event in events:
        writer.add(event)
    writer.finish()
    trace: dict[str, Any] = json.loads(file.getvalue())
    return trace


def entry(time_ns: int, side: int, event: int, message: EchoRequest | EchoResponse) -> TraceEvent:
    device, domid = ((FRONT, 3), (BACK, 2))[side]
    data = message.pack()
    return TraceEvent(time_ns, domid, ENTRY, event, device, side, 1, 0, len(data), payload=data)


def ring(time_ns: int, side: int, event: int, *numbers: int) -> TraceEvent:
    device, domid = ((FRONT, 3), (BACK, 2))[side]
    a, b, c, d = (*numbers, 0, 0, 0, 0)[:4]
    return TraceEvent(time_ns, domid, RING, event, device, side, 1, a, b, c, d)


def lanes(trace: dict[str, Any]) -> dict[tuple[str, str], list[tuple[str, float, float]]]:
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in trace["traceEvents"]
        if event["name"] == "thread_name"
    }
    found: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for one in check_trace(trace):
        key = (str(one["pid"] - 10_000), names[one["pid"], one["tid"]])
        found.setdefault(key, []).append((one["name"], one["ts"], one["dur"]))
    return found


def test_a_request_lasts_until_its_own_response_whatever_the_order() -> None:
    pushed, popped = abi.XENLIKE_TRACE_PUSHED, abi.XENLIKE_TRACE_POPPED
    trace = written(
        [
            entry(1000, 0, pushed, EchoRequest(id=1)),
            entry(2000, 0, pushed, EchoRequest(id=2)),
            entry(3000, 1, popped, EchoRequest(id=1)),
            entry(3000, 1, popped, EchoRequest(id=2)),
            entry(5000, 1, pushed, EchoResponse(id=2)),
            entry(6000, 0, popped, EchoResponse(id=2)),
            entry(8000, 1, pushed, EchoResponse(id=1)),
            entry(9000, 0, popped, EchoResponse(id=1)),
        ]
    )
    assert lanes(trace) == {
        ("3", f"{FRONT} #0"): [("EchoRequest", 1.0, 8.0)],
        ("3", f"{FRONT} #1"): [("EchoRequest", 2.0, 4.0)],
        ("2", f"{BACK} #0"): [("EchoRequest", 3.0, 5.0)],
        ("2", f"{BACK} #1"): [("EchoRequest", 3.0, 2.0)],
    }


def test_without_entries_an_index_tells_how_long_it_lay_in_the_ring() -> None:
    push, pop = abi.XENLIKE_TRACE_PUSH, abi.XENLIKE_TRACE_POP
    trace = written(
        [
            ring(1000, 0, push, 2, 0),
            ring(4000, 1, pop, 1, 0xFFFF_FFFF),
            ring(5000, 1, pop, 1, 0),
            ring(6000, 1, push, 1, 9),
            ring(7000, 0, pop, 1, 9),
        ]
    )
    assert lanes(trace) == {
        ("3", f"{FRONT} #0"): [("request 4294967294 in the ring", 1.0, 3.0)],
        ("3", f"{FRONT} #1"): [("request 4294967295 in the ring", 1.0, 4.0)],
        ("2", f"{BACK} #0"): [("response 8 in the ring", 6.0, 1.0)],
    }
    # The first indices that were seen are of different moments, so there is no telling what is in flight.
    assert not any(event["ph"] == "C" for event in trace["traceEvents"])


def test_counters_tell_what_is_in_flight() -> None:
    push, pop = abi.XENLIKE_TRACE_PUSH, abi.XENLIKE_TRACE_POP
    trace = written(
        [
            ring(1, 0, push, 1, 0),
            ring(2, 0, pop, 1, 0),
            ring(3, 0, push, 3, 3),
            ring(4, 0, pop, 2, 2),
            ring(5, 1, pop, 3, 3),
            ring(6, 1, push, 2, 2),
        ]
    )
    counters = [(event["name"], event["args"]["requests"]) for event in trace["traceEvents"] if event["ph"] == "C"]
    assert counters == [
        (f"{FRONT} in flight", 0),
        (f"{FRONT} in flight", 3),
        (f"{FRONT} in flight", 1),
        (f"{BACK} unanswered", 1),
    ]


def test_a_sleep_lasts_from_arm_to_wake() -> None:
    arm, wake = abi.XENLIKE_TRACE_ARM, abi.XENLIKE_TRACE_WAKE
    trace = written(
        [
            ring(1000, 1, arm, 1, 5),
            ring(2000, 1, arm, 0, 5),
            ring(7000, 1, wake),
            ring(8000, 1, arm, 0, 6),
            ring(9000, 1, abi.XENLIKE_TRACE_KICK, 1),
        ]
    )
    assert lanes(trace) == {("2", BACK): [("asleep", 2.0, 5.0), ("asleep", 8.0, 1.0)]}


def test_what_has_not_ended_is_in_the_file_as_unfinished() -> None:
    trace = written(
        [entry(1000, 0, abi.XENLIKE_TRACE_PUSHED, EchoRequest(id=1)), ring(3000, 0, abi.XENLIKE_TRACE_WAKE)]
    )
    (one,) = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert (one["dur"], one["args"]["unfinished"]) == (2.0, "when the trace ended")


def test_nothing_makes_a_whole_file() -> None:
    assert check_trace(written([])) == []


@given(
    st.lists(
        st.builds(
            lambda kind, number, rest: TraceEvent(kind=kind, event=number % 9 + 1, **rest),
            st.sampled_from(list(NAMES)),
            st.integers(0, 100),
            st.fixed_dictionaries(
                {
                    "time_ns": st.integers(0, 1 << 62),
                    "domid": st.integers(0, 3),
                    "device": st.sampled_from([FRONT, BACK, "", "device/vbd/51712", "x", "\ud800"]),
                    "side": st.sampled_from([0, 1, 2, 3, 99, None]),
                    "queue": st.integers(0, 2),
                    "a": st.one_of(st.integers(0, 5), st.integers(0, (1 << 32) - 1)),
                    "b": st.one_of(st.integers(0, 5), st.integers(0, (1 << 32) - 1)),
                    "c": st.integers(0, 3),
                    "d": st.integers(0, 3),
                    "payload": st.binary(max_size=224),
                }
            ),
        ),
        max_size=60,
    )
)
def test_whatever_is_traced_makes_a_file_that_viewers_take(events: list[TraceEvent]) -> None:
    check_trace(written(sorted(events, key=lambda event: event.time_ns)))


async def test_a_real_pair_makes_a_file_with_every_request() -> None:
    with trio.fail_after(30):
        async with Loopback({"echo": DRIVER}, {"echo": DRIVER}) as machine:
            for domain in machine.domains.values():
                domain.recorder.mask = 127
            device = await machine.attach("echo")
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(device.frontend.upper, b"%d" % number)
            memories = {domid: domain.recorder.memory for domid, domain in machine.domains.items()}
            trace = written(last_events(memories, next(iter(memories.values()))))
    slices = [one for one in check_trace(trace) if one["name"] == "EchoRequest"]
    assert len(slices) == 40
    assert not any("unfinished" in one["args"] for one in slices)
