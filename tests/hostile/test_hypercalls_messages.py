"""Laws of messages: whatever a domain sends, it gets one answer, and nobody else notices."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.raw import HEAD, REPLY, Raw, RawMachine, entry
from xenlike.abi import event_channel as ev
from xenlike.abi import grant_table as gt
from xenlike.abi import hypercall as hc
from xenlike.abi import sched
from xenlike.abi.xen import DOMID_SELF, XENVER_version

GRANTS, EVENTS, XENLIKE = hc.HYPERVISOR_grant_table_op, hc.HYPERVISOR_event_channel_op, hc.HYPERVISOR_xenlike_op

# Every call that takes one structure, with its size.
ONE = [
    (hc.HYPERVISOR_sched_op, sched.SCHEDOP_shutdown, sched.SchedShutdown),
    (EVENTS, ev.EVTCHNOP_bind_interdomain, ev.EvtchnBindInterdomain),
    (EVENTS, ev.EVTCHNOP_bind_virq, ev.EvtchnBindVirq),
    (EVENTS, ev.EVTCHNOP_close, ev.EvtchnClose),
    (EVENTS, ev.EVTCHNOP_send, ev.EvtchnSend),
    (EVENTS, ev.EVTCHNOP_status, ev.EvtchnStatus),
    (EVENTS, ev.EVTCHNOP_alloc_unbound, ev.EvtchnAllocUnbound),
    (EVENTS, ev.EVTCHNOP_reset, ev.EvtchnReset),
    (GRANTS, gt.GNTTABOP_query_size, gt.GnttabQuerySize),
    (GRANTS, gt.GNTTABOP_set_version, gt.GnttabSetVersion),
    (GRANTS, gt.GNTTABOP_get_version, gt.GnttabGetVersion),
    (XENLIKE, hc.XENLIKE_ALLOC_WINDOW, hc.AllocWindow),
    (XENLIKE, hc.XENLIKE_FREE_WINDOW, hc.FreeWindow),
    (XENLIKE, hc.XENLIKE_REPLACE_WINDOW, hc.ReplaceWindow),
    (XENLIKE, hc.XENLIKE_SEAL_WINDOW, hc.SealWindow),
    (XENLIKE, hc.XENLIKE_EVTCHN_CARRIER, hc.EvtchnCarrier),
]
MANY = [
    (gt.GNTTABOP_map_grant_ref, gt.GnttabMapGrantRef),
    (gt.GNTTABOP_unmap_grant_ref, gt.GnttabUnmapGrantRef),
    (gt.GNTTABOP_copy, gt.GnttabCopy),
]


@pytest.mark.parametrize("length", range(HEAD.size))
def test_a_message_shorter_than_its_head_is_einval_with_tag_zero(xen: RawMachine, length: int) -> None:
    domain = xen.domain()
    if length == 0:
        # An empty message cannot be told from a hang-up.
        domain.send(b"")
        with pytest.raises(EOFError):
            domain.receive()
        return
    domain.send(b"\xff" * length)
    assert domain.receive()[:4] == (0, -errno.EINVAL, 0, b"")
    assert domain.alive()


@pytest.mark.parametrize(("op", "cmd"), [(0, 0), (0xFFFF, 0), (GRANTS, 99), (GRANTS, gt.GNTTABOP_setup_table), (12, 0)])
def test_an_unknown_operation_is_enosys(xen: RawMachine, op: int, cmd: int) -> None:
    domain = xen.domain()
    assert domain.call(op, cmd, bytes(64))[1:] == (-errno.ENOSYS, 0, b"", [])
    assert domain.alive()


@pytest.mark.parametrize(("op", "cmd", "kind"), ONE)
def test_a_structure_cut_short_or_counted_wrongly_is_einval(
    xen: RawMachine, op: int, cmd: int, kind: type[ev.EvtchnStatus]
) -> None:
    domain = xen.domain()
    size = kind.__layout__.size
    for payload, count in [
        (b"", 0),
        (b"", 1),
        (bytes(size - 1), 1),
        (bytes(size), 0),
        (bytes(2 * size), 2),
        (bytes(size), 0xFFFFFFFF),
    ]:
        assert domain.call(op, cmd, payload, count).ret == -errno.EINVAL
    assert domain.alive()


@pytest.mark.parametrize(("cmd", "kind"), MANY)
def test_a_batch_of_another_length_than_its_count_is_einval(
    xen: RawMachine, cmd: int, kind: type[gt.GnttabCopy]
) -> None:
    domain = xen.domain()
    size = kind.__layout__.size
    for payload, count in [
        (b"", 1),
        (bytes(size - 1), 1),
        (bytes(size + 1), 1),
        (bytes(size), 2),
        (bytes(size), 0),
        (b"", 0xFFFFFFFF),
        (bytes(size), 1 << 31),
    ]:
        reply = domain.call(GRANTS, cmd, payload, count)
        assert reply[1:] == (-errno.EINVAL, 0, b"", [])
    assert domain.call(GRANTS, cmd, b"", 0)[1:] == (0, 0, b"", [])


def test_more_than_a_message_holds_is_lost_and_the_rest_is_einval(xen: RawMachine) -> None:
    domain = xen.domain()
    size = gt.GnttabUnmapGrantRef.__layout__.size
    count = 8192 // size
    assert domain.call(GRANTS, gt.GNTTABOP_unmap_grant_ref, bytes(count * size), count).ret == -errno.EINVAL
    assert domain.alive()


def test_answers_come_in_the_order_of_the_calls_with_their_tags(xen: RawMachine) -> None:
    domain = xen.domain()
    tags = [0, 0xFFFFFFFF, 7, 7, 1]
    for tag in tags:
        domain.send(HEAD.pack(tag, hc.HYPERVISOR_xen_version, XENVER_version, 0, 0))
    assert [domain.receive().tag for _ in tags] == tags


def test_descriptors_that_a_guest_sends_are_closed(xen: RawMachine) -> None:
    """Only then does the pipe reach its end."""
    domain = xen.domain()
    read_end, write_end = os.pipe()
    domain.send(HEAD.pack(1, hc.HYPERVISOR_xen_version, XENVER_version, 0, 0), [write_end] * 64)
    os.close(write_end)
    assert domain.receive().ret > 0
    assert os.read(read_end, 1) == b""
    os.close(read_end)


DOMCTLS = [
    hc.XEN_DOMCTL_createdomain,
    hc.XEN_DOMCTL_destroydomain,
    hc.XEN_DOMCTL_unpausedomain,
    hc.XEN_DOMCTL_getdomaininfo,
]


@pytest.mark.parametrize("cmd", DOMCTLS)
def test_domctl_is_not_for_guests(xen: RawMachine, cmd: int) -> None:
    domain = xen.domain()
    assert domain.call(hc.HYPERVISOR_domctl, cmd, bytes(256))[1:] == (-errno.EPERM, 0, b"", [])


def test_a_privileged_server_may_only_look(xen: RawMachine) -> None:
    server = xen.domain(how=hc.XENLIKE_CREATE_PRIVILEGED)
    ret, info, _ = server.ask(hc.HYPERVISOR_domctl, hc.XEN_DOMCTL_getdomaininfo, hc.GetDomainInfo(domid=server.domid))
    assert (ret, info.domid, info.state) == (0, server.domid, hc.XENLIKE_DOMAIN_RUNNING)
    for cmd in DOMCTLS[:-1]:
        assert server.call(hc.HYPERVISOR_domctl, cmd, bytes(256)).ret == -errno.EPERM


def test_a_guest_ends_nobody_else(xen: RawMachine) -> None:
    attacker, victim = xen.domain(), xen.domain()
    for target in (0, victim.domid, attacker.domid):
        argument = sched.SchedRemoteShutdown(target, sched.SHUTDOWN_crash)
        ret, _, _ = attacker.ask(hc.HYPERVISOR_sched_op, sched.SCHEDOP_remote_shutdown, argument)
        assert ret == -errno.EPERM
    assert victim.alive()


def test_a_shutdown_with_a_reason_that_xen_does_not_have_is_einval(xen: RawMachine) -> None:
    domain = xen.domain()
    for reason in (sched.SHUTDOWN_MAX + 1, 0xFF, 0xFFFFFFFF):
        ret, _, _ = domain.ask(hc.HYPERVISOR_sched_op, sched.SCHEDOP_shutdown, sched.SchedShutdown(reason))
        assert ret == -errno.EINVAL
    assert domain.alive()


def test_one_domain_cannot_ask_in_anothers_name(xen: RawMachine) -> None:
    attacker, victim = xen.domain(), xen.domain()
    ret, port, _ = victim.alloc_unbound(0)
    assert ret == 0
    assert attacker.status(port, victim.domid)[0] == -errno.EPERM
    assert attacker.alloc_unbound(attacker.domid, dom=victim.domid)[0] == -errno.EPERM
    assert attacker.ask(EVENTS, ev.EVTCHNOP_reset, ev.EvtchnReset(victim.domid))[0] == -errno.EPERM
    assert attacker.ask(GRANTS, gt.GNTTABOP_query_size, gt.GnttabQuerySize(victim.domid))[0] == -errno.EPERM
    assert victim.status(port)[1].status == ev.EVTCHNSTAT_unbound


# -- flooding -------------------------------------------------------------------------------------------------------


def test_a_domain_that_does_not_read_its_answers_is_ended_and_no_other(xen: RawMachine) -> None:
    flood, other = xen.domain(), xen.domain()
    message = HEAD.pack(1, hc.HYPERVISOR_xen_version, XENVER_version, 0, 0)
    sent = 0
    with pytest.raises(ConnectionError):
        while sent < 1 << 20:
            flood.send(message)
            sent += 1
            if not sent % 100:
                assert other.alive()
    info = xen.wait_state(flood.domid, hc.XENLIKE_DOMAIN_DEAD)
    assert not info.was_shut_down
    assert other.alive()


def test_answers_full_of_descriptors_that_nobody_reads_end_their_domain_and_no_other(xen: RawMachine) -> None:
    """Descriptors in flight count against the hypervisor's user, so they must not pile up."""
    flood, other = xen.domain(how=hc.XENLIKE_CREATE_ADOPT), xen.domain()
    ports = 120
    calls = entry(EVENTS, ev.EVTCHNOP_alloc_unbound, ev.EvtchnAllocUnbound(DOMID_SELF, 0).pack()) * ports
    close = b"".join(entry(EVENTS, ev.EVTCHNOP_close, ev.EvtchnClose(port).pack()) for port in range(1, ports + 1))
    with pytest.raises(ConnectionError):
        for _ in range(10000):
            flood.send(HEAD.pack(1, hc.HYPERVISOR_multicall, 0, ports, 0) + calls)
            flood.send(HEAD.pack(2, hc.HYPERVISOR_multicall, 0, ports, 0) + close)
    xen.wait_state(flood.domid, hc.XENLIKE_DOMAIN_DEAD)
    assert other.alive()


