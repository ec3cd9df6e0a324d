"""Laws of the domain table: zombies, quotas, a host without descriptors, and processes that misbehave."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.hostile.raw import PAGE, RawMachine
from xenlike.abi import event_channel as ev
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi import sched
from xenlike.abi.xen import DOMID_INVALID
from xenlike.domain.hypercalls import Hypercalls
from xenlike.errors import HypercallError

DEAD, DYING, RUNNING = hc.XENLIKE_DOMAIN_DEAD, hc.XENLIKE_DOMAIN_DYING, hc.XENLIKE_DOMAIN_RUNNING


# -- zombies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["hang up", "destroy", "shutdown"])
def test_a_dead_domain_keeps_its_number_and_pages_until_they_are_unmapped(xen: RawMachine, end: str) -> None:
    victim, mapper = xen.domain(), xen.domain()
    pfn, memory = victim.window(mapper.domid, 2)
    victim.window(mapper.domid)
    victim.grant(8, mapper.domid, pfn)
    memory[:4] = b"last"
    operations, (fd,) = mapper.map(victim.domid, 8)
    if end == "hang up":
        victim.close()
    elif end == "destroy":
        assert xen.destroy(victim.domid) == 0
    else:
        argument = sched.SchedRemoteShutdown(victim.domid, sched.SHUTDOWN_watchdog)
        assert xen.dom0.ask(hc.HYPERVISOR_sched_op, sched.SCHEDOP_remote_shutdown, argument)[0] == 0
    info = xen.wait_state(victim.domid, DYING)
    assert (info.nr_mapped, info.nr_windows, info.nr_ports) == (1, 1, 0)
    assert info.was_shut_down == (end == "shutdown")
    assert mmap.mmap(fd, 0)[:4] == b"last"

    assert mapper.map_status(victim.domid, 8) == gt.GNTST_bad_domain
    assert mapper.alloc(victim.domid) == -errno.ESRCH
    assert mapper.bind(victim.domid, 1)[0] == -errno.ESRCH
    assert xen.create(domid=victim.domid)[0] == -errno.EEXIST
    assert xen.domain().domid > victim.domid

    assert mapper.unmap(operations[0].handle) == [gt.GNTST_okay]
    if end == "destroy":
        xen.wait_gone(victim.domid)
    else:
        assert xen.wait_state(victim.domid, DEAD).nr_windows == 0
        assert xen.destroy(victim.domid) == 0
        xen.wait_gone(victim.domid)


def test_a_zombie_is_buried_when_its_last_mapper_dies(xen: RawMachine) -> None:
    victim, one, other = xen.domain(), xen.domain(), xen.domain()
    for ref, mapper in ((8, one), (9, other)):
        pfn, _ = victim.window(mapper.domid)
        victim.grant(ref, mapper.domid, pfn)
        mapper.map(victim.domid, ref)
    victim.close()
    assert xen.wait_state(victim.domid, DYING).nr_windows == 2
    one.close()
    xen.wait_state(one.domid, DEAD)
    info = xen.info(victim.domid)
    assert info is not None
    assert (info.state, info.nr_windows) == (DYING, 1)
    other.close()
    xen.wait_state(victim.domid, DEAD)


def test_two_zombies_that_map_each_other_are_both_buried(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    for granter, mapper in ((one, other), (other, one)):
        pfn, _ = granter.window(mapper.domid)
        granter.grant(8, mapper.domid, pfn)
        mapper.map(granter.domid, 8)
    one.close()
    other.close()
    xen.wait_state(one.domid, DEAD)
    xen.wait_state(other.domid, DEAD)


def test_a_domain_that_maps_itself_leaves_no_zombie(xen: RawMachine) -> None:
    domain = xen.domain()
    pfn, _ = domain.window(domain.domid)
    domain.grant(8, domain.domid, pfn)
    assert domain.map_status(domain.domid, 8) == gt.GNTST_okay
    domain.close()
    xen.wait_state(domain.domid, DEAD)


def test_a_dead_peers_windows_are_for_nobody(xen: RawMachine) -> None:
    """Its number may come again one day, with another domain behind it."""
    granter, peer = xen.domain(), xen.domain(hc.XENLIKE_CREATE_PRIVILEGED)
    pfn, _ = granter.window(peer.domid)
    granter.grant(8, peer.domid, pfn)
    peer.close()
    xen.destroy(peer.domid)
    xen.wait_gone(peer.domid)
    ret, argument, (fd,) = xen.create(domid=peer.domid)
    assert (ret, argument.domid) == (0, peer.domid)
    successor = xen.play(fd, argument.domid)
    assert successor.map_status(granter.domid, 8) == gt.GNTST_permission_denied
    assert granter.flags(8) == gt.GTF_permit_access


def test_numbers_are_not_used_again_soon(xen: RawMachine) -> None:
    seen = []
    for _ in range(5):
        domain = xen.domain()
        seen.append(domain.domid)
        domain.close()
        xen.destroy(domain.domid)
        xen.wait_gone(domain.domid)
    assert seen == sorted(set(seen))


def test_a_number_that_lives_cannot_be_asked_for(xen: RawMachine) -> None:
    domain = xen.domain()
    assert xen.create(domid=domain.domid)[0] == -errno.EEXIST
    assert xen.create(domid=0, how=hc.XENLIKE_CREATE_ADOPT | hc.XENLIKE_CREATE_FIXED_DOMID)[0] == -errno.EEXIST
    assert domain.alive()


# -- quotas ---------------------------------------------------------------------------------------------------------


def test_windows_are_counted(xen: RawMachine) -> None:
    domain = xen.domain(max_windows=3)
    assert [domain.alloc(0) for _ in range(5)] == [0, 0, 0, -errno.ENOSPC, -errno.ENOSPC]
    assert domain.free(0x800001) == 0
    assert domain.alloc(0) == 0


def test_pages_are_counted_and_found_where_they_are_free(xen: RawMachine) -> None:
    domain = xen.domain(pool_pages=8)
    assert domain.alloc(0, 9) == -errno.ENOMEM
    assert domain.alloc(0, 0xFFFFFFFF) == -errno.EINVAL
    assert domain.alloc(0, 0) == -errno.EINVAL
    assert [domain.alloc(0, 3) for _ in range(3)] == [0, 0, -errno.ENOMEM]
    assert domain.alloc(0, 2) == 0
    assert domain.alloc(0, 1) == -errno.ENOMEM
    assert domain.free(0x800003) == 0
    assert domain.alloc(0, 4) == -errno.ENOMEM
    assert domain.alloc(0, 3) == 0


def test_unbound_channels_are_counted_because_they_cost_descriptors(xen: RawMachine) -> None:
    domain, other = xen.domain(), xen.domain()
    made = 0
    while (ret := domain.alloc_unbound(other.domid)[0]) == 0:
        made += 1
    assert ret == -errno.ENOSPC
    assert 100 <= made <= 1000
    assert other.alloc_unbound(0)[0] == 0
    assert other.bind(domain.domid, 1)[0] == 0
    assert domain.alloc_unbound(other.domid)[0] == 0


def test_channels_renewed_after_a_death_are_counted_too(xen: RawMachine) -> None:
    """Else two domains together could make the hypervisor hold descriptors without end."""
    domain, accomplice = xen.domain(), xen.domain()
    count = 300
    for port in range(1, count + 1):
        assert domain.alloc_unbound(accomplice.domid)[:2] == (0, port)
        assert accomplice.bind(domain.domid, port)[0] == 0
    accomplice.close()
    xen.wait_state(accomplice.domid, DEAD)
    results = [domain.carrier(port)[0] for port in range(1, count + 1)]
    assert set(results) == {0, -errno.ENOSPC}
    # A refusal takes nothing away: with room again, it works.
    refused = results.index(-errno.ENOSPC) + 1
    for port in range(1, refused):
        domain.close_port(port)
    assert domain.carrier(refused)[0] == 0


def test_a_domain_too_small_or_too_large_is_refused(xen: RawMachine) -> None:
    for nr_pages, pool_pages in ((0, 1), (1 << 40, 1), (1, 1 << 40)):
        assert xen.create(nr_pages=nr_pages, pool_pages=pool_pages)[0] == -errno.EINVAL


def test_createdomain_wants_the_descriptors_that_it_names(xen: RawMachine) -> None:
    argument = hc.CreateDomain(nr_pages=4, store_domid=0x7FF4, console_domid=0x7FF4, name=b"raw")
    read_end, write_end = os.pipe()
    for flags, fds, length in [
        (hc.XENLIKE_CREATE_ADOPT, [write_end], 0),
        (hc.XENLIKE_CREATE_ADOPT | hc.XENLIKE_CREATE_RESOURCE, [], 0),
        (hc.XENLIKE_CREATE_ADOPT, [], hc.XENLIKE_CONFIG_IN_FD),
        (hc.XENLIKE_CREATE_ADOPT | hc.XENLIKE_CREATE_STDIO, [write_end, write_end], 0),
        (hc.XENLIKE_CREATE_ADOPT, [], 1),
    ]:
        argument.flags, argument.config_length = flags, length
        reply = xen.dom0.call(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_createdomain, argument.pack(), fds=fds)
        assert reply[1:] == (-errno.EINVAL, 0, b"", [])
    os.close(write_end)
    assert os.read(read_end, 1) == b""
    os.close(read_end)


# -- a host without descriptors -------------------------------------------------------------------------------------


@pytest.fixture
def poor(xen: RawMachine) -> Iterator[RawMachine]:
    """A hypervisor that may have few descriptors more than it has."""
    xen.limit_descriptors(64)
    yield xen
    xen.limit_descriptors(1024)


def test_without_descriptors_calls_fail_cleanly_and_all_domains_go_on(poor: RawMachine) -> None:
    greedy, other = poor.domain(), poor.domain()
    windows = ports = 0
    while (ret := greedy.alloc(0)) == 0:
        windows += 1
    assert windows
    assert ret in (-errno.EMFILE, -errno.ENOSPC)
    while (ret := greedy.alloc_unbound(0)[0]) == 0:
        ports += 1
    assert ret == -errno.EMFILE
    while (ret := other.alloc(0)) == 0:
        windows += 1
    assert ret == -errno.EMFILE

    assert greedy.alive()
    assert other.alive()
    assert other.alloc_unbound(0)[0] == -errno.EMFILE
    for how in (hc.XENLIKE_CREATE_ADOPT, hc.XENLIKE_CREATE_FORK):
        for _ in range(3):
            assert poor.create(how=how)[0] == -errno.EMFILE
    argument = ev.EvtchnBindVirq(3)
    assert poor.dom0.ask(hc.HYPERVISOR_event_channel_op, ev.EVTCHNOP_bind_virq, argument)[0] in (
        -errno.EMFILE,
        -errno.EEXIST,
    )
    info = poor.info(greedy.domid)
    assert info is not None
    assert info.nr_ports == ports

    # What one gives back another can have.
    greedy.close()
    poor.wait_state(greedy.domid, DEAD)
    assert other.alloc(0) == 0
    assert poor.domain().alive()


def test_who_cannot_take_what_a_call_brings_takes_the_call_back(xen: RawMachine) -> None:
    """Else a peer would stay a zombie, or a port be lost, for nothing."""
    granter, client = xen.domain(), xen.domain()
    pfn, _ = granter.window(client.domid)
    granter.grant(8, client.domid, pfn)
    _, port, _ = granter.alloc_unbound(client.domid)
    calls = Hypercalls(client.sock)
    toolstack = Hypercalls(xen.dom0.sock)
    arguments = hc.CreateDomain(
        flags=hc.XENLIKE_CREATE_ADOPT, nr_pages=4, store_domid=DOMID_INVALID, console_domid=DOMID_INVALID, name=b"raw"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    room: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                room.append(os.dup(0))
        for attempt in (
            lambda: calls.map_grants([gt.GnttabMapGrantRef(flags=gt.GNTMAP_host_map, ref=8, dom=granter.domid)]),
            lambda: calls.alloc_window(0, 1, False),
            lambda: calls.alloc_unbound(0),
            lambda: calls.bind_interdomain(granter.domid, port),
            lambda: toolstack.create_domain(arguments, b""),
        ):
            for _ in range(2):
                with pytest.raises(HypercallError) as refused:
                    attempt()
                assert refused.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in room:
            os.close(fd)
    infos = toolstack.domain_infos()
    assert [info.domid for info in infos] == [0, granter.domid, client.domid]
    assert [(info.nr_mapped, info.nr_windows, info.nr_ports) for info in infos[1:]] == [(0, 1, 1), (0, 0, 0)]
    assert granter.flags(8) == gt.GTF_permit_access
    assert calls.bind_interdomain(granter.domid, port)[0] == 1


def test_a_read_only_window_without_descriptors_can_be_sealed_later(poor: RawMachine) -> None:
    granter, mapper = poor.domain(), poor.domain()
    pfn, memory = granter.window(mapper.domid, readonly=True, seal=False)
    granter.grant(8, mapper.domid, pfn)
    while granter.alloc_unbound(0)[0] == 0:
        pass
    assert granter.seal(pfn) == 0
    memory[:2] = b"ok"
    operations, (fd,) = mapper.map(granter.domid, 8, readonly=True)
    assert operations[0].status == gt.GNTST_okay
    assert os.pread(fd, 2, 0) == b"ok"


def test_a_birth_without_descriptors_is_a_crash_of_that_domain_only(xen: RawMachine) -> None:
    """The hypervisor hears of a child and cannot even open a descriptor for it."""
    other = xen.domain()
    first = xen.wait_state(xen.exec("true"), DEAD)
    assert (first.exit_code, first.was_shut_down) == (0, 0)
    (zygote,) = xen.children()
    os.kill(zygote, signal.SIGSTOP)
    try:
        domid = xen.exec("sleep", "1000")
        xen.limit_descriptors(3)
    finally:
        os.kill(zygote, signal.SIGCONT)
    info = xen.wait_state(domid, DEAD)
    assert (info.was_shut_down, info.shutdown_reason) == (1, sched.SHUTDOWN_crash)
    assert xen.children() == [zygote]
    assert other.alive()
    xen.limit_descriptors(1024)
    assert xen.wait_state(xen.exec("true"), DEAD).exit_code == 0


def test_a_zygote_that_cannot_be_started_again_costs_births_only(xen: RawMachine) -> None:
    other = xen.domain()
    xen.wait_state(xen.exec("true"), DEAD)
    (zygote,) = xen.children()
    os.kill(zygote, signal.SIGSTOP)
    owed = xen.exec("true")
    xen.limit_descriptors(3)
    os.kill(zygote, signal.SIGKILL)
    info = xen.wait_state(owed, DEAD)
    assert (info.was_shut_down, info.shutdown_reason) == (1, sched.SHUTDOWN_crash)
    xen.limit_descriptors(1024)
    assert xen.create(how=hc.XENLIKE_CREATE_FORK)[0] == -errno.ECHILD
    assert xen.children() == []
    assert other.alive()
    xen.expendable = True


# -- processes ------------------------------------------------------------------------------------------------------

FLOOD = """
import os, socket, struct
sock = socket.socket(fileno=int(os.environ["XENLIKE_HYPERCALL_FD"]))
while True:
    sock.send(struct.pack("<IHHII", 1, 17, 0, 0, 0))
