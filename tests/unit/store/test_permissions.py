"""Who may do what, how nodes get their permissions, and how much a domain may hold."""

from __future__ import annotations

import pytest

from tests.unit.store.harness import OK, World
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import Perm
from xenlike.xenstored.rules import Quotas


@pytest.fixture
def world():
    world = World()
    world.dom0.write("/shared/node", "value")
    return world


# permissions of /shared and of /shared/node, operation of domain 3, expected answer
CASES = [
    ("n0", "n0", "read", "EACCES"),
    ("n0", "r0", "read", b"value"),
    ("n0", "w0", "read", "EACCES"),
    ("n0", "b0", "read", b"value"),
    ("n0", "n0 r3", "read", b"value"),
    ("n0", "n0 w3", "read", "EACCES"),
    ("n0", "r0 n3", "read", "EACCES"),
    ("n0", "n0 r4", "read", "EACCES"),
    ("n0", "n0 w3 r3", "read", "EACCES"),
    ("n0", "n3", "read", b"value"),
    ("n0", "n0 r3", "write", "EACCES"),
    ("n0", "n0 w3", "write", OK),
    ("n0", "n0 b3", "write", OK),
    ("n0", "n3", "write", OK),
    ("n0", "r0", "ls", []),
    ("n0", "w0", "ls", "EACCES"),
    ("n0", "r0", "get_perms", ["r0"]),
    ("n0", "n0 w3", "rm", OK),
    ("w0", "n0 r3", "rm", "EACCES"),
    ("n0", "n0 b3", "set_perms", "EACCES"),
    ("n0", "n3", "set_perms", OK),
    # What is missing is told only to those who may use the nearest node above it.
    ("n0", None, "read", "EACCES"),
    ("n0 r3", None, "read", "ENOENT"),
    ("n0 w3", None, "read", "EACCES"),
    ("n0 r3", None, "write", "EACCES"),
    ("n0 w3", None, "write", OK),
    ("n0 w3", None, "mkdir", OK),
    ("n0 r3", None, "mkdir", "EACCES"),
    ("n0 w3", None, "rm", OK),
    ("n0 r3", None, "rm", "EACCES"),
    ("n0 r3", None, "ls", "ENOENT"),
]


@pytest.mark.parametrize(("parent", "node", "operation", "expected"), CASES)
def test_what_a_domain_may_do(world, parent, node, operation, expected):
    guest = world.domain(3)
    world.dom0.set_perms("/shared", *parent.split())
    if node is None:
        world.dom0.rm("/shared/node")
    else:
        world.dom0.set_perms("/shared/node", *node.split())
    arguments = {"write": ("new",), "set_perms": ("n3", "r0")}.get(operation, ())
    assert getattr(guest, operation)("/shared/node", *arguments) == expected


@pytest.mark.parametrize("operation", ["read", "ls", "write", "mkdir", "get_perms", "rm"])
def test_domain_0_may_do_everything(world, operation):
    world.domain(3)
    world.dom0.set_perms("/shared/node", "n3")
    assert getattr(world.dom0, operation)("/shared/node") != "EACCES"


def test_the_same_holds_in_a_transaction(world):
    guest = world.domain(3)
    world.dom0.set_perms("/shared/node", "n0", "r3")
    tx = guest.start()
    assert guest.read("/shared/node", tx) == b"value"
    assert guest.write("/shared/node", "x", tx) == "EACCES"
    assert guest.read("/tool", tx) == "EACCES"
    assert guest.end(tx) == OK


def test_what_domain_0_makes_inherits_everything(world):
    world.dom0.set_perms("/shared", "r7", "b3", "w4")
    world.dom0.write("/shared/x/y")
    assert world.dom0.get_perms("/shared/x") == ["r7", "b3", "w4"]
    assert world.dom0.get_perms("/shared/x/y") == ["r7", "b3", "w4"]


def test_what_a_domain_makes_is_its_own(world):
    guest = world.domain(3)
    world.dom0.set_perms("/shared", "r0", "b3", "w4")
    assert guest.write("/shared/x/y") == OK
    assert guest.get_perms("/shared/x") == ["r3", "b3", "w4"]
    assert guest.get_perms("/shared/x/y") == ["r3", "b3", "w4"]


def test_a_domain_may_not_give_its_nodes_away(world):
    guest = world.domain(3)
    assert guest.write("mine") == OK
    assert guest.set_perms("mine", "n4") == "EPERM"
    assert guest.set_perms("mine", "n0", "b3") == "EPERM"
    assert guest.set_perms("mine", "r3", "b4") == OK
    assert world.dom0.set_perms("/local/domain/3/mine", "n4") == OK
    assert guest.read("mine") == "EACCES"


