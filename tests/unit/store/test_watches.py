"""Who is told of what, when, and under which name."""

from __future__ import annotations

import pytest

from tests.unit.store.harness import OK, World


@pytest.fixture
def world():
    return World()


def test_a_watch_fires_once_when_it_is_registered(world):
    assert world.dom0.watch("/nowhere/yet", "tok") == OK
    assert world.dom0.events() == [("/nowhere/yet", "tok")]


def test_the_answer_comes_before_the_first_event(world):
    from xenlike.abi import xs_wire as xs

    client = world.dom0
    client.store.handle(client.session, xs.XS_WATCH, 7, 0, b"/x\0t\0")
    kinds = [message[0] for message in client._take()]
    assert kinds == [xs.XS_WATCH, xs.XS_WATCH_EVENT]


def test_it_fires_for_the_node_and_what_is_below_and_for_nothing_else(world):
    world.dom0.watch("/a/b")
    world.dom0.events()
    for path in ("/a/b", "/a/b/c", "/a/bc", "/a", "/b"):
        world.dom0.write(path)
    assert [path for path, _ in world.dom0.events()] == ["/a/b", "/a/b/c"]


def test_it_fires_when_an_equal_value_is_written(world):
    world.dom0.write("/a", "1")
    world.dom0.watch("/a")
    world.dom0.events()
    world.dom0.write("/a", "1")
    assert world.dom0.events() == [("/a", "t")]


def test_mkdir_of_what_exists_fires_nothing(world):
    world.dom0.mkdir("/a")
    world.dom0.watch("/a")
    world.dom0.events()
    world.dom0.mkdir("/a")
    assert world.dom0.events() == []


def test_permissions_fire(world):
    world.dom0.mkdir("/a")
    world.dom0.watch("/")
    world.dom0.events()
    world.dom0.set_perms("/a", "n0", "r3")
    assert world.dom0.events() == [("/a", "t")]


def test_a_removed_subtree_fires_once_and_for_each_watch_in_it(world):
    for path in ("/a/b/c", "/a/b/d", "/a/e"):
        world.dom0.write(path)
    world.dom0.watch("/a", "above")
    world.dom0.watch("/a/b", "root")
    world.dom0.watch("/a/b/c", "inside")
    world.dom0.watch("/a/e", "beside")
    world.dom0.events()
    world.dom0.rm("/a/b")
    assert world.dom0.events() == [("/a/b/c", "inside"), ("/a/b", "above"), ("/a/b", "root")]


def test_events_go_out_in_the_order_of_registration(world):
    for index, path in enumerate(("/a/b", "/", "/a", "/a/b/c")):
        world.dom0.watch(path, str(index))
    world.dom0.events()
    world.dom0.write("/a/b/c")
    assert [token for _, token in world.dom0.events()] == ["0", "1", "2", "3"]


def test_a_transaction_fires_at_its_commit_and_only_then(world):
    world.dom0.watch("/a")
    world.dom0.events()
    tx = world.dom0.start()
    world.dom0.write("/a", "1", tx)
    world.dom0.write("/a", "2", tx)
    world.dom0.write("/a/b", "", tx)
    assert world.dom0.events() == []
    assert world.dom0.end(tx) == OK
    assert world.dom0.events() == [("/a", "t"), ("/a/b", "t")]


@pytest.mark.parametrize("commit", [False, True])
def test_a_transaction_that_does_not_commit_fires_nothing(world, commit):
    world.dom0.write("/a")
    world.dom0.watch("/a")
    world.dom0.events()
    tx = world.dom0.start()
    world.dom0.write("/a", "1", tx)
    if commit:
        world.tool().write("/a", "2")
        world.dom0.events()
        assert world.dom0.end(tx) == "EAGAIN"
    else:
        assert world.dom0.end(tx, commit=False) == OK
    assert world.dom0.events() == []


def test_what_a_transaction_made_and_removed_again_fires_nothing(world):
    world.dom0.watch("/a")
    world.dom0.events()
    tx = world.dom0.start()
    world.dom0.write("/a", "1", tx)
    world.dom0.rm("/a", tx)
    assert world.dom0.end(tx) == OK
    assert world.dom0.events() == []


def test_a_subtree_removed_by_a_transaction_fires_as_one_removed_directly(world):
    world.dom0.write("/a/b/c")
    world.dom0.watch("/a", "above")
    world.dom0.watch("/a/b/c", "inside")
    world.dom0.events()
    tx = world.dom0.start()
    world.dom0.rm("/a/b", tx)
    world.dom0.end(tx)
    assert sorted(world.dom0.events()) == [("/a/b", "above"), ("/a/b/c", "inside")]


def test_a_relative_watch_tells_relative_paths(world):
    guest = world.domain(5)
    assert guest.watch("device", "rel") == OK
    assert guest.watch("/local/domain/5/device", "abs") == OK
    assert guest.events() == [("device", "rel"), ("/local/domain/5/device", "abs")]
    guest.write("device/vbd/51712/state", "1")
    assert guest.events() == [
        ("device/vbd/51712/state", "rel"),
        ("/local/domain/5/device/vbd/51712/state", "abs"),
    ]
    world.dom0.rm("/local/domain/5")
    assert guest.events() == [("device", "rel"), ("/local/domain/5/device", "abs")]


