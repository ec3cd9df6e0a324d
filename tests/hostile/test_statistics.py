"""A domain that lies in its recorder, and one that reaches for the named segment, which its user owns as well.

The hypervisor lives on and is not slowed, other domains' figures are right, and readers read or refuse.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.raw import HANG_GUARD_S, Raw, RawMachine
from xenlike.abi import hypercall as hc
from xenlike.abi import recorder as rec
from xenlike.abi.xen import DOMID_SELF
from xenlike.toolstack.paths import SHM
from xenlike.toolstack.statistics import DomainStatistics, Snapshot, Torn, parse

PLACE = rec.RecorderQueue.__layout__.size
ATTACKS = 20


def path_of(xen: RawMachine) -> Path:
    return SHM / xen.segment[1:]


def wait_for(xen: RawMachine, sequence: int) -> Snapshot:
    """Reads as readers do, until what was promised is there."""
    deadline = time.monotonic() + HANG_GUARD_S
    while time.monotonic() < deadline:
        try:
            with path_of(xen).open("rb") as file:
                found = parse(file.read(1 << 24))
        except (Torn, OSError):
            continue
        if found.sequence >= sequence:
            return found
        assert xen.process.poll() is None, "the hypervisor is dead"
    raise AssertionError(f"snapshot {sequence} never came")


def published(xen: RawMachine) -> dict[int, DomainStatistics]:
    return {domain.domid: domain for domain in wait_for(xen, xen.publish()).domains}


def recorder_of(domain: Raw) -> int:
    reply = domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_RECORDER, hc.RecorderOp(DOMID_SELF).pack())
    assert reply.ret == 0
    return reply.fds[0]


def honest(xen: RawMachine) -> Raw:
    """A domain with one ring that it tells the truth of."""
    domain = xen.domain()
    queue = rec.RecorderQueue(name=b"device/echo/0", in_use=1, nr_slots=8, prod=3, cons=1, pushed=3, popped=1)
    os.pwrite(recorder_of(domain), queue.pack(), rec.XENLIKE_RECORDER_QUEUES_AT)
    return domain


def assert_honest(found: DomainStatistics) -> None:
    [queue] = found.queues
    assert (queue.name, queue.requests, queue.responses, queue.in_flight) == ("device/echo/0", 3, 1, 2)


def test_only_domain_0_may_ask(xen: RawMachine) -> None:
    for domain in (xen.domain(), xen.domain(hc.XENLIKE_CREATE_PRIVILEGED)):
        reply = domain.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_PUBLISH, hc.Publish(1, 1).pack())
        assert reply.ret == -errno.EPERM


@pytest.mark.parametrize("payload", [b"", b"x", bytes(15)])
def test_a_malformed_wish_is_refused(xen: RawMachine, payload: bytes) -> None:
    assert xen.dom0.call(hc.HYPERVISOR_xenlike_op, hc.XENLIKE_PUBLISH, payload).ret == -errno.EINVAL


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.integers(0, 1 << 32))
def test_nonsense_in_a_recorder_deceives_nobody_about_others(xen: RawMachine, seed: int) -> None:
    liar, other = xen.domain(), honest(xen)
    fd = recorder_of(liar)
    os.pwrite(fd, random.Random(seed).randbytes(rec.XENLIKE_RECORDER_BYTES), 0)
    found = published(xen)
    assert_honest(found[other.domid])
    queues = found[liar.domid].queues
    assert len(queues) <= rec.XENLIKE_RECORDER_QUEUES
    assert all(queue.name.isprintable() for queue in queues)
    xen.clear()


def test_a_recorder_cannot_be_made_shorter_than_what_is_read_of_it(xen: RawMachine) -> None:
    domain = honest(xen)
    with pytest.raises(OSError, match="Operation not permitted"):
        os.truncate(recorder_of(domain), 0)
    assert_honest(published(xen)[domain.domid])


def test_the_hypervisor_answers_between_two_domains_of_a_snapshot(xen: RawMachine) -> None:
    """With all places of many domains in use, a hypercall is still answered; none of it takes a lease's share."""
    liars = [xen.domain() for _ in range(20)]
    for domain in liars:
        fd = recorder_of(domain)
        for number in range(rec.XENLIKE_RECORDER_QUEUES):
            os.pwrite(fd, b"\xff" * PLACE, rec.XENLIKE_RECORDER_QUEUES_AT + number * PLACE)
    sequence = xen.publish(20, 5000)
    for _ in range(200):
        assert liars[0].alive()
    found = wait_for(xen, sequence)
    assert sum(len(domain.queues) for domain in found.domains) == 20 * rec.XENLIKE_RECORDER_QUEUES


def shrink(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    os.truncate(path, 1 << 40)


def scribble(path: Path) -> None:
    os.chmod(path, 0o600)
    with path.open("r+b") as file:
        file.write(os.urandom(4096))


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"XLST" * 1000)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("attack", [shrink, grow, scribble, remove, replace, link, pipe])
def test_what_is_done_to_the_segment_is_undone_by_the_next_snapshot(
    xen: RawMachine, attack: Callable[[Path], None]
) -> None:
    domain = honest(xen)
    path = path_of(xen)
    for _ in range(ATTACKS):
        published(xen)
        attack(path)
        # Not by opening it: a pipe would be waited for.
        sequence = xen.publish()
        while not path.is_file() or path.is_symlink():
            assert xen.running
        assert_honest({each.domid: each for each in wait_for(xen, sequence).domains}[domain.domid])
    target = Path("/etc/passwd").read_bytes()
    assert not target.startswith(b"XLST")


def test_a_folder_in_its_place_costs_the_statistics_alone(xen: RawMachine) -> None:
    published(xen)
    path = path_of(xen)
    path.unlink()
    path.mkdir()
    try:
        xen.publish()
        for _ in range(100):
            assert xen.dom0.alive()
    finally:
        path.rmdir()
    published(xen)


def test_the_name_is_gone_with_the_hypervisor() -> None:
    xen = RawMachine()
    try:
        published(xen)
        path = path_of(xen)
        assert path.exists()
    finally:
        xen.close()
    assert not path.exists()
