"""Law: what nobody closed does not keep its page from being collected, whatever the collector meets first."""

from __future__ import annotations

import gc
import mmap
import os
import weakref

import pytest

from xenlike._core import Recorder, SharedWord, map_recorder
from xenlike.abi.recorder import XENLIKE_RECORDER_BYTES
from xenlike.ring import ByteStream, FrontRing


class Owner:
    """Something that holds itself, so that only the collector can end it."""


def test_a_cycle_of_page_and_words_is_collected():
    # The page is older than who holds it, so the collector comes to it first.
    page = memoryview(mmap.mmap(-1, 4096))[:64]
    owner = Owner()
    owner.me, owner.page, owner.words = owner, page, [SharedWord(page, 4 * n) for n in range(4)]  # type: ignore[attr-defined]
    gone = weakref.ref(owner)
    del owner, page
    gc.collect()
    assert gone() is None


def test_a_word_that_never_came_to_be_ends_quietly():
    with pytest.raises(TypeError):
        SharedWord(None, 0)  # type: ignore[arg-type]
    gc.collect()


def test_a_cycle_of_pages_rings_and_their_recorder_is_collected():
    fd = os.memfd_create("recorder of a cycle")
    os.truncate(fd, XENLIKE_RECORDER_BYTES)
    page = memoryview(mmap.mmap(-1, 8192))
    owner = Owner()
    recorder = Recorder(map_recorder(fd))
    owner.me, owner.page, owner.recorder = owner, page, recorder  # type: ignore[attr-defined]
    owner.rings = [FrontRing(page[:4096], "xen", 16, 16, recorder=recorder, name=str(n)) for n in range(4)]  # type: ignore[attr-defined]
    owner.stream = ByteStream(page[4096:], 0, 1024, 2048, 2052)  # type: ignore[attr-defined]
    owner.views = [recorder.memory[:64], owner.rings[0].counters]  # type: ignore[attr-defined]
    gone = weakref.ref(owner)
    del owner, page, recorder
    gc.collect()
    assert gone() is None
    with open("/proc/self/maps") as maps:
        assert "recorder of a cycle" not in maps.read()
