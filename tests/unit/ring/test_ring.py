"""Laws of the request ring: order, room, kick and arm, batches, misuse."""

from __future__ import annotations

import os

import pytest

from tests.unit.ring.pages import FIRST_INDICES, U32, Page, entries
from xenlike.errors import PeerGone, ProtocolError
from xenlike.ring import LAYOUTS, XEN, BackRing, FrontRing

pytestmark = [pytest.mark.parametrize("layout", LAYOUTS), pytest.mark.parametrize("first", FIRST_INDICES)]

REQUEST, RESPONSE = 112, 16


def make(layout: str, first: int) -> tuple[Page, FrontRing, BackRing]:
    page = Page(memoryview(bytearray(4096)), layout)
    front = FrontRing(page.memory, layout, REQUEST, RESPONSE, first_index=first)
    return page, front, BackRing(page.memory, layout, REQUEST, RESPONSE)


def test_requests_and_responses_arrive_in_order_over_many_laps(layout: str, first: int) -> None:
    _, front, back = make(layout, first)
    requests, responses = bytearray(REQUEST * front.size), bytearray(RESPONSE * front.size)
    for lap in range(5):
        sent = entries(lap * 100, front.size, REQUEST)
        assert front.push(sent) == front.size
        assert (front.free, front.in_flight) == (0, front.size)
        assert back.available == back.pop(requests) == back.size
        assert requests == sent
        answer = entries(lap * 77, front.size, RESPONSE)
        assert back.unanswered == back.push(answer) == front.size
        assert front.available == front.pop(responses) == front.size
        assert responses == answer
        assert (front.free, front.in_flight, back.unanswered) == (front.size, 0, 0)


def test_a_full_ring_takes_what_fits_and_no_more(layout: str, first: int) -> None:
    _, front, back = make(layout, first)
    data = entries(0, front.size + 5, REQUEST)
    assert front.push(data, 3) == 3
    assert front.push(data) == front.size - 3
    assert front.push(data) == 0
    out = bytearray(REQUEST)
    assert back.pop(out) == 1
    # Reading a request frees nothing; its popped response does.
    assert front.push(data) == 0
    assert back.push(bytes(RESPONSE)) == 1
    assert front.push(data) == 0
    assert front.pop(bytearray(RESPONSE)) == 1
    assert front.push(data) == 1


def test_a_back_cannot_answer_what_it_has_not_read(layout: str, first: int) -> None:
    page, front, back = make(layout, first)
    front.push(entries(0, 4, REQUEST))
    assert back.push(bytes(RESPONSE * 4)) == 0
    assert back.pop(bytearray(REQUEST * 2)) == 2
    assert back.push(bytes(RESPONSE * 4)) == 2
    assert page["rsp_prod"] == (first + 2) % U32


def test_pop_takes_at_most_the_limit_and_what_fits(layout: str, first: int) -> None:
    _, front, back = make(layout, first)
    front.push(entries(0, 9, REQUEST))
    out = bytearray(b"\xee" * (REQUEST * 3 + 5))
    assert back.pop(out, 0) == 0
    assert back.pop(out, 2) == 2
    assert out[2 * REQUEST :] == b"\xee" * (REQUEST + 5)
    assert back.pop(out) == 3
    assert out[3 * REQUEST :] == b"\xee" * 5
    assert out[: 3 * REQUEST] == entries(2, 3, REQUEST)
    assert back.available == 4


def test_the_first_push_after_arming_notifies_and_the_next_do_not(layout: str, first: int) -> None:
    _, front, back = make(layout, first)
    assert not back.arm()
    front.push(entries(0, 2, REQUEST))
    assert front.kick()
    assert not front.kick()
    front.push(entries(2, 1, REQUEST))
    assert not front.kick()
    assert back.arm()
    assert back.pop(bytearray(REQUEST * 3)) == 3
    assert not back.arm()
    front.push(entries(3, 1, REQUEST))
    front.push(entries(4, 1, REQUEST))
    assert front.kick()
    statistics = front.statistics()
    assert (statistics.pushed, statistics.kicks, statistics.notifications) == (5, 3, 2)
    assert (back.statistics().arms, back.statistics().late) == (3, 1)


def test_a_front_may_ask_for_several_responses_at_once(layout: str, first: int) -> None:
    page, front, back = make(layout, first)
    front.push(entries(0, 6, REQUEST))
    back.pop(bytearray(REQUEST * 6))
    assert not front.arm(4)
    assert page["rsp_event"] == (first + 4) % U32
    for number in range(1, 7):
        back.push(bytes(RESPONSE))
        assert back.kick() == (number == 4)
    assert front.arm(4)
    front.pop(bytearray(RESPONSE * 6))
    front.push(entries(0, 2, REQUEST))
    # More than is in flight would never come.
    assert not front.arm(100)
    assert page["rsp_event"] == (first + 8) % U32


def test_kick_fd_notifies_only_when_asked_to(layout: str, first: int) -> None:
    _, front, back = make(layout, first)
    rx, tx = os.pipe2(os.O_NONBLOCK)
    assert not front.kick_fd(tx)
    back.arm()
    front.push(entries(0, 1, REQUEST))
    assert front.kick_fd(tx)
    assert os.read(rx, 10) == b"\1"
    front.push(entries(0, 1, REQUEST))
    assert not front.kick_fd(tx)
    back.pop(bytearray(REQUEST * 2))
    back.arm()
    os.close(rx)
    front.push(entries(0, 1, REQUEST))
    with pytest.raises(PeerGone):
        front.kick_fd(tx)
    os.close(tx)
    back.pop(bytearray(REQUEST))
    back.arm()
    front.push(entries(0, 1, REQUEST))
    with pytest.raises(OSError, match="Bad file"):
        front.kick_fd(tx)


