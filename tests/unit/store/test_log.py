"""A store built from the log is the store that wrote it, wherever the writer was stopped."""

from __future__ import annotations

import os

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.unit.store.harness import OK, World
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import Perm
from xenlike.xenstored import records
from xenlike.xenstored.log import Log


@pytest.fixture
def fd():
    number = os.memfd_create("log")
    yield number
    os.close(number)


def logged_world(fd, **options):
    """Returns a store that goes on from a log, and the log; `log.flush()` is the server's part."""
    world = World()
    log = Log(fd, **options)
    for record in world.store.replay(log.entries()):
        world.store.restore(record)
    world.store.keep_log(log.append)
    return world, log


def again(fd):
    """Returns the store that a successor would have."""
    copy = os.memfd_create("copy")
    try:
        os.pwrite(copy, os.pread(fd, os.fstat(fd).st_size, 0), 0)
        return logged_world(copy)[0]
    finally:
        os.close(copy)


perms = st.lists(st.builds(Perm, st.integers(-1, 1000), st.sampled_from("nrwb")), min_size=1, max_size=4).map(tuple)
names = st.binary(max_size=50)
record = st.one_of(
    st.builds(records.Put, names, names, perms),
    st.builds(records.Remove, names),
    st.builds(records.Introduce, st.integers(0, 2**16), st.integers(0, 2**40), st.integers(0, 2**32 - 1)),
    st.builds(records.End, st.integers(0, 2**16)),
    st.builds(records.Target, st.integers(0, 2**16), st.integers(0, 2**16)),
    st.builds(records.Special, names, perms),
    st.builds(records.Quota, names, st.integers(0, 2**16), st.integers(0, 2**32 - 1)),
)


def pack(item):
    if isinstance(item, records.Put):
        return records.put(*item)
    if isinstance(item, records.Remove):
        return records.remove(*item)
    return item.pack()


@given(st.lists(record, max_size=10))
def test_records_are_read_as_they_were_written(items):
    assert list(records.parse(b"".join(map(pack, items)))) == items


@given(st.binary(max_size=60))
def test_garbage_is_refused(data):
    try:
        list(records.parse(data))
    except (ValueError, UnicodeDecodeError):
        pass


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "mkdir", "rm", "perms", "start", "commit", "discard"]), paths, st.binary(max_size=4)
    ),
    max_size=40,
)


def play(world, script):
    guest = world.domain(3)
    world.dom0.set_perms("/", "n0", "b3")
    transactions: dict[object, int] = {}
    for index, (what, path, value) in enumerate(script):
        client = (world.dom0, guest)[index % 3 == 0]
        tx = transactions.get(client, 0)
        if what == "write":
            client.write(path, value, tx)
        elif what == "mkdir":
            client.mkdir(path, tx)
        elif what == "rm":
            client.rm(path, tx)
        elif what == "perms":
            client.set_perms(path, f"n{value[0] if value else 0}", "b3", "r4", tx=tx)
        elif what == "start" and not tx:
            transactions[client] = client.start()
        elif what in ("commit", "discard") and tx:
            client.end(transactions.pop(client), what == "commit")


@given(steps)
@settings(max_examples=200)
def test_replay_gives_the_same_tree_in_the_same_order(script):
    fd = os.memfd_create("log")
    try:
        world, log = logged_world(fd)
        play(world, script)
        log.flush()
        successor = again(fd)
        assert successor.dump() == world.dump()
        assert successor.store.tree._owned.keys() == world.store.tree._owned.keys()
        assert {d: set(p) for d, p in successor.store.tree._owned.items()} == {
            d: set(p) for d, p in world.store.tree._owned.items()
        }
        # And so does a snapshot.
        log.compact(world.store.snapshot())
        assert again(fd).dump() == world.dump()
    finally:
        os.close(fd)


def test_every_length_of_the_log_is_a_state_that_the_store_was_in(fd):
    world, log = logged_world(fd)
    states = [world.dump()]
    for step in range(12):
        tx = world.dom0.start()
        world.dom0.write(f"/{step % 4}/x", str(step), tx)
        world.dom0.write(f"/{step % 3}", str(step), tx)
        assert world.dom0.end(tx) == OK
        if step % 5 == 4:
            world.dom0.rm("/1")
        states.append(world.dump())
    log.flush()
    whole = os.pread(fd, 1 << 20, 0)
    seen = 0
    for length in range(4096, len(whole) + 1):
        cut = os.memfd_create("cut")
        try:
            os.pwrite(cut, whole[:length], 0)
            dump = logged_world(cut)[0].dump()
        finally:
            os.close(cut)
        if dump in states:
            assert states.index(dump) >= seen
            seen = states.index(dump)
        else:
            # Between the commit and the removal of the same step.
            assert any(set(state) <= set(dump) for state in states)
    assert seen == len(states) - 1