"""
LIVE_ON = """
import os, signal
os.close(int(os.environ["XENLIKE_HYPERCALL_FD"]))
signal.pause()
"""


@pytest.mark.parametrize("program", [FLOOD, LIVE_ON], ids=["floods", "closes its socket and lives on"])
def test_a_process_that_is_no_domain_any_more_is_killed(xen: RawMachine, program: str) -> None:
    other = xen.domain()
    domid = xen.exec(sys.executable, "-I", "-S", "-c", program)
    info = xen.wait_state(domid, DEAD)
    assert (info.exit_code, info.was_shut_down) in ((-9, 0), (1, 0))
    assert info.exit_code == -9 or program is FLOOD
    assert other.alive()
    assert not os.path.exists(f"/proc/{info.pid}")


def test_a_domain_destroyed_before_its_birth_leaves_no_process(xen: RawMachine) -> None:
    for _ in range(5):
        domid = xen.exec("sleep", "1000")
        assert xen.destroy(domid) == 0
        xen.wait_gone(domid)
    # Births are reported in order: with this one done, the others are too.
    xen.wait_state(xen.exec("true"), DEAD)
    assert len(xen.children()) == 1


def test_a_paused_domain_begins_when_it_is_unpaused(xen: RawMachine) -> None:
    paused = hc.XENLIKE_CREATE_FORK | hc.XENLIKE_CREATE_PAUSED
    read_end, write_end = os.pipe()
    domids = []
    for _ in range(2):
        ret, argument, _ = xen.create(how=paused, config={"exec": ["echo", "begun"]}, stdio=write_end)
        assert ret == 0
        domids.append(argument.domid)
        info = xen.info(argument.domid)
        assert info is not None
        assert (info.state, info.pid) == (hc.XENLIKE_DOMAIN_BUILDING, 0)
    os.close(write_end)
    # One that never began lets go of what it was given, like any other.
    assert xen.destroy(domids[0]) == 0
    xen.wait_gone(domids[0])
    assert xen.unpause(domids[0]) == -errno.ESRCH
    assert xen.unpause(domids[1]) == 0
    assert xen.unpause(domids[1]) == -errno.EINVAL
    assert xen.wait_state(domids[1], DEAD).exit_code == 0
    assert xen.unpause(domids[1]) == -errno.EINVAL
    assert os.read(read_end, 100) == b"begun\n"
    assert os.read(read_end, 100) == b""
    os.close(read_end)
    assert xen.unpause(xen.domain().domid) == -errno.EINVAL


def test_shutdown_reasons_are_the_domains_word(xen: RawMachine) -> None:
    for reason in range(sched.SHUTDOWN_MAX + 1):
        domain = xen.domain()
        domain.send(xen_shutdown(reason))
        with pytest.raises(EOFError):
            domain.receive()
        info = xen.wait_state(domain.domid, DEAD)
        assert (info.was_shut_down, info.shutdown_reason) == (1, reason)


def xen_shutdown(reason: int) -> bytes:
    head = hc.Hypercall(1, hc.HYPERVISOR_sched_op, sched.SCHEDOP_shutdown, 1)
    return head.pack() + sched.SchedShutdown(reason).pack()


def test_a_large_configuration_is_handed_over_in_a_file(xen: RawMachine) -> None:
    memfd = os.memfd_create("config")
    os.write(memfd, b"x" * 10000)
    ours, theirs = os.pipe()
    flags = hc.XENLIKE_CREATE_ADOPT | hc.XENLIKE_CREATE_RESOURCE
    argument = hc.CreateDomain(
        flags=flags,
        nr_pages=4,
        store_domid=0x7FF4,
        console_domid=0x7FF4,
        config_length=hc.XENLIKE_CONFIG_IN_FD,
        name=b"raw",
    )
    reply = xen.dom0.call(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_createdomain, argument.pack(), fds=[memfd, theirs])
    assert reply.ret == 0
    for fd in (memfd, theirs):
        os.close(fd)
    domain = xen.play(reply.fds[0], hc.CreateDomain.unpack(reply.body).domid)
    reply = domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GET_CONFIG, count=0)
    assert (reply.ret, len(reply.fds)) == (hc.XENLIKE_CONFIG_MEMFD | hc.XENLIKE_CONFIG_RESOURCE, 2)
    assert os.pread(reply.fds[0], PAGE * 4, 0) == b"x" * 10000
    # The resource channel has one reader: it is not handed over twice.
    again = domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_GET_CONFIG, count=0)
    assert (again.ret, len(again.fds)) == (hc.XENLIKE_CONFIG_MEMFD, 1)
    domain.close()
    assert os.read(ours, 1) == b""
    os.close(ours)