def test_bound_batches_do_what_push_and_pop_do(layout: str, first: int) -> None:
    _, front, back = make(layout, first)
    outgoing, incoming = front.outgoing(3), back.incoming(4)
    for number in range(front.size // 3):
        outgoing.data[:] = entries(number, 3, REQUEST)
        assert outgoing.push() == 3
    assert outgoing.push() == front.size % 3
    assert incoming.pop() == 4
    assert incoming.data == entries(0, 3, REQUEST) + entries(1, 1, REQUEST)
    for count in (0, -1):
        with pytest.raises(ValueError, match="makes no sense"):
            front.outgoing(count)


def test_short_buffers_are_refused(layout: str, first: int) -> None:
    _, front, back = make(layout, first)
    with pytest.raises(ValueError, match="2 entries"):
        front.push(bytes(REQUEST * 2 - 1), 2)
    front.push(bytes(REQUEST))
    with pytest.raises(ValueError, match="does not fit"):
        back.pop(bytearray(REQUEST - 1))
    with pytest.raises((BufferError, TypeError)):
        back.pop(bytes(REQUEST))  # type: ignore[arg-type]
    with pytest.raises((OverflowError, ValueError)):
        front.push(bytes(REQUEST), -1)
    assert back.pop(bytearray(REQUEST)) == 1


def test_a_new_back_gets_the_unanswered_requests_again(layout: str, first: int) -> None:
    page, front, back = make(layout, first)
    front.push(entries(0, 5, REQUEST))
    back.pop(bytearray(REQUEST * 3))
    back.push(bytes(RESPONSE))
    out = bytearray(REQUEST * 5)
    assert BackRing(page.memory, layout, REQUEST, RESPONSE).pop(out) == 4
    assert out[: 4 * REQUEST] == entries(1, 4, REQUEST)


@pytest.mark.parametrize("ahead", [-1, +1, 1000, 1 << 30])
def test_a_front_breaks_off_when_more_was_answered_than_asked(layout: str, first: int, ahead: int) -> None:
    page, front, _ = make(layout, first)
    front.push(entries(0, 3, REQUEST))
    page["rsp_prod"] = first + (3 + ahead if ahead > 0 else ahead)
    assert front.arm(), "a broken ring is work, or its owner would sleep for ever"
    assert front.broken
    page["rsp_prod"] = first + 1
    for attempt in (
        lambda: front.pop(bytearray(RESPONSE)),
        lambda: front.push(bytes(REQUEST)),
        lambda: front.free,
        lambda: front.available,
        lambda: front.incoming(1).pop(),
    ):
        with pytest.raises(ProtocolError, match="rsp_prod"):
            attempt()
    assert not front.kick()


@pytest.mark.parametrize("ahead", [-1, +1, 1000, 1 << 30])
def test_a_back_breaks_off_when_more_is_asked_than_fits_or_less_than_before(
    layout: str, first: int, ahead: int
) -> None:
    page, front, back = make(layout, first)
    front.push(entries(0, 3, REQUEST))
    back.pop(bytearray(REQUEST * 2))
    page["req_prod"] = first + (front.size + ahead if ahead > 0 else 1)
    with pytest.raises(ProtocolError, match="req_prod ran ahead" if ahead > 0 else "req_prod went back"):
        back.pop(bytearray(REQUEST))
    page["req_prod"] = first + 3
    assert back.broken
    for attempt in (lambda: back.pop(bytearray(REQUEST)), lambda: back.push(bytes(RESPONSE))):
        with pytest.raises(ProtocolError):
            attempt()


def test_the_error_names_the_peer(layout: str, first: int) -> None:
    page = Page(memoryview(bytearray(4096)), layout)
    front = FrontRing(page.memory, layout, REQUEST, RESPONSE, first_index=first, domid=7)
    page["rsp_prod"] = first + 1
    with pytest.raises(ProtocolError, match=r"^d7: .*rsp_prod ran ahead") as caught:
        front.pop(bytearray(RESPONSE))
    assert caught.value.domid == 7


def test_the_asymmetric_fence_changes_no_decision(layout: str, first: int) -> None:
    memory = bytearray(4096)
    front = FrontRing(memory, layout, 64, 64, first_index=first, asymmetric_fence=True)
    back = BackRing(memory, layout, 64, 64, asymmetric_fence=True)
    # Without a registered process membarrier may refuse; then arm must not allow sleep.
    back.arm()
    front.push(bytes(64))
    assert front.kick()
    assert back.arm()
    assert back.pop(bytearray(64)) == 1


def test_the_repr_tells_the_state(layout: str, first: int) -> None:
    page, front, back = make(layout, first)
    assert repr(front) == f"<FrontRing slots={front.size} pushed_to={first} read_to={first}>"
    page["rsp_prod"] = first + 1
    assert front.arm()
    assert repr(front).endswith("broken>")
    back.close()
    assert repr(back).endswith("closed>")


def test_a_page_is_compatible_in_place(layout: str, first: int) -> None:
    """Entries lie in their slots as they were given, responses over the requests."""
    page, front, back = make(layout, first)
    width = REQUEST if layout == XEN else 128
    front.push(entries(0, 2, REQUEST))
    assert page.slot(first + 1, front.size, width, REQUEST) == entries(1, 1, REQUEST)
    back.pop(bytearray(REQUEST * 2))
    back.push(entries(9, 1, RESPONSE))
    assert page.slot(first, front.size, width, RESPONSE) == entries(9, 1, RESPONSE)
    assert page.slot(first + 1, front.size, width, REQUEST) == entries(1, 1, REQUEST)
