"""Laws of the domain table: numbers, births that fail half-way, and the steps of a death."""

from __future__ import annotations

import errno
import os
import select
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hypervisor.table import Table
from xenlike import _core
from xenlike.abi import hypercall as hc
from xenlike.abi.grant_table import GnttabMapGrantRef
from xenlike.abi.sched import SHUTDOWN_reboot
from xenlike.abi.xen import DOMID_FIRST_RESERVED, VIRQ_DOM_EXC
from xenlike.hypervisor import events, hypervisor
from xenlike.hypervisor.errors import Refused
from xenlike.hypervisor.events import PortState

PRIVILEGED, SERVER, FIXED = (
    hc.XENLIKE_CREATE_PRIVILEGED,
    hc.XENLIKE_CREATE_STORE_SERVER,
    hc.XENLIKE_CREATE_FIXED_DOMID,
)
DEAD = hc.XENLIKE_DOMAIN_DEAD


# -- numbers --------------------------------------------------------------------------------------------------------


def test_numbers_come_round_only_after_all_others(table: Table) -> None:
    assert [table.create().domid for _ in range(3)] == [0, 1, 2]
    table.xen.destroy(table.xen.domains[1])
    assert table.create().domid == 3
    table.xen._next_domid = DOMID_FIRST_RESERVED - 1
    assert [table.create().domid for _ in range(2)] == [DOMID_FIRST_RESERVED - 1, 1]


def test_only_a_store_servers_successor_takes_a_dead_domains_number(table: Table) -> None:
    ordinary, server = table.create(), table.create(flags=SERVER | PRIVILEGED)
    for domain in (ordinary, server):
        with pytest.raises(Refused) as refused:
            table.create(flags=FIXED | SERVER, domid=domain.domid)
        assert refused.value.errno == errno.EEXIST
        table.xen.died(domain)
        assert domain.state == DEAD
    with pytest.raises(Refused):
        table.create(flags=FIXED | SERVER, domid=ordinary.domid)
    assert table.create(flags=FIXED | SERVER | PRIVILEGED, domid=server.domid).alive


def test_windows_for_a_store_server_outlive_it_and_others_do_not(table: Table) -> None:
    guest, server, peer = table.create(), table.create(flags=SERVER), table.create()
    kept = guest.pool.allocate(server.domid, 1, readonly=False)
    lost = guest.pool.allocate(peer.domid, 1, readonly=False)
    table.xen.died(server)
    table.xen.died(peer)
    assert (kept.revoked, lost.revoked) == (False, True)


# -- births ---------------------------------------------------------------------------------------------------------


class Shortage:
    """Lets so many resources be had, and then refuses."""

    def __init__(self, left: int) -> None:
        self.left = left

    def wrap(self, function: Callable[..., object]) -> Callable[..., object]:
        def limited(*args: object, **options: object) -> object:
            if self.left == 0:
                raise OSError(errno.EMFILE, "too many open files")
            self.left -= 1
            return function(*args, **options)

        return limited


@pytest.mark.parametrize("left", range(8))
def test_a_birth_that_fails_half_way_leaves_nothing(table: Table, monkeypatch, left: int) -> None:
    server = table.create()
    before, watched = sorted(os.listdir("/proc/self/fd")), len(table.watched)
    shortage = Shortage(left)
    monkeypatch.setattr(_core, "memfd_create", shortage.wrap(_core.memfd_create))
    monkeypatch.setattr(_core, "map_shared", shortage.wrap(_core.map_shared))
    monkeypatch.setattr(hypervisor, "_socket_pair", shortage.wrap(hypervisor._socket_pair))
    monkeypatch.setattr(events, "_pipe", shortage.wrap(events._pipe))
    with pytest.raises((Refused, OSError)) as refused:
        table.create(store=server.domid, console=server.domid)
    assert getattr(refused.value, "errno", 0) == errno.EMFILE
    monkeypatch.undo()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert list(table.xen.domains) == [server.domid]
    assert all(domain.socket.fileno() < 0 for domain in table.watched[watched:])
    assert table.create(store=server.domid, console=server.domid).alive


