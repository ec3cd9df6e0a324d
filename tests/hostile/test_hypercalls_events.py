"""Laws of event channels: who may bind, what the other end's death shows, and that nobody can block a notifier."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.hostile.raw import Raw, RawMachine, clear, readable
from xenlike.abi import event_channel as ev
from xenlike.abi import hypercall as hc
from xenlike.abi.xen import DOMID_SELF, VIRQ_DOM_EXC, VIRQ_TIMER

EVENTS = hc.HYPERVISOR_event_channel_op


def connect(one: Raw, other: Raw) -> tuple[int, list[int], int, list[int]]:
    """A channel: port and [rx, tx] of either end, with no event pending."""
    ret, port, near = one.alloc_unbound(other.domid)
    assert ret == 0
    ret, remote_port, far = other.bind(one.domid, port)
    assert ret == 0
    clear(far[0])
    return port, near, remote_port, far


def status(domain: Raw, port: int) -> tuple[int, int, int]:
    """State, remote domain, remote port."""
    ret, answer = domain.status(port)
    assert ret == 0
    if answer.status == ev.EVTCHNSTAT_interdomain:
        return answer.status, answer.u.interdomain.dom, answer.u.interdomain.port
    return answer.status, answer.u.unbound.dom if answer.status == ev.EVTCHNSTAT_unbound else 0, 0


def test_events_go_both_ways_and_a_new_port_has_one_pending(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    ret, port, near = one.alloc_unbound(other.domid)
    assert (ret, port) == (0, 1)
    assert not readable(near[0])
    assert status(one, port) == (ev.EVTCHNSTAT_unbound, other.domid, 0)
    ret, remote_port, far = other.bind(one.domid, port)
    assert ret == 0
    assert readable(far[0])
    assert not clear(far[0])
    assert not readable(far[0])
    os.write(near[1], b"\1")
    assert readable(far[0])
    os.write(far[1], b"\1")
    assert readable(near[0])
    assert status(one, port) == (ev.EVTCHNSTAT_interdomain, other.domid, remote_port)
    assert status(other, remote_port) == (ev.EVTCHNSTAT_interdomain, one.domid, port)


def test_what_was_notified_before_the_peer_bound_is_not_lost(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    _, port, near = one.alloc_unbound(other.domid)
    os.write(near[1], b"\1")
    _, _, far = other.bind(one.domid, port)
    assert readable(far[0])


def test_a_peer_that_reads_nothing_blocks_nobody(xen: RawMachine) -> None:
    """A full pipe is an event that is pending already."""
    one, other = xen.domain(), xen.domain()
    _, near, _, far = connect(one, other)
    assert stat.S_ISFIFO(os.fstat(near[1]).st_mode)
    with pytest.raises(BlockingIOError):
        for _ in range(1 << 20):
            os.write(near[1], b"\1")
    os.set_blocking(far[0], True)
    with pytest.raises(BlockingIOError):
        os.write(near[1], b"\1")
    os.set_blocking(far[0], False)
    assert not clear(far[0])
    os.write(near[1], b"\1")


def test_only_whom_a_port_was_made_for_may_bind_it_and_only_once(xen: RawMachine) -> None:
    one, other, thief = xen.domain(), xen.domain(), xen.domain()
    _, port, _ = one.alloc_unbound(other.domid)
    assert thief.bind(one.domid, port)[0] == -errno.EINVAL
    assert one.bind(DOMID_SELF, port)[0] == -errno.EINVAL
    assert other.bind(one.domid, port)[0] == 0
    assert other.bind(one.domid, port)[0] == -errno.EINVAL
    assert thief.bind(one.domid, port)[0] == -errno.EINVAL


@pytest.mark.parametrize(("remote", "port", "error"), [(30000, 1, errno.ESRCH), (0, 0, errno.EINVAL)])
def test_there_is_nothing_to_bind(xen: RawMachine, remote: int, port: int, error: int) -> None:
    domain = xen.domain()
    assert domain.bind(remote, port)[0] == -error
    assert domain.bind(domain.domid, 0xFFFFFFFF)[0] == -errno.EINVAL


def test_a_domain_has_channels_to_itself(xen: RawMachine) -> None:
    domain = xen.domain()
    _, port, near = domain.alloc_unbound(DOMID_SELF)
    ret, other_port, far = domain.bind(DOMID_SELF, port)
    assert (ret, other_port) == (0, 2)
    clear(far[0])
    os.write(near[1], b"\1")
    assert readable(far[0])
    assert domain.close_port(port) == 0
    assert status(domain, other_port)[0] == ev.EVTCHNSTAT_unbound


def test_foreign_and_unknown_ports_do_nothing(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    for _ in range(3):
        one.alloc_unbound(other.domid)
    for port in (0, 1, 3, 4096, 0xFFFFFFFF):
        assert other.close_port(port) == -errno.EINVAL
        assert other.carrier(port) == (-errno.EINVAL, [])
        assert other.ask(EVENTS, ev.EVTCHNOP_send, ev.EvtchnSend(port))[0] == -errno.EINVAL
    assert status(other, 1)[0] == ev.EVTCHNSTAT_closed
    for port in (0, ev.EVTCHN_FIFO_NR_CHANNELS + 1, 0xFFFFFFFF):
        assert other.status(port)[0] == -errno.EINVAL
    assert [status(one, port)[0] for port in (1, 2, 3)] == [ev.EVTCHNSTAT_unbound] * 3


def test_sending_is_a_write_to_the_descriptor_and_no_hypercall(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    port, near, _, far = connect(one, other)
    assert one.ask(EVENTS, ev.EVTCHNOP_send, ev.EvtchnSend(port))[0] == -errno.EOPNOTSUPP
    assert not readable(far[0])
    assert near


def test_the_lowest_free_port_is_taken(xen: RawMachine) -> None:
    domain = xen.domain()
    assert [domain.alloc_unbound(0)[1] for _ in range(4)] == [1, 2, 3, 4]
    assert domain.close_port(2) == domain.close_port(3) == 0
    assert [domain.alloc_unbound(0)[1] for _ in range(3)] == [2, 3, 5]


# -- the end of a channel -------------------------------------------------------------------------------------------


def test_a_closed_end_hangs_up_the_other_which_is_unbound_again(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    port, near, remote_port, far = connect(one, other)
    assert other.close_port(remote_port) == 0
    for fd in far:
        os.close(fd)
    other.fds.clear()
    assert clear(near[0])
    with pytest.raises(BrokenPipeError):
        os.write(near[1], b"\1")
    assert status(one, port) == (ev.EVTCHNSTAT_unbound, other.domid, 0)
    assert status(other, remote_port)[0] == ev.EVTCHNSTAT_closed


def test_a_port_whose_peer_left_is_bound_again_with_fresh_descriptors(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    port, near, remote_port, _ = connect(one, other)
    assert one.carrier(port) == (-errno.EBUSY, [])
    other.close_port(remote_port)
    ret, fresh = one.carrier(port)
    assert ret == 0
    assert one.carrier(port) == (-errno.EBUSY, [])
    ret, again, far = other.bind(one.domid, port)
    assert ret == 0
    clear(far[0])
    os.write(fresh[1], b"\1")
    assert readable(far[0])
    os.write(far[1], b"\1")
    assert readable(fresh[0])
    assert not readable(near[0]) or clear(near[0])
    assert status(one, port) == (ev.EVTCHNSTAT_interdomain, other.domid, again)


def test_a_successor_that_binds_first_leaves_the_descriptors_to_be_fetched(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    port, _, remote_port, _ = connect(one, other)
    other.close_port(remote_port)
    ret, _, far = other.bind(one.domid, port)
    assert ret == 0
    ret, fresh = one.carrier(port)
    assert ret == 0
    os.write(far[1], b"\1")
    assert readable(fresh[0])
    assert one.carrier(port) == (-errno.EBUSY, [])


def test_a_reset_closes_every_port_of_its_caller_and_no_other(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    port, near, remote_port, _ = connect(one, other)
    kept, _, _, _ = connect(one, one)
    for _ in range(5):
        other.alloc_unbound(one.domid)
    argument = ev.EvtchnReset(DOMID_SELF)
    assert other.ask(EVENTS, ev.EVTCHNOP_reset, argument)[0] == 0
    info = xen.info(other.domid)
    assert info is not None
    assert info.nr_ports == 0
    assert status(other, remote_port)[0] == ev.EVTCHNSTAT_closed
    assert status(one, port)[0] == ev.EVTCHNSTAT_unbound
    assert status(one, kept)[0] == ev.EVTCHNSTAT_interdomain
    assert other.ask(EVENTS, ev.EVTCHNOP_reset, argument)[0] == 0
    assert other.alloc_unbound(0)[:2] == (0, 1)
    assert near


def test_a_death_closes_both_ends_of_every_channel(xen: RawMachine) -> None:
    one, other = xen.domain(), xen.domain()
    port, near, _, _ = connect(one, other)
    other.close()
    xen.wait_state(other.domid, hc.XENLIKE_DOMAIN_DEAD)
    assert clear(near[0])
    assert status(one, port) == (ev.EVTCHNSTAT_unbound, other.domid, 0)
    assert one.bind(other.domid, 1)[0] == -errno.ESRCH


# -- virtual interrupts ---------------------------------------------------------------------------------------------


def test_the_death_interrupt_is_for_privileged_domains_and_bound_once(xen: RawMachine) -> None:
    guest, server = xen.domain(), xen.domain(hc.XENLIKE_CREATE_PRIVILEGED)
    argument = ev.EvtchnBindVirq(VIRQ_DOM_EXC)
    assert guest.ask(EVENTS, ev.EVTCHNOP_bind_virq, argument)[0] == -errno.EPERM
    assert guest.ask(EVENTS, ev.EVTCHNOP_bind_virq, ev.EvtchnBindVirq(VIRQ_TIMER))[0] == -errno.EINVAL
    assert server.ask(EVENTS, ev.EVTCHNOP_bind_virq, ev.EvtchnBindVirq(VIRQ_DOM_EXC, vcpu=1))[0] == -errno.ENOENT
    ret, answer, (rx,) = server.ask(EVENTS, ev.EVTCHNOP_bind_virq, argument)
    assert ret == 0
    assert readable(rx), "a death before the binding must not be missed"
    assert server.ask(EVENTS, ev.EVTCHNOP_bind_virq, argument)[0] == -errno.EEXIST
    clear(rx)
    guest.close()
    xen.wait_state(guest.domid, hc.XENLIKE_DOMAIN_DEAD)
    assert readable(rx)
    state = server.status(answer.port)[1]
    assert (state.status, state.u.virq) == (ev.EVTCHNSTAT_virq, VIRQ_DOM_EXC)
    assert server.close_port(answer.port) == 0
    assert clear(rx)
    assert server.ask(EVENTS, ev.EVTCHNOP_bind_virq, argument)[0] == 0


def test_an_interrupt_that_nobody_takes_stops_nobody(xen: RawMachine) -> None:
    server = xen.domain(hc.XENLIKE_CREATE_PRIVILEGED)
    assert server.ask(EVENTS, ev.EVTCHNOP_bind_virq, ev.EvtchnBindVirq(VIRQ_DOM_EXC))[0] == 0
    for _ in range(20):
        guest = xen.domain()
        xen.destroy(guest.domid)
    assert server.alive()
