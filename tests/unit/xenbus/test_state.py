"""Laws of the state machines, most of them by looking at every state the pair can reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xenlike.errors import ProtocolError
from xenlike.xenbus.state import (
    BackendAction,
    FrontendAction,
    XenbusState,
    backend_action,
    frontend_action,
    is_legal_move,
    parse_state,
)

S = XenbusState
Pair = tuple[S, S, bool]  # frontend, backend, online

FRONT_MOVES = {
    FrontendAction.SETUP: S.Initialised,
    FrontendAction.CONNECT: S.Connected,
    FrontendAction.CLOSE: S.Closed,
    FrontendAction.LOST: S.Unknown,
}
BACK_MOVES = {
    BackendAction.OFFER: S.InitWait,
    BackendAction.CONNECT: S.Connected,
    BackendAction.CLOSING: S.Closing,
    BackendAction.CLOSE: S.Closed,
}


def steps(pair: Pair) -> Iterator[Pair]:
    """Every next pair, where either half looks at the other's present state and takes one step."""
    front, back, online = pair
    front_move = FRONT_MOVES.get(frontend_action(front, back))
    if front_move is not None and front_move != front:
        assert is_legal_move(front, front_move), (front, front_move)
        yield front_move, back, online
    back_move = BACK_MOVES.get(backend_action(back, front, online=online))
    if back_move is not None and back_move != back:
        assert is_legal_move(back, back_move), (back, back_move)
        yield front, back_move, online


def reachable(start: Pair) -> set[Pair]:
    seen, todo = {start}, [start]
    while todo:
        for after in steps(todo.pop()):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def ends(start: Pair) -> set[Pair]:
    return {pair for pair in reachable(start) if not list(steps(pair))}


def test_every_order_of_steps_ends_connected():
    assert ends((S.Initialising, S.Initialising, True)) == {(S.Connected, S.Connected, True)}


@pytest.mark.parametrize("back", [S.Unknown, S.Initialising, S.InitWait])
def test_a_backend_that_is_early_or_late_makes_no_difference(back):
    assert ends((S.Initialising, back, True)) == {(S.Connected, S.Connected, True)}


def test_taken_away_at_any_moment_both_end_closed():
    for front, back, _ in reachable((S.Initialising, S.Initialising, True)):
        assert ends((front, back, False)) == {(S.Closed, S.Closed, False)}, (front, back)


def test_a_closing_half_takes_the_other_with_it_and_the_device_can_begin_again():
    for front, back, _ in reachable((S.Initialising, S.Initialising, True)):
        for closing in ((S.Closing, back, True), (front, S.Closing, True)):
            assert ends(closing) == {(S.Closed, S.Closed, True)}, closing
    # The toolstack or a new guest puts the frontend back to its beginning.
    assert ends((S.Initialising, S.Closed, True)) >= {(S.Connected, S.Connected, True)}


def test_a_frontend_that_begins_again_without_closing_is_served_again():
    # A guest that was suspended, or crashed: Initialising in the store, waiting in its own view.
    assert backend_action(S.Connected, S.Initialising) is BackendAction.OFFER
    assert ends((S.Unknown, S.InitWait, True)) == {(S.Connected, S.Connected, True)}


def test_skipped_states_are_no_obstacle():
    assert frontend_action(S.Initialising, S.Connected) is FrontendAction.SETUP
    assert frontend_action(S.Initialised, S.Connected) is FrontendAction.CONNECT
    assert backend_action(S.InitWait, S.Connected) is BackendAction.CONNECT
    assert backend_action(S.Unknown, S.Initialised) is BackendAction.OFFER


def test_a_frontend_without_backend_does_not_trust_what_the_dead_left():
    assert frontend_action(S.Unknown, S.Connected) is FrontendAction.WAIT
    assert frontend_action(S.Unknown, S.Initialised) is FrontendAction.WAIT
    assert frontend_action(S.Unknown, S.InitWait) is FrontendAction.SETUP


@pytest.mark.parametrize("back", [S.Unknown, S.Initialising, S.InitWait, S.Initialised])
def test_a_connected_frontend_sees_its_backend_vanish(back):
    assert frontend_action(S.Connected, back) is FrontendAction.LOST


def test_a_backend_stays_closing_until_the_frontend_is_closed():
    for front in S:
        expected = BackendAction.CLOSE if front in (S.Closed, S.Unknown) else BackendAction.WAIT
        assert backend_action(S.Closing, front) is expected


def test_repeated_states_are_answered_with_nothing_new():
    assert frontend_action(S.Connected, S.Connected) is FrontendAction.REFRESH
    assert backend_action(S.Connected, S.Connected) is BackendAction.WAIT
    assert backend_action(S.Connected, S.Initialised) is BackendAction.WAIT
    assert frontend_action(S.Closed, S.Closed) is FrontendAction.WAIT


def test_every_pair_of_states_has_an_answer():
    for own in S:
        for other in S:
            assert isinstance(frontend_action(own, other), FrontendAction)
            for online in (True, False):
                assert isinstance(backend_action(own, other, online=online), BackendAction)


def test_moves_backwards_are_new_beginnings():
    assert is_legal_move(S.Connected, S.Connected)
    assert is_legal_move(S.Closed, S.Initialising)
    assert is_legal_move(S.Initialising, S.Initialised)  # InitWait skipped
    assert not is_legal_move(S.Connected, S.Initialised)
    assert not is_legal_move(S.Closed, S.Connected)
    assert not is_legal_move(S.Closing, S.Connected)


def test_parse_state():
    assert parse_state(None) is S.Unknown
    assert parse_state("") is S.Unknown
    assert [parse_state(str(n)) for n in range(9)] == list(S)


@pytest.mark.parametrize("text", ["9", "-1", "04", " 4", "4 ", "x", "٤", "1e0", "9" * 5000])
def test_a_state_that_is_none_is_refused(text):
    with pytest.raises(ProtocolError, match="is not a xenbus state") as caught:
        parse_state(text, 7)
    assert caught.value.domid == 7
    assert len(str(caught.value)) < 200
