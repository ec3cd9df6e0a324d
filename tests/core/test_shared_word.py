"""Law: a word that nobody closed does not keep its page from being collected, whatever the collector meets first."""

from __future__ import annotations

import gc
import mmap
import weakref

import pytest

from xenlike._core import SharedWord


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