def test_a_target_lends_its_rights(world):
    from xenlike.abi import xs_wire as xs

    world.domain(3)
    stub = world.domain(4)
    assert stub.write("/local/domain/3/x") == "EACCES"
    assert world.dom0.send(xs.XS_SET_TARGET, b"4\x003\0") == OK
    assert stub.write("/local/domain/3/x") == OK
    assert stub.set_perms("/local/domain/3", "b3") == OK
    # A node that names the target in its list is open too.
    world.dom0.set_perms("/shared/node", "n0", "r3")
    assert stub.read("/shared/node") == b"value"
    world.store.release(3)
    assert stub.read("/shared/node") == "EACCES"


@pytest.mark.parametrize("kind", ["INTRODUCE", "RELEASE", "RESUME", "SET_TARGET", "IS_DOMAIN_INTRODUCED", "CONTROL"])
def test_domains_are_the_business_of_domain_0(world, kind):
    from xenlike.abi import xs_wire as xs

    guest = world.domain(3)
    assert guest.send(getattr(xs, f"XS_{kind}"), b"3\x003\x003\0") == "EACCES"


def test_a_domid_that_ended_means_nobody(world):
    world.domain(3)
    world.dom0.set_perms("/shared/node", "n0", "r3")
    world.store.release(3)
    again = world.domain(3)
    assert again.read("/shared/node") == "EACCES"
    # Not even once somebody else has changed the node.
    world.dom0.write("/shared/node", "2")
    assert again.read("/shared/node") == "EACCES"
    # Xen still shows the entry.
    assert world.dom0.get_perms("/shared/node") == ["n0", "r3"]
    world.dom0.set_perms("/shared/node", "n0", "r3")
    assert again.read("/shared/node") == b"2"


def test_what_a_domain_owned_goes_with_it(world):
    guest = world.domain(3)
    world.dom0.set_perms("/shared", "n0", "w3")
    guest.write("/shared/mine/deep")
    world.dom0.write("/shared/mine/deep/of-domain-0")
    world.dom0.set_perms("/shared/mine/deep/of-domain-0", "n0")
    world.dom0.watch("/shared/mine")
    world.dom0.events()
    world.store.release(3)
    assert world.dom0.ls("/shared") == ["node"]
    assert world.dom0.ls("/local/domain") == []
    assert world.store.tree.count(3) == 0
    assert ("/shared/mine", "t") in world.dom0.events()


# --- permissions as values ---


@pytest.mark.parametrize(
    ("text", "perm"),
    [
        ("r3", Perm(3, "r")),
        ("n0", Perm(0, "n")),
        ("b0x10", Perm(16, "b")),
        ("w010", Perm(8, "w")),
        ("r-1", Perm(-1, "r")),
    ],
)
def test_permissions_are_read_as_c_does(text, perm):
    assert Perm.parse(text) == perm
    assert Perm.parse(str(perm)) == perm


@pytest.mark.parametrize("text", ["", "r", "x3", "3", "r3 ", "r3x", "rr3", "r09", "r0x"])
def test_what_is_no_permission_is_refused(text):
    with pytest.raises(ValueError):
        Perm.parse(text)


@pytest.mark.parametrize("perms", [(), ("x0",), ("n0", ""), ("n0", "r"), ("0",)])
def test_set_perms_takes_only_permissions(world, perms):
    assert world.dom0.set_perms("/shared/node", *perms) == "EINVAL"
    assert world.dom0.get_perms("/shared/node") == ["n0"]


# --- quotas ---


def test_nodes_are_counted_by_owner(world):
    guest = world.domain(3)
    for letter in "abcdefghij":
        guest.mkdir(letter)
    home = world.store.tree.count(3)
    assert home == 11
    made = 0
    while guest.write(f"{'abcdefghij'[made % 10]}/n{made}") == OK:
        made += 1
    assert home + made == 1000
    assert guest.write("one-more") == "ENOSPC"
    assert guest.write("a/n0", "a new value") == OK
    assert guest.rm("b/n1") == OK
    assert guest.write("one-more") == OK
    # It hurts nobody else.
    other = world.domain(4)
    assert other.write("x") == OK
    world.dom0.rm("/local/domain/3")
    assert world.store.tree.count(3) == 0


def test_all_missing_levels_count_at_once():
    world = World(Quotas(nodes=4))
    guest = world.domain(3)
    assert guest.write("a/b/c/d") == "ENOSPC"
    assert guest.ls("") == "EINVAL"
    assert world.dom0.ls("/local/domain/3") == []
    assert guest.write("a/b/c") == OK


