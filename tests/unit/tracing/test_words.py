"""What people read of an event."""

from __future__ import annotations

import pytest

from xenlike.abi import recorder as abi
from xenlike.abi.struct import Struct
from xenlike.io.blk import BLKIF_OP_DISCARD, BlkifRequest, BlkifRequestDiscard, BlkifSegment
from xenlike.io.echo import EchoRequest, EchoResponse
from xenlike.toolstack.tracing import Protocols, TraceEvent, Words
from xenlike.toolstack.tracing.event import NAMES
from xenlike.toolstack.tracing.protocols import show
from xenlike.toolstack.tracing.words import _TOLD

RING, ENTRY = abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_ENTRY


def ring(event: int, side: int, *numbers: int) -> str:
    a, b, c, d = (*numbers, 0, 0, 0, 0)[:4]
    return Words().describe(TraceEvent(0, 2, RING, event, "device/vbd/51712", side, 1, a, b, c, d))


def entry(device: str, side: int, event: int, message: Struct) -> str:
    data = message.pack()
    told = TraceEvent(0, 1, ENTRY, event, device, side, 1, 7, len(data), payload=data)
    return Words(protocols=Protocols()).describe(told)


def text(kind: int, event: int, payload: str, a: int = 0, b: int = 0, device: str = "") -> str:
    return Words().describe(TraceEvent(0, 1, kind, event, device, a=a, b=b, payload=payload.encode()))


def test_a_line_says_when_who_where_and_what() -> None:
    event = TraceEvent(13_345_678_900, 2, RING, abi.XENLIKE_TRACE_PUSH, "device/vbd/51712", 0, 1, 1, 17)
    assert Words(1_000_000_000).line(event) == "   12.345679  d2 device/vbd/51712  push 1 -> req_prod 17"


def test_every_event_that_can_be_recorded_has_words() -> None:
    entries = {(ENTRY, event) for event in NAMES[ENTRY]}
    assert set(_TOLD) | entries == {(kind, event) for kind, events in NAMES.items() for event in events}


def test_an_index_is_called_what_its_end_calls_it() -> None:
    assert ring(abi.XENLIKE_TRACE_PUSH, 0, 2, 17) == "push 2 -> req_prod 17"
    assert ring(abi.XENLIKE_TRACE_PUSH, 1, 2, 17) == "push 2 -> rsp_prod 17"
    assert ring(abi.XENLIKE_TRACE_POP, 0, 2, 17) == "pop 2 -> rsp_cons 17"
    assert ring(abi.XENLIKE_TRACE_POP, 1, 2, 17) == "pop 2 -> req_cons 17"
    assert ring(abi.XENLIKE_TRACE_ARM, 0, 0, 18) == "arm rsp_event 18, goes to sleep"
    assert ring(abi.XENLIKE_TRACE_ARM, 1, 1, 18) == "arm req_event 18, no sleep: there is work already"
    assert ring(abi.XENLIKE_TRACE_KICK, 0, 1, 17, 16, 17) == "kick req_prod 16 -> 17, notify: req_event is 17"
    assert ring(abi.XENLIKE_TRACE_KICK, 1, 0, 4, 16, 17) == (
        "kick rsp_prod 16 -> 17, no notification wanted: rsp_event is 4"
    )
    assert ring(abi.XENLIKE_TRACE_BREAK, 1, 1, 4096) == "BROKEN: the peer's req_prod 4096 ran ahead"
    assert ring(abi.XENLIKE_TRACE_WAKE, 0, 1) == "woken: the peer hung up"


@pytest.mark.parametrize(
    ("side", "event", "message", "shown"),
    [
        (0, abi.XENLIKE_TRACE_PUSHED, EchoRequest(id=1, gref=8, size=5), "wrote [7] EchoRequest id=1 gref=8 size=5"),
        (1, abi.XENLIKE_TRACE_POPPED, EchoRequest(id=1, gref=8, size=5), "read [7] EchoRequest id=1 gref=8 size=5"),
        (
            1,
            abi.XENLIKE_TRACE_PUSHED,
            EchoResponse(id=1, status=-1),
            "wrote [7] EchoResponse id=1 size=0 status=-1/ERROR",
        ),
        (0, abi.XENLIKE_TRACE_POPPED, EchoResponse(id=1, size=5), "read [7] EchoResponse id=1 size=5 status=0/OKAY"),
    ],
)
def test_entries_are_what_their_protocol_says(side: int, event: int, message: Struct, shown: str) -> None:
    assert entry("device/echo/0", side, event, message) == shown


def test_an_entry_of_several_kinds_is_told_by_its_tag() -> None:
    discard = BlkifRequestDiscard(operation=BLKIF_OP_DISCARD, id=3, sector_number=8, nr_sectors=16)
    pushed = abi.XENLIKE_TRACE_PUSHED
    whole = discard.pack().ljust(BlkifRequest.__layout__.size, b"\0")
    event = TraceEvent(0, 1, ENTRY, pushed, "device/vbd/51712", 0, 1, 7, len(whole), payload=whole)
    assert "BlkifRequestDiscard" in Words().describe(event)
    segment = BlkifSegment(gref=8, first_sect=0, last_sect=7)
    read = entry("device/vbd/51712", 0, pushed, BlkifRequest(operation=0, nr_segments=1, id=3, seg=(segment,)))
    assert "BlkifRequest operation=0/READ" in read
    assert "[{gref=8 first_sect=0 last_sect=7}]" in read


def test_an_entry_of_an_unknown_protocol_is_bytes() -> None:
    message = EchoRequest(id=1)
    assert entry("device/unheard-of/0", 0, abi.XENLIKE_TRACE_PUSHED, message) == (
        "wrote [7] 16 bytes: 01000000 00000000 00000000 00000000"
    )


def test_a_driver_that_cannot_be_loaded_leaves_bytes() -> None:
    protocols = Protocols({"mine": "no.such.module:Front"})
    assert protocols.of("device/mine/0") is None
    protocols.learn({"mine": "xenlike.frontends.echo:EchoFront"})
    found = protocols.of("device/mine/0")
    assert found is not None
    assert found.name == "echoif"


def test_states_are_told_by_name() -> None:
    xenbus, store = abi.XENLIKE_TRACE_XENBUS, abi.XENLIKE_TRACE_STORE
    device = "device/echo/0"
    assert text(xenbus, abi.XENLIKE_TRACE_STATE, device, 1, 3, device) == "state Initialising -> Initialised"
    assert text(xenbus, abi.XENLIKE_TRACE_STATE, device, 1, 99, device) == "state Initialising -> 99"
    other = "/local/domain/1/backend/echo/2/0"
    assert text(xenbus, abi.XENLIKE_TRACE_OTHEREND, f"{device}: {other}", 2, 0, device) == f"sees {other} in InitWait"
    assert text(store, abi.XENLIKE_TRACE_WRITE, f"{device}/state = 4", 7) == (
        f"writes {device}/state = 4 (Connected)  (transaction 7)"
    )


def test_a_domains_text_does_nothing_to_a_terminal() -> None:
    assert text(abi.XENLIKE_TRACE_USER, abi.XENLIKE_TRACE_TEXT, "\x1b[2Jhello\n\u202e") == ('"\\x1b[2Jhello\\n\\u202e"')


def test_a_message_shows_what_is_in_it() -> None:
    assert show(EchoRequest(id=1, gref=8, size=5)) == "EchoRequest id=1 gref=8 size=5"