def test_a_domain_is_born_with_its_ring_pages_granted(table: Table) -> None:
    server = table.create()
    domain = table.create(store=server.domid, console=server.domid)
    for ref, pfn, number in ((1, domain.store_pfn, domain.store_port), (0, domain.console_pfn, domain.console_port)):
        assert _core.gnttab_get(domain.table.buffer, ref) == _core.GrantEntry(1, server.domid, pfn)
        port = domain.ports.get(number)
        assert (port.state, port.remote_domid) == (PortState.UNBOUND, server.domid)
        assert table.xen.bind_interdomain(server, domain.domid, number).remote_port == number


# -- deaths ---------------------------------------------------------------------------------------------------------


def test_the_death_interrupt_is_raised_at_every_step(table: Table) -> None:
    server = table.create(flags=PRIVILEGED)
    victim = table.create()
    _, rx = table.xen.bind_virq(server, VIRQ_DOM_EXC)

    def raised() -> bool:
        if not select.select([rx], [], [], 0)[0]:
            return False
        os.read(rx, 4096)
        return True

    assert raised()
    window = victim.pool.allocate(server.domid, 1, readonly=False)
    window.mapped = 1
    table.xen.shut_down(victim, SHUTDOWN_reboot)
    assert raised()
    assert (victim.state, victim.was_shut_down) == (hc.XENLIKE_DOMAIN_DYING, True)
    assert not raised()
    window.mapped = 0
    table.xen.bury_zombies({victim.domid})
    assert raised()
    assert victim.state == DEAD
    os.close(rx)


def test_a_death_is_idempotent_and_its_record_stays_until_it_was_read(table: Table) -> None:
    domain = table.create()
    for _ in range(2):
        table.xen.died(domain)
        assert (domain.state, domain.reaped) == (DEAD, False)
    assert domain.domid in table.xen.domains
    table.xen.shut_down(domain, SHUTDOWN_reboot)
    assert not domain.was_shut_down
    table.xen.destroy(domain)
    assert domain.domid not in table.xen.domains


def test_a_death_lets_go_of_socket_memory_and_resources(table: Table) -> None:
    domain = table.create()
    domain.resource_fd, domain.config = os.dup(0), os.dup(0)
    table.xen.died(domain)
    assert (domain.ram_fd, domain.table_fd, domain.resource_fd, domain.socket.fileno()) == (-1, -1, -1, -1)
    assert table.watched[-1] is domain


@given(ends=st.permutations(range(4)), pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_whoever_dies_first_all_are_buried(ends: list[int], pairs: list[tuple[int, int]]) -> None:
    """Domains map pages of each other and of themselves, and die in any order."""
    table = Table()
    domains = [table.create() for _ in range(4)]
    for ref, (granter, mapper) in enumerate(pairs, 8):
        owner, peer = domains[granter], domains[mapper]
        window = owner.pool.allocate(peer.domid, 1, readonly=False)
        _core.gnttab_set(owner.table.buffer, ref, peer.domid, window.pfn)
        operation = GnttabMapGrantRef(ref=ref, dom=owner.domid)
        table.xen.grants.map(peer, [operation])
        assert operation.status == 0
        port = table.xen.alloc_unbound(owner, peer.domid)
        table.xen.bind_interdomain(peer, owner.domid, port.number)
    living = set(range(4))
    for end in ends:
        table.xen.died(domains[end])
        living.discard(end)
        for at, domain in enumerate(domains):
            held = any(pair[0] == at and pair[1] in living for pair in pairs)
            expected = hc.XENLIKE_DOMAIN_RUNNING if at in living else hc.XENLIKE_DOMAIN_DYING if held else DEAD
            assert domain.state == expected
    table.close()


def test_a_domain_born_after_its_end_is_ended_and_reaped(table: Table) -> None:
    child = subprocess.Popen(["sleep", "30"])
    assert table.xen.born(5, child.pid) is None
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)
    child.wait()