# -- anything at all ------------------------------------------------------------------------------------------------

OPERATIONS = [(op, cmd) for op, cmd, _ in ONE[1:]] + [(GRANTS, cmd) for cmd, _ in MANY]
OPERATIONS += [(hc.HYPERVISOR_multicall, 0), (XENLIKE, hc.XENLIKE_BOOTSTRAP), (XENLIKE, hc.XENLIKE_GET_CONFIG)]
u32 = st.one_of(st.integers(0, 12), st.sampled_from([0x7FF0, 0x7FF4, 0x800000, 1 << 31, 0xFFFFFFFF]))
words = st.lists(u32, max_size=24).map(lambda numbers: struct.pack(f"<{len(numbers)}I", *numbers))
call = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 4), st.one_of(words, st.binary(max_size=200)))


@pytest.fixture(scope="module")
def pair(_running: list[RawMachine]) -> Iterator[tuple[RawMachine, Raw]]:
    machine = RawMachine()
    yield machine, machine.domain()
    machine.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(call, max_size=30))
def test_whatever_is_sent_is_answered_once_and_harms_nobody(
    pair: tuple[RawMachine, Raw], calls: list[tuple[tuple[int, int], int, bytes]]
) -> None:
    machine, witness = pair
    domain = machine.domain()
    for (op, cmd), count, payload in calls:
        reply = domain.call(op, cmd, payload, count)
        assert reply.ret >= -200
        assert reply.ret >= 0 or not reply.fds
    assert domain.alive()
    assert witness.alive()
    domain.close()
    machine.domains.remove(domain)
    machine.destroy(domain.domid)
    machine.wait_gone(domain.domid)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.binary(min_size=1, max_size=4096), max_size=20))