def test_a_tool_is_relative_to_domain_0(world):
    world.dom0.watch("x")
    world.dom0.write("/local/domain/0/x/y")
    assert world.dom0.events() == [("x", "t"), ("x/y", "t")]


def test_a_watch_is_known_by_path_and_token(world):
    assert world.dom0.watch("/a", "1") == OK
    assert world.dom0.watch("/a", "2") == OK
    assert world.dom0.watch("/a", "1") == "EEXIST"
    assert world.dom0.unwatch("/a", "3") == "ENOENT"
    assert world.dom0.unwatch("/a", "1") == OK
    world.dom0.events()
    world.dom0.write("/a")
    assert world.dom0.events() == [("/a", "2")]
    assert len(world.store.watches) == 1


def test_a_domain_is_not_told_of_what_it_may_not_read(world):
    guest = world.domain(3)
    world.dom0.watch("/secret")
    guest.watch("/secret")
    guest.events()
    world.dom0.write("/secret/key")
    assert guest.events() == []
    # A change that shuts it out, or lets it in, is told.
    world.dom0.set_perms("/secret/key", "n0", "r3")
    assert guest.events() == [("/secret/key", "t")]
    world.dom0.set_perms("/secret/key", "n0")
    assert guest.events() == [("/secret/key", "t")]
    world.dom0.write("/secret/key", "2")
    assert guest.events() == []


def test_a_domain_is_told_that_what_it_could_read_is_gone(world):
    guest = world.domain(3)
    world.dom0.write("/secret/key")
    world.dom0.set_perms("/secret/key", "n0", "r3")
    guest.watch("/secret/key")
    guest.events()
    world.dom0.rm("/secret")
    assert guest.events() == [("/secret/key", "t")]


def test_whoever_reads_the_parent_is_told_of_its_children(world):
    guest = world.domain(3)
    world.dom0.mkdir("/shared")
    world.dom0.set_perms("/shared", "n0", "r3")
    world.dom0.write("/shared/hidden")
    world.dom0.set_perms("/shared/hidden", "n0")
    guest.watch("/shared")
    guest.events()
    world.dom0.write("/shared/hidden", "1")
    assert guest.events() == [("/shared/hidden", "t")]


def test_special_watches_tell_of_domains(world):
    world.dom0.watch("@introduceDomain", "i")
    world.dom0.watch("@releaseDomain", "r")
    assert world.dom0.events() == [("@introduceDomain", "i"), ("@releaseDomain", "r")]
    world.domain(7)
    assert world.dom0.events() == [("@introduceDomain", "i")]
    world.store.release(7)
    assert world.dom0.events() == [("@releaseDomain", "r")]


def test_special_watches_are_for_those_who_may(world):
    guest = world.domain(3)
    guest.watch("@releaseDomain")
    guest.events()
    world.domain(4)
    world.store.release(4)
    assert guest.events() == []
    assert guest.set_perms("@releaseDomain", "n0", "r3") == "EACCES"
    assert world.dom0.set_perms("@releaseDomain", "n0", "r3") == OK
    assert world.dom0.set_perms("@nonsense", "n0", "r3") == "EINVAL"
    world.domain(4)
    world.store.release(4)
    assert guest.events() == [("@releaseDomain", "t")]


def test_a_shutdown_is_told_once_and_the_end_once_more(world):
    world.domain(3)
    world.dom0.watch("@releaseDomain")
    world.dom0.events()
    states: dict[int, str | None] = {3: "running"}
    world.store.mourn(states.get)
    assert world.dom0.events() == []
    states[3] = "shutdown"
    world.store.mourn(states.get)
    world.store.mourn(states.get)
    assert world.dom0.events() == [("@releaseDomain", "t")]
    states[3] = "dying"
    world.store.mourn(states.get)
    assert world.dom0.events() == [("@releaseDomain", "t")]
    assert world.store.domains == {}
    assert world.rings.sessions == {}
    world.store.mourn(lambda domid: None)
    assert world.dom0.events() == []


def test_equal_events_that_wait_are_one_and_special_ones_are_not(world):
    world.dom0.watch("/a")
    world.dom0.watch("@introduceDomain")
    world.dom0.events()
    other = world.tool()
    for _ in range(5):
        other.write("/a")
        other.write("/a/b")
        world.store.fire_special(b"@introduceDomain")
    assert sorted(world.dom0.events()) == [("/a", "t"), ("/a/b", "t")] + [("@introduceDomain", "t")] * 5


def test_a_client_that_lets_events_pile_up_is_lost_and_holds_no_more_memory(world):
    lazy = world.tool()
    lazy.watch("/")
    for index in range(20000):
        world.dom0.write(f"/flood/{index}{'x' * 100}")
    assert lazy.session.outbox.lost
    assert lazy.session.outbox.size < 2 << 20


def test_reset_watches_drops_watches_and_transactions(world):
    from xenlike.abi import xs_wire as xs

    world.dom0.watch("/a")
    tx = world.dom0.start()
    assert world.dom0.send(xs.XS_RESET_WATCHES, b"\0") == OK
    world.dom0.events()
    world.tool().write("/a")
    assert world.dom0.events() == []
    assert world.dom0.end(tx) == "ENOENT"