def test_nodes_of_a_transaction_count_at_its_end():
    world = World(Quotas(nodes=5))
    guest = world.domain(3)
    tx = guest.start()
    for name in "abcd":
        assert guest.write(name, "", tx) == OK
    assert guest.end(tx) == "ENOSPC"
    assert world.dom0.ls("/local/domain/3") == []
    tx = guest.start()
    for name in "abc":
        assert guest.write(name, "", tx) == OK
    assert guest.rm("a", tx) == OK
    assert guest.end(tx) == OK
    assert world.store.tree.count(3) == 3


def test_giving_a_node_away_moves_the_charge(world):
    world.domain(3)
    world.domain(4)
    world.dom0.set_perms("/shared/node", "n3")
    assert world.store.tree.count(3) == 2
    tx = world.dom0.start()
    world.dom0.set_perms("/shared/node", "n4", tx=tx)
    assert world.dom0.end(tx) == OK
    assert (world.store.tree.count(3), world.store.tree.count(4)) == (1, 2)


def test_a_node_has_a_size(world):
    guest = world.domain(3)
    # Header 24, one permission 8, and less than 2048 in all.
    assert guest.write("x", b"v" * (2047 - 32)) == OK
    assert guest.write("x", b"v" * (2048 - 32)) == "ENOSPC"
    assert guest.write("y", b"v" * (2048 - 32)) == "ENOSPC"
    assert world.dom0.write("/shared/node", b"v" * 4000) == OK


def test_names_of_children_count_too(world):
    guest = world.domain(3)
    assert guest.mkdir("d") == OK
    made = 0
    while guest.mkdir(f"d/{made:09}") == OK:
        made += 1
    assert made == (2047 - 32) // 10
    assert guest.mkdir("d/one-more-one") == "ENOSPC"


def test_a_size_reached_in_a_transaction_fails_it(world):
    guest = world.domain(3)
    tx = guest.start()
    assert guest.write("x", b"v" * 3000, tx) == "ENOSPC"
    assert guest.end(tx) == "ENOMEM"


def test_permissions_are_few(world):
    guest = world.domain(3)
    guest.write("x")
    five = ["n3", "r4", "r5", "r6", "r7"]
    assert guest.set_perms("x", *five) == OK
    assert guest.set_perms("x", *five, "r8") == "ENOSPC"
    assert world.dom0.set_perms("/shared/node", *five, *five) == OK


def test_watches_are_limited_per_domain(world):
    guest = world.domain(3)
    assert [guest.watch(f"w{index}") for index in range(129)] == [OK] * 129
    assert guest.watch("one-more") == "E2BIG"
    assert guest.unwatch("w0") == OK
    assert guest.watch("one-more") == OK
    assert [world.dom0.watch(f"/w{index}") for index in range(500)] == [OK] * 500


def test_transactions_are_limited_per_domain(world):
    from xenlike.abi import xs_wire as xs

    guest = world.domain(3)
    started = [guest.start() for _ in range(11)]
    assert guest.send(xs.XS_TRANSACTION_START, b"\0") == "ENOSPC"
    guest.end(started[0])
    guest.start()


def test_a_transaction_looks_at_so_many_nodes():
    world = World(Quotas(transaction_nodes=5))
    guest = world.domain(3)
    world.dom0.set_perms("/local/domain", "r0")
    tx = guest.start()
    answers = [guest.read(f"n{index}", tx) for index in range(6)]
    assert answers[0] == "ENOENT"
    assert answers[-1] == "ENOSPC"
    assert guest.end(tx) == "ENOMEM"


def test_a_domain_may_have_a_quota_of_its_own():
    world = World(Quotas(nodes=4))
    driver, guest = world.domain(2), world.domain(3)
    assert world.dom0.send(xs.XS_CONTROL, b"quota\0set\x002\0nodes\x0010\0") == OK
    assert driver.write("a/b/c/d") == OK
    assert guest.write("a/b/c/d") == "ENOSPC"
    tx = driver.start()
    for name in "efgh":
        assert driver.write(name, "", tx) == OK
    assert driver.end(tx) == OK
    assert driver.write("one-more/and-another") == "ENOSPC"
    # It ends with the domain.
    assert world.dom0.send(xs.XS_RELEASE, b"2\0") == OK
    assert world.domain(2).write("a/b/c/d") == "ENOSPC"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (b"quota\0set\x003\0nodes\0", "EINVAL"),
        (b"quota\0set\x003\0nodes\0many\0", "EINVAL"),
        (b"quota\0set\x003\0nodes\0-1\0", "EINVAL"),
        (b"quota\0set\x003\0no-such\x001\0", "EINVAL"),
        (b"quota\0set\x007\0nodes\x001\0", "ENOENT"),
    ],
)
def test_only_quotas_that_exist_are_set(world, words, answer):
    world.domain(3)
    assert world.dom0.send(xs.XS_CONTROL, words) == answer


