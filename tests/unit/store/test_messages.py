"""Every message with every malformed argument: the error's name, and never anything worse."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.unit.store.harness import OK, World
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import HEADER, FrameReader, frame
from xenlike.errors import ProtocolError

LONG = b"/" + b"a" * 2047

PATH_CASES = [
    (b"", "EINVAL"),
    (b"/a", "EINVAL"),
    (b"/a\0\0", "EINVAL"),
    (b"\0", "EINVAL"),
    (b"/a/\0", "EINVAL"),
    (b"//a\0", "EINVAL"),
    (b"/a//b\0", "EINVAL"),
    (b"/a b\0", "EINVAL"),
    (b"/a\n\0", "EINVAL"),
    (b"/\xc3\xa4\0", "EINVAL"),
    (b"/a.b\0", "EINVAL"),
    (b"@releaseDomain\0", "EINVAL"),
    (LONG + b"a\0", "EINVAL"),
    (b"/none\0", "ENOENT"),
    (LONG + b"\0", "ENOENT"),
]


@pytest.mark.parametrize("kind", ["READ", "DIRECTORY", "GET_PERMS"])
@pytest.mark.parametrize(("payload", "error"), PATH_CASES)
def test_paths_of_requests_that_read(kind, payload, error):
    assert World().dom0.send(getattr(xs, f"XS_{kind}"), payload) == error


@pytest.mark.parametrize("kind", ["MKDIR", "RM"])
@pytest.mark.parametrize(("payload", "error"), [case for case in PATH_CASES if case[1] == "EINVAL"])
def test_paths_of_requests_that_write(kind, payload, error):
    assert World().dom0.send(getattr(xs, f"XS_{kind}"), payload) == error


CASES = [
    ("WRITE", b"", "EINVAL"),
    ("WRITE", b"/a", "EINVAL"),
    ("WRITE", b"/a/\0x", "EINVAL"),
    ("WRITE", b"/a\0", OK),
    ("WRITE", b"/a\0x\0y\0", OK),
    ("WRITE", LONG + b"\0" + b"v" * 2000, OK),
    ("RM", b"/\0", "EINVAL"),
    ("RM", b"/none\0", OK),
    ("RM", b"/none/none\0", "ENOENT"),
    ("MKDIR", b"/\0", OK),
    ("SET_PERMS", b"", "EINVAL"),
    ("SET_PERMS", b"/tool\0", "EINVAL"),
    ("SET_PERMS", b"/tool\0n0", "EINVAL"),
    ("SET_PERMS", b"/none\0n0\0", "ENOENT"),
    ("SET_PERMS", b"/tool\0n0\0", OK),
    ("SET_PERMS", b"/tool\0n99999999999999999999\0", OK),
    ("WATCH", b"", "EINVAL"),
    ("WATCH", b"/a\0", "EINVAL"),
    ("WATCH", b"/a\0t", "EINVAL"),
    ("WATCH", b"/a\0t\0u\0", "EINVAL"),
    ("WATCH", b"/a/\0t\0", "EINVAL"),
    ("WATCH", b"\0t\0", "EINVAL"),
    ("WATCH", b"@" + b"x" * 2048 + b"\0t\0", "EINVAL"),
    ("WATCH", b"@anything at all\0t\0", OK),
    ("WATCH", b"/a\0\0", OK),
    ("UNWATCH", b"/a\0", "EINVAL"),
    ("UNWATCH", b"/a\0t\0", "ENOENT"),
    ("TRANSACTION_END", b"", "EINVAL"),
    ("TRANSACTION_END", b"T", "EINVAL"),
    ("TRANSACTION_END", b"X\0", "EINVAL"),
    ("TRANSACTION_END", b"T\0", "ENOENT"),
    ("INTRODUCE", b"", "EINVAL"),
    ("INTRODUCE", b"5\x001\0", "EINVAL"),
    ("INTRODUCE", b"5\x001\x000\0", "EINVAL"),
    ("INTRODUCE", b"5\x001\0garbage\0", "EINVAL"),
    ("INTRODUCE", b"5\x001\x004\0", OK),
    ("RELEASE", b"5", "EINVAL"),
    ("RELEASE", b"0\0", "EINVAL"),
    ("RELEASE", b"garbage\0", "EINVAL"),
    ("RELEASE", b"5\0", "ENOENT"),
    ("RESUME", b"5\0", "ENOENT"),
    ("SET_TARGET", b"5\0", "EINVAL"),
    ("SET_TARGET", b"5\x006\0", "ENOENT"),
    ("GET_DOMAIN_PATH", b"", "EINVAL"),
    ("GET_DOMAIN_PATH", b" 007x\0", b"/local/domain/7\0"),
    ("IS_DOMAIN_INTRODUCED", b"5\0", b"F\0"),
    ("IS_DOMAIN_INTRODUCED", b"0\0", b"T\0"),
    ("IS_DOMAIN_INTRODUCED", b"32752\0", b"T\0"),
    ("DIRECTORY_PART", b"/\0", "EINVAL"),
    ("DIRECTORY_PART", b"/\x000", "EINVAL"),
    ("DIRECTORY_PART", b"/none\x000\0", "ENOENT"),
    ("CONTROL", b"", "EINVAL"),
    ("CONTROL", b"nonsense\0", "EINVAL"),
    ("CONTROL", b"check\0", OK),
    ("CONTROL", b"print\0hello\0", OK),
    ("CONTROL", b"print\0", "EINVAL"),
    ("CONTROL", b"log\0maybe\0", "EINVAL"),
    ("CONTROL", b"quota\x005\0", "ENOENT"),
    ("WATCH_EVENT", b"/a\0t\0", "ENOSYS"),
    ("ERROR", b"EINVAL\0", "ENOSYS"),
]


@pytest.mark.parametrize(("kind", "payload", "answer"), CASES)
def test_answers(kind, payload, answer):
    assert World().dom0.send(getattr(xs, f"XS_{kind}"), payload) == answer


@pytest.mark.parametrize("kind", [20, 23, 99, 0xFFFF, 0xFFFFFFFF])
def test_unknown_messages(kind):
    assert World().dom0.send(kind, b"/\0") == "ENOSYS"


def test_foreign_and_nested_transactions():
    world = World()
    client, other = world.dom0, world.tool()
    tx = other.start()
    assert client.read("/", tx) == "ENOENT"
    assert client.end(tx) == "ENOENT"
    assert other.send(xs.XS_TRANSACTION_START, b"\0", tx) == "EBUSY"
    assert other.send(xs.XS_TRANSACTION_START, b"\0", tx + 1) == "ENOENT"
    assert other.read("/", tx) == b""
    assert other.end(tx) == OK
    assert other.end(tx) == "ENOENT"
    # Watches do not belong to transactions, so the number does not matter.
    assert other.send(xs.XS_WATCH, b"/a\0t\0", 12345) == OK


def test_values_are_any_bytes():
    world = World()
    value = bytes(range(256)) * 10
    assert world.dom0.write("/bin", value) == OK
    assert world.dom0.read("/bin") == value


def test_listings_longer_than_a_message_come_in_parts():
    world = World()
    names = [f"child-{index:04}" for index in range(1000)]
    for name in names:
        world.dom0.mkdir(f"/big/{name}")
    assert world.dom0.ls("/big") == "E2BIG"
    listing = b""
    while True:
        answer = world.dom0.send(xs.XS_DIRECTORY_PART, b"/big\0%d\0" % len(listing))
        assert isinstance(answer, bytes)
        generation, _, part = answer.partition(b"\0")
        assert int(generation) == world.store.tree.nodes[b"/big"].generation
        if part == b"\0" or part.endswith(b"\0\0"):
            listing += part[:-1]
            break
        listing += part
    assert listing.decode().split("\0")[:-1] == names


def test_a_domain_s_own_subtree_does_not_count_against_the_length():
    world = World()
    path = "/local/domain/123/" + "a" * 2048
    assert world.dom0.write(path) == OK
    assert world.dom0.write(path + "a") == "EINVAL"


# --- fuzzing ---

words = st.sampled_from([b"/", b"/a", b"/a/b", b"a", b"@x", b"n0", b"r3", b"T", b"F", b"t", b"5", b"-1", b"check", b""])
payloads = st.one_of(
    st.binary(max_size=40),
    st.lists(words, max_size=5).map(lambda parts: b"".join(part + b"\0" for part in parts)),
    st.lists(words, max_size=5).map(b"\0".join),
)
messages = st.tuples(st.integers(0, 24), st.integers(0, 3), payloads)


@given(st.lists(st.tuples(st.integers(0, 2), messages), max_size=30))
@settings(max_examples=300)
def test_any_message_is_answered_and_the_tree_stays_whole(script):
    world = World()
    clients = [world.dom0, world.domain(3), world.tool()]
    for who, (kind, tx, payload) in script:
        if kind == xs.XS_RELEASE and who != 1:
            continue
        clients[who].send(kind, payload, tx)
    nodes = world.store.tree.nodes
    for path, node in nodes.items():
        assert node.children_size == sum(len(name) + 1 for name in node.children)
        for name in node.children:
            assert (path if path != b"/" else b"") + b"/" + name in nodes
        if path != b"/":
            parent, _, name = path.rpartition(b"/")
            assert name in nodes[parent or b"/"].children
    owners = [node.owner for node in nodes.values()]
    for domid in set(owners) - {0}:
        assert world.store.tree.count(domid) == owners.count(domid)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=100)), max_size=10), st.data())
def test_messages_survive_any_cutting(parts, data):
    stream = b"".join(frame(kind, 1, 2, payload) for kind, payload in parts)
    reader = FrameReader()
    taken = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        reader.feed(stream[at : at + step])
        at += step
        while (message := reader.take()) is not None:
            taken.append(message)
    assert taken == [(kind, 1, 2, payload) for kind, payload in parts]


@given(st.binary(max_size=200))
def test_garbage_is_messages_or_a_protocol_error(data):
    reader = FrameReader()
    reader.feed(data)
    try:
        while (message := reader.take()) is not None:
            assert len(message[3]) <= xs.XENSTORE_PAYLOAD_MAX
    except ProtocolError:
        pass


def test_the_header_is_xen_s():
    assert HEADER.pack(1, 2, 3, 4) == xs.XsdSockmsg(1, 2, 3, 4).pack()