def test_noise_is_answered_once_and_harms_nobody(pair: tuple[RawMachine, Raw], messages: list[bytes]) -> None:
    machine, witness = pair
    domain = machine.domain()
    for message in messages:
        domain.send(message)
        reply = domain.receive()
        assert reply.tag == (int.from_bytes(message[:4], "little") if len(message) >= HEAD.size else 0)
    assert domain.alive()
    assert witness.alive()
    domain.close()
    machine.domains.remove(domain)
    machine.destroy(domain.domid)
    machine.wait_gone(domain.domid)


# -- multicall ------------------------------------------------------------------------------------------------------


def multicall(domain: Raw, *entries: bytes, count: int | None = None) -> tuple[int, list[tuple[int, bytes]], list[int]]:
    """Returns the whole's result, the entries' results and bodies, and the descriptors."""
    reply = domain.call(hc.HYPERVISOR_multicall, 0, b"".join(entries), len(entries) if count is None else count)
    results, at = [], 0
    size = hc.MulticallEntry.__layout__.size
    for _ in range(reply.structs):
        head = hc.MulticallEntry.unpack(reply.body, at)
        results.append((head.ret, reply.body[at + size : at + size + head.length]))
        at += size + head.length
    assert at == len(reply.body)
    return reply.ret, results, reply.fds


