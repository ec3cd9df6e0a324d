"""Which events belong to a device."""

from __future__ import annotations

from xenlike.abi import recorder as abi
from xenlike.toolstack.tracing import TraceEvent
from xenlike.toolstack.tracing.select import Selection
from xenlike.toolstack.tracing.updates import TracedDevice

EVERYTHING = 127
DEVICE = TracedDevice("echo", 0, 3, 2, "guest/echo/0")
NAMES = {0: "Domain-0", 2: "storage", 3: "guest", 4: "other"}


def selection() -> Selection:
    chosen = Selection(EVERYTHING, DEVICE)
    chosen.know(NAMES)
    return chosen


def push(domid: int, device: str) -> TraceEvent:
    return TraceEvent(0, domid, abi.XENLIKE_TRACE_RING, abi.XENLIKE_TRACE_PUSH, device, 0, 1)


def store(domid: int, text: str) -> TraceEvent:
    return TraceEvent(0, domid, abi.XENLIKE_TRACE_STORE, abi.XENLIKE_TRACE_WRITE, payload=text.encode())


def grant(domid: int, event: int, a: int = 8, b: int = 0) -> TraceEvent:
    return TraceEvent(0, domid, abi.XENLIKE_TRACE_GRANT, event, a=a, b=b)


def test_the_rings_of_both_ends_and_no_others() -> None:
    chosen = selection()
    assert chosen.wants(push(3, "device/echo/0"))
    assert chosen.wants(push(2, "backend/echo/3/0"))
    assert not chosen.wants(push(3, "device/echo/1"))
    assert not chosen.wants(push(4, "device/echo/0"))
    assert not chosen.wants(push(2, "backend/echo/4/0"))
    # What a stranger calls a backend of the guest's is one, as far as anybody can tell.
    assert chosen.wants(push(4, "backend/echo/3/0"))


def test_store_paths_of_both_ends_however_they_are_written() -> None:
    chosen = selection()
    assert chosen.wants(store(3, "device/echo/0/state = 4"))
    assert chosen.wants(store(2, "/local/domain/3/device/echo/0/state"))
    assert chosen.wants(store(2, "backend/echo/3/0/state = 2"))
    assert chosen.wants(store(2, "error/backend/echo/3/0/error = 22 no"))
    assert not chosen.wants(store(3, "device/echo/01/state"))
    assert not chosen.wants(store(3, "device/vbd/0/state"))
    assert not chosen.wants(store(2, "data/x"))


def test_grants_are_the_devices_when_they_are_for_the_other_end() -> None:
    chosen = selection()
    assert chosen.wants(grant(3, abi.XENLIKE_TRACE_GRANTED, 8, 2))
    assert not chosen.wants(grant(3, abi.XENLIKE_TRACE_GRANTED, 9, 0))
    assert chosen.wants(grant(3, abi.XENLIKE_TRACE_REVOKED, 8))
    assert not chosen.wants(grant(3, abi.XENLIKE_TRACE_REVOKED, 9))
    assert chosen.wants(grant(2, abi.XENLIKE_TRACE_MAPPED, 8, 3))
    assert not chosen.wants(grant(2, abi.XENLIKE_TRACE_MAPPED, 8, 4))


def test_a_guest_that_is_started_again_is_still_the_one() -> None:
    chosen = selection()
    assert not chosen.wants(push(9, "device/echo/0"))
    chosen.know({9: "guest"})
    assert chosen.wants(push(9, "device/echo/0"))
    assert chosen.wants(push(2, "backend/echo/9/0"))


def test_a_backend_that_is_started_again_is_known_by_its_nodename() -> None:
    chosen = selection()
    assert chosen.wants(push(7, "backend/echo/3/0"))
    assert chosen.wants(grant(7, abi.XENLIKE_TRACE_MAPPED, 8, 3))


def test_only_the_classes_that_are_wanted() -> None:
    chosen = Selection(abi.XENLIKE_TRACE_STORE)
    assert chosen.wants(store(3, "x"))
    assert not chosen.wants(push(3, "device/echo/0"))


def test_only_the_domain_that_is_wanted() -> None:
    chosen = Selection(EVERYTHING, None, "guest")
    chosen.know(NAMES)
    assert chosen.wants(store(3, "x"))
    assert not chosen.wants(store(2, "x"))
