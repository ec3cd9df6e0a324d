"""Every operation with every malformed argument: the answer that Xen's xenstored 4.17 gives."""

from __future__ import annotations

import pytest

from tests.unit.store.harness import World
from tests.unit.store.malformed import CASES, IN_TRANSACTION, NO_TRANSACTION, PRIVILEGED
from xenlike.abi import xs_wire as xs


def shown(kind: str, answer: bytes | str) -> bytes | str:
    """Returns an answer without the generation, which is a daemon's own affair."""
    return answer.partition(b"\0")[2] if kind == "DIRECTORY_PART" and isinstance(answer, bytes) else answer


def test_answers_to_malformed_arguments():
    world = World(exists={0, 1}.__contains__)
    world.store.introduce(0, 0, 1)
    guest = world.domain(1)
    got = []
    for kind, payload, _, _ in CASES:
        number = getattr(xs, f"XS_{kind}")
        answers = [shown(kind, client.send(number, payload)) for client in (world.dom0, guest)]
        got.append((kind, payload, *answers))
    assert got == CASES


@pytest.mark.parametrize("kind", IN_TRANSACTION + NO_TRANSACTION + PRIVILEGED)
@pytest.mark.parametrize("payload", [b"", b"\0", b"/a\0", b"garbage"])
def test_a_transaction_that_the_client_does_not_have(kind, payload):
    world = World()
    guest = world.domain(1)
    number = getattr(xs, f"XS_{kind}")
    expected = "EINVAL" if kind in NO_TRANSACTION else "ENOENT"
    assert world.dom0.send(number, payload, 77) == expected
    assert guest.send(number, payload, 77) == ("EACCES" if kind in PRIVILEGED else expected)


def test_every_operation_is_in_the_table():
    assert {xs.XS_NAMES[number] for number in xs.XS_NAMES} == {kind for kind, *_ in CASES} | {"TRANSACTION_START"}