def unbound(remote: int = 0) -> bytes:
    return entry(EVENTS, ev.EVTCHNOP_alloc_unbound, ev.EvtchnAllocUnbound(DOMID_SELF, remote).pack())


VERSION = entry(hc.HYPERVISOR_xen_version, XENVER_version, count=0)


def ports(domain: Raw, machine: RawMachine) -> int:
    info = machine.info(domain.domid)
    assert info is not None
    return info.nr_ports


def test_a_multicall_goes_on_after_a_call_that_fails(xen: RawMachine) -> None:
    domain = xen.domain()
    bad = entry(EVENTS, ev.EVTCHNOP_close, ev.EvtchnClose(77).pack())
    ret, results, fds = multicall(domain, unbound(), bad, entry(99, 0), VERSION, unbound())
    assert ret == 0
    assert [result for result, _ in results] == [0, -errno.EINVAL, -errno.ENOSYS, 4 << 16 | 17, 0]
    assert len(fds) == 4
    assert [ev.EvtchnAllocUnbound.unpack(results[at][1]).port for at in (0, 4)] == [1, 2]


def test_descriptors_of_a_multicall_follow_one_another(xen: RawMachine) -> None:
    granter, mapper = xen.domain(), xen.domain()
    pfn, memory = granter.window(mapper.domid)
    granter.grant(8, mapper.domid, pfn)
    memory[:5] = b"hello"
    map_one = entry(GRANTS, gt.GNTTABOP_map_grant_ref, gt.GnttabMapGrantRef(flags=2, ref=8, dom=granter.domid).pack())
    _, results, fds = multicall(mapper, unbound(), map_one, unbound())
    assert gt.GnttabMapGrantRef.unpack(results[1][1]).status == gt.GNTST_okay
    assert len(fds) == 5
    assert os.pread(fds[2], 5, 0) == b"hello"
    assert [stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in fds] == [True, True, False, True, True]