def test_a_guest_sets_no_quota(world):
    assert world.domain(3).send(xs.XS_CONTROL, b"quota\0set\x003\0nodes\x0010\0") == "EACCES"


def test_a_quota_of_all_domains_can_be_set_and_survives():
    world = World()
    entries: list[bytes] = []
    world.store.keep_log(entries.append)
    guest = world.domain(3)
    assert world.dom0.send(xs.XS_CONTROL, b"quota\0set\0node-size\x00100\0") == OK
    assert guest.write("x", b"v" * 100) == "ENOSPC"
    for payload in (b"node-size\x000\0", b"node-size\0-1\0", b"node-size\0", b"no-such\x001\0", b"path-max\x001\0"):
        assert world.dom0.send(xs.XS_CONTROL, b"quota\0set\0" + payload) == "EINVAL"
    again, compacted = World(), World()
    again.store.replay(entries)
    compacted.store.replay(world.store.snapshot())
    assert again.store.quotas == compacted.store.quotas == Quotas(node_size=100)


# --- memory ---


def fill(guest) -> tuple[int, bytes | str]:
    """Creates nodes until that is refused; returns how many were made, and the refusal."""
    made = 0
    while (answer := guest.write(f"n{made:03}", b"v" * 100)) == OK:
        made += 1
    return made, answer


def test_nodes_take_memory():
    world = World(Quotas(memory=4000))
    guest = world.domain(3)
    made, answer = fill(guest)
    # Header 24, one permission 8, value 100, the path, and the name in the parent's list.
    assert (made, answer) == ((3999 - (32 + 15)) // (132 + 20 + 5), "EIO")
    # It hurts nobody else, and what was freed can be used again.
    assert world.domain(4).write("x", b"v" * 3000) == "ENOSPC"
    assert world.domain(5).write("x", b"v" * 1000) == OK
    assert guest.rm("n000") == OK
    assert guest.write("n000", b"v" * 100) == OK
    assert guest.write("n001", b"v" * 200) == "EIO"
    # The owner pays, whoever writes.
    assert world.dom0.write("/local/domain/3/n001", b"v" * 200) == "EIO"
    world.dom0.rm("/local/domain/3")
    assert world.store.memory(3) == 0


def test_watches_and_transactions_take_memory():
    world = World(Quotas(memory=2000))
    guest = world.domain(3)
    before = world.store.memory(3)
    assert guest.watch("w" * 100, "t" * 100) == OK
    guest.events()
    assert world.store.memory(3) - before == 216
    assert [guest.watch("w" * 100, "t" * 99 + letter) for letter in "abcdefghij"][-1] == "ENOMEM"
    guest.events()
    assert guest.send(xs.XS_RESET_WATCHES, b"\0") == OK
    assert world.store.memory(3) == before
    assert guest.write("x", b"v" * 1000) == OK
    tx = guest.start()
    held = world.store.memory(3)
    # A copy belongs to who made it.
    assert guest.read("x", tx) == "ENOMEM"
    assert world.store.memory(3) > held + 1000
    assert guest.write("y", b"v" * 500, tx) == "EIO"
    assert guest.end(tx) == "ENOMEM"
    assert world.store.memory(3) == held


def test_events_that_do_not_fit_are_not_sent():
    world = World(Quotas(memory=1000))
    guest = world.domain(3)
    guest.watch("x", "t" * 100)
    for index in range(20):
        world.dom0.write(f"/local/domain/3/x/{index}")
        world.dom0.set_perms(f"/local/domain/3/x/{index}", "n0", "r3")
    assert 0 < len(guest.events()) < 10


def test_no_limit_on_memory():
    world = World(Quotas(memory=0, nodes=3000))
    guest = world.domain(3)
    for index in range(1500):
        assert guest.write(f"n{index % 50}/{index}", b"v" * 1900) == OK
    assert world.store.memory(3) > 2_800_000


def test_the_log_brings_the_memory_back(tmp_path):
    world = World()
    entries: list[bytes] = []
    world.store.keep_log(entries.append)
    guest = world.domain(3)
    guest.write("a/b", "value")
    guest.set_perms("a/b", "n3", "r4", "r5")
    tx = guest.start()
    guest.write("c/d", "value", tx)
    guest.rm("a", tx)
    assert guest.end(tx) == OK
    again = World()
    again.store.replay(entries)
    assert again.store.tree.memory == world.store.tree.memory == {3: world.store.memory(3)}