def test_a_torn_entry_is_cut_off_and_the_log_goes_on(fd):
    world, log = logged_world(fd)
    world.dom0.write("/a", "1")
    log.flush()
    size = os.fstat(fd).st_size
    world.dom0.write("/b", "2")
    log.flush()
    os.ftruncate(fd, os.fstat(fd).st_size - 3)
    world, log = logged_world(fd)
    assert world.dom0.read("/b") == "ENOENT"
    assert os.fstat(fd).st_size == size
    world.dom0.write("/c", "3")
    log.flush()
    assert logged_world(fd)[0].dom0.ls("/") == ["tool", "a", "c"]


def test_a_flipped_bit_ends_the_log_there(fd):
    world, log = logged_world(fd)
    for name in "abc":
        world.dom0.write(f"/{name}")
        log.flush()
    whole = os.pread(fd, 1 << 20, 0)
    at = whole.index(b"/b")
    os.pwrite(fd, bytes([whole[at] ^ 1]), at)
    assert logged_world(fd)[0].dom0.ls("/") == ["tool", "a"]


def test_another_file_is_refused(fd):
    os.pwrite(fd, b"precious data", 0)
    with pytest.raises(ValueError, match="neither empty nor"):
        Log(fd)
    assert os.pread(fd, 100, 0) == b"precious data"


def test_compaction_keeps_the_tree_and_frees_the_pages(fd):
    world, log = logged_world(fd, compact_at=10000)
    compactions = 0
    for step in range(5000):
        world.dom0.write(f"/n{step % 10}", str(step) * 10)
        log.flush()
        if log.wants_compaction:
            log.compact(world.store.snapshot())
            compactions += 1
    assert compactions > 3
    assert again(fd).dump() == world.dump()
    # Blocks are what it takes; the size only says where its end is.
    assert os.fstat(fd).st_blocks * 512 < 100000 < os.fstat(fd).st_size


def test_a_compaction_that_did_not_come_to_its_end_never_was(fd, monkeypatch):
    world, log = logged_world(fd)
    for step in range(50):
        world.dom0.write(f"/n{step % 10}", str(step))
    log.flush()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(log, "_write_header", killed)
    with pytest.raises(KeyboardInterrupt):
        log.compact(world.store.snapshot())
    successor, log = logged_world(fd)
    assert successor.dump() == world.dump()
    successor.dom0.write("/after")
    log.flush()
    assert b"/after" in again(fd).dump()


def test_domains_targets_and_special_permissions_are_kept(fd):
    from xenlike.abi import xs_wire as xs

    world, log = logged_world(fd)
    for domid in (3, 4, 5):
        world.domain(domid)
    world.dom0.send(xs.XS_SET_TARGET, b"4\x003\0")
    world.dom0.set_perms("@releaseDomain", "n0", "r4")
    world.dom0.send(xs.XS_RELEASE, b"5\0")
    for _ in range(2):
        log.flush()
        world, log = logged_world(fd)
        assert sorted(world.store.domains) == [3, 4]
        assert world.store.domains[3].port == 5
        assert world.store.domains[4].session.target == 3
        assert world.store.special[b"@releaseDomain"] == (Perm(0, "n"), Perm(4, "r"))
        log.compact(world.store.snapshot())


def test_a_domain_whose_ring_is_not_there_waits_to_be_introduced_again(fd):
    world, log = logged_world(fd)
    world.domain(3)
    world.dom0.write("/local/domain/3/name", "web")
    log.flush()
    world = World()
    world.rings.refuse = "EINVAL"
    log = Log(fd)
    for record in world.store.replay(log.entries()):
        world.store.restore(record)
    assert world.dom0.read("/local/domain/3/name") == b"web"
    assert [domain.is_attached for domain in world.store.domains.values()] == [False]
    world.rings.refuse = None
    from xenlike.abi import xs_wire as xs

    assert world.dom0.send(xs.XS_INTRODUCE, b"3\x001\x009\0") == OK
    assert [domain.is_attached for domain in world.store.domains.values()] == [True]
    assert world.rings.rebound == []
    world.store.mourn(lambda domid: None)
    assert world.store.domains == {}


def test_a_domains_own_quota_survives(fd):
    world, log = logged_world(fd)
    world.domain(3)
    assert world.dom0.send(xs.XS_CONTROL, b"quota\0set\x003\0nodes\x0050000\0") == OK
    log.flush()
    assert again(fd).store.quotas_of(3).nodes == 50000
    assert again(fd).store.quotas_of(4).nodes == 1000
    # Also when the log was written anew.
    entries = list(world.store.snapshot())
    fresh = World()
    for introduced in fresh.store.replay(entries):
        fresh.store.restore(introduced)
    assert fresh.store.quotas_of(3).nodes == 50000
    assert world.dom0.send(xs.XS_RELEASE, b"3\0") == OK
    log.flush()
    assert again(fd).store.quotas_of(3).nodes == 1000