@pytest.mark.parametrize("inner", [hc.HYPERVISOR_multicall, hc.HYPERVISOR_domctl])
def test_a_multicall_holds_no_multicall_and_no_domctl(xen: RawMachine, inner: int) -> None:
    for caller in (xen.domain(), xen.dom0):
        _, results, _ = multicall(
            caller, entry(inner, 0, VERSION), entry(inner, hc.XEN_DOMCTL_createdomain, bytes(200))
        )
        assert [result for result, _ in results] == [-errno.ENOSYS] * 2


@pytest.mark.parametrize(
    ("entries", "count"),
    [
        ([unbound(), VERSION[:-1]], 2),  # cut off
        ([unbound()], 2),  # fewer than counted
        ([unbound(), VERSION], 1),  # more than counted
        ([unbound()], 0xFFFFFFFF),
        ([unbound(), entry(EVENTS, ev.EVTCHNOP_close, bytes(4), length=5)], 2),
        ([unbound(), entry(EVENTS, ev.EVTCHNOP_close, bytes(4), length=0xFFFFFFFF)], 2),
        ([unbound(), entry(EVENTS, ev.EVTCHNOP_close, bytes(8), length=4)], 2),
    ],
)
def test_a_malformed_multicall_is_einval_and_nothing_of_it_was_done(
    xen: RawMachine, entries: list[bytes], count: int
) -> None:
    domain = xen.domain()
    assert multicall(domain, *entries, count=count) == (-errno.EINVAL, [], [])
    assert ports(domain, xen) == 0


def test_a_multicall_whose_answer_does_not_fit_is_e2big(xen: RawMachine) -> None:
    domain = xen.domain()
    most = (4096 - HEAD.size) // len(unbound())
    assert 2 * most > hc.XENLIKE_MAX_FDS
    assert multicall(domain, *[unbound()] * most) == (-errno.E2BIG, [], [])
    talkative = xen.domain(config={"words": "x" * 100})
    configuration = entry(XENLIKE, hc.XENLIKE_GET_CONFIG, count=0)
    assert multicall(talkative, *[configuration] * 50) == (-errno.E2BIG, [], [])
    assert domain.alive()


def test_a_shutdown_inside_a_multicall_ends_it(xen: RawMachine) -> None:
    domain = xen.domain()
    end = entry(hc.HYPERVISOR_sched_op, sched.SCHEDOP_shutdown, sched.SchedShutdown(sched.SHUTDOWN_reboot).pack())
    message = unbound() + unbound() + end + VERSION
    domain.send(HEAD.pack(1, hc.HYPERVISOR_multicall, 0, 4, 0) + message)
    with pytest.raises(EOFError):
        domain.receive()
    info = xen.wait_state(domain.domid, hc.XENLIKE_DOMAIN_DEAD)
    assert (info.was_shut_down, info.shutdown_reason) == (1, sched.SHUTDOWN_reboot)


def test_an_empty_multicall_does_nothing(xen: RawMachine) -> None:
    assert multicall(xen.domain()) == (0, [], [])


def test_the_answer_has_the_calls_form(xen: RawMachine) -> None:
    """Head and reply of 16 bytes each, as the documentation draws them."""
    assert HEAD.size == hc.Hypercall.__layout__.size == 16
    assert REPLY.size == hc.HypercallReply.__layout__.size == 16
    domain = xen.domain()
    domain.send(HEAD.pack(0xABCD1234, hc.HYPERVISOR_xen_version, XENVER_version, 0, 0))
    assert domain.sock.recv(4096, socket.MSG_PEEK) == REPLY.pack(0xABCD1234, 4 << 16 | 17, 0, 0)
    assert domain.receive().ret == 4 << 16 | 17
