"""How much fits into a domain's memory is the same to the byte."""

from __future__ import annotations

import pytest

from tests.interop.xenstore.scripts import Ours, Step, Theirs
from xenlike.abi import xs_wire as xs
from xenlike.xenstored.rules import Quotas

pytestmark = pytest.mark.interop


@pytest.fixture
def daemons(tmp_path):
    theirs = Theirs(tmp_path, "-Q", "memory=6000")
    ours = Ours(Quotas(memory=6000))
    home = b"/local/domain/1\0"
    for step in (
        Step("d1", "create"),
        Step("tool0", "send", xs.XS_WRITE, home),
        Step("tool0", "send", xs.XS_SET_PERMS, home + b"n1\0"),
        Step("tool0", "send", xs.XS_INTRODUCE, b"1\x001\x005\0"),
    ):
        assert ours.run(step) == theirs.run(step)
    yield ours, theirs
    theirs.close()


def until_refused(daemons, kind: int, payload: str) -> tuple[int, bytes | str]:
    """Puts a question again and again, numbered, until it is refused."""
    ours, theirs = daemons
    for count in range(1000):
        step = Step("d1", "send", kind, payload.replace("#", f"{count:03}").encode())
        seen, expected = ours.run(step), theirs.run(step)
        assert seen == expected, count
        if isinstance(seen[0], str):
            return count, seen[0]
    raise AssertionError("never refused")


def test_nodes(daemons):
    assert until_refused(daemons, xs.XS_WRITE, "n#\0" + "v" * 100)[1] == "EIO"


def test_nodes_below_nodes(daemons):
    assert until_refused(daemons, xs.XS_WRITE, "a#/b/c\0value")[1] == "EIO"


def test_watches(daemons):
    assert until_refused(daemons, xs.XS_WATCH, "w#/" + "x" * 60 + "\0" + "t" * 60 + "\0")[1] == "ENOMEM"


def test_an_answer_longer_than_a_word_needs_room(daemons):
    until_refused(daemons, xs.XS_WRITE, "n#\0" + "v" * 300)
    until_refused(daemons, xs.XS_WRITE, "m#\0" + "v" * 10)
    ours, theirs = daemons
    step = Step("d1", "send", xs.XS_READ, b"n000\0")
    assert ours.run(step) == theirs.run(step)
    assert ours.run(step)[0] == "ENOMEM"
