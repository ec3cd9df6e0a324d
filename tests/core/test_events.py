"""Laws of event channels: one pending bit, no blocking, a hang-up is seen."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from xenlike import _core


@pytest.fixture
def channel() -> Iterator[tuple[int, int]]:
    """(rx, tx) of one direction."""
    rx, tx = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield rx, tx
    for fd in (rx, tx):
        try:
            os.close(fd)
        except OSError:
            pass


def is_clear(rx: int) -> bool:
    try:
        os.read(rx, 1)
    except BlockingIOError:
        return True
    return False


def test_many_notifications_are_cleared_by_one_drain(channel: tuple[int, int]) -> None:
    rx, tx = channel
    assert all(_core.notify(tx) for _ in range(5000))
    assert not _core.drain(rx)
    assert is_clear(rx)
    assert not _core.drain(rx)


def test_a_full_pipe_means_already_pending(channel: tuple[int, int]) -> None:
    rx, tx = channel
    with pytest.raises(BlockingIOError):
        while True:
            os.write(tx, bytes(4096))
    assert _core.notify(tx)
    assert not _core.drain(rx)
    assert is_clear(rx)


def test_the_last_event_of_a_dead_peer_comes_before_its_hang_up(channel: tuple[int, int]) -> None:
    rx, tx = channel
    _core.notify(tx)
    os.close(tx)
    assert not _core.drain(rx)
    assert _core.drain(rx)
    assert _core.drain(rx)


def test_notifying_a_dead_peer_says_so(channel: tuple[int, int]) -> None:
    rx, tx = channel
    os.close(rx)
    assert not _core.notify(tx)


def test_a_wrong_descriptor_is_an_os_error(channel: tuple[int, int]) -> None:
    rx, tx = channel
    for attempt in (lambda: _core.notify(rx), lambda: _core.drain(tx), lambda: _core.notify(-1)):
        with pytest.raises(OSError, match="Bad file"):
            attempt()
