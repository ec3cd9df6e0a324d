"""What the Python half of the ring benchmark is made of: content, pairs of processes, links, peers, ratios."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.progress import Progress

from xenlike.benchmarks import runner
from xenlike.benchmarks.ring import batch, contest, payload, staged, trio_pair
from xenlike.benchmarks.ring.content import ENTRY, PERIOD, batches, entry, singles
from xenlike.benchmarks.ring.content import payload as make_payload
from xenlike.benchmarks.ring.link import Connection, Link, one_way, round_trips
from xenlike.benchmarks.ring.pair import Ends, Opener, Outcome, Side, run, two_cpus
from xenlike.benchmarks.ring.peers import missing, peers
from xenlike.benchmarks.ring.peers.peer import Peer
from xenlike.errors import MachineError

CPUS = (min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0)))
# Both on one CPU would poll for whole time slices.
needs_two = pytest.mark.skipif(CPUS[0] == CPUS[1], reason="needs two CPUs")
PEERS = [*peers(), staged.STAGED, staged.AT_ONCE]
PAYLOADS = [payload.GRANTED, *payload.ALWAYS, *(peer for peer in peers() if peer.name in payload.CARRIERS)]


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_no_two_entries_that_take_turns_are_equal() -> None:
    assert len({*singles(), *singles(len(singles()))}) == 2 * len(singles())
    for size in (32, 256):
        whole = b"".join(batches(size) + batches(size, PERIOD * size))
        assert len({whole[at : at + ENTRY] for at in range(0, len(whole), ENTRY)}) == 2 * PERIOD * size
    assert all(len(set(entry(number))) == ENTRY for number in (0, 1, 255, 256, 30_000))


@pytest.mark.parametrize("size", [1, 4096, 5000, 1 << 20])
def test_payloads_differ_from_each_other_and_from_page_to_page(size: int) -> None:
    contents = [make_payload(size, number) for number in range(20)]
    assert {len(content) for content in contents} == {size}
    assert size == 1 or len(set(contents)) == 20
    pages = {contents[3][at : at + 4096] for at in range(0, size, 4096)}
    assert len(pages) == -(-size // 4096)


def test_one_cpu_is_refused_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    with pytest.raises(MachineError, match="need two CPUs, and this one may use only CPU 3"):
        two_cpus()


@needs_two
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_whatever_is_put_is_got(peer: Peer) -> None:
    if why := missing(peer):
        pytest.skip(why)
    run(peer.name, staged.stream(peer), 300, CPUS, warm_up=30)
    if not peer.trips:
        return
    outcome = run(peer.name, staged.trips(peer), 20, CPUS)
    assert len(outcome.near) == 20
    assert outcome.ns >= sum(outcome.near) > 0


@needs_two
@pytest.mark.parametrize("peer", PAYLOADS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_payloads_arrive(peer: Peer, size: int) -> None:
    if why := missing(peer):
        pytest.skip(why)
    run(peer.name, payload.stream(peer, size), 12, CPUS, warm_up=2)
    run(peer.name, payload.trips(peer, size), 3, CPUS)


@needs_two
@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("way", [batch.ring_one_way, batch.ring_both_ways, batch.ring_with_events])
@pytest.mark.parametrize("layout", ["xen", "cacheline"])
def test_batches_arrive(way: batch.Way, layout: str, size: int) -> None:
    run("batch", way(layout, size), 100, CPUS, warm_up=10)


@needs_two
@pytest.mark.parametrize("spins", [True, False])
@pytest.mark.parametrize("ends", [trio_pair.rings, trio_pair.queues])
def test_trio_programs_answer_each_other(ends: Callable[..., Ends], spins: bool) -> None:
    assert len(run("trio", ends(spins=spins), 50, CPUS, warm_up=5).near) == 50


@contextmanager
def altered(_size: int) -> Generator[Connection]:
    """A pipe that changes a bit of the tenth message."""
    rx, tx = os.pipe()
    seen: list[bytes] = []

    def put(message: bytes) -> None:
        seen.append(message)
        os.write(tx, message if len(seen) != 10 else bytes([message[0] ^ 1]) + message[1:])

    link = Link(put, lambda: os.read(rx, ENTRY), waits=True)
    try:
        yield (lambda: link), (lambda: link)
    finally:
        os.close(rx)
        os.close(tx)


def test_a_message_that_was_changed_is_found_and_nobody_is_left() -> None:
    before = children()
    with pytest.raises(MachineError, match="is not what was sent"):
        run("altered", staged.stream(Peer("altered", altered)), 20, CPUS)
    assert children() == before


@contextmanager
def failing(_: object = None) -> Generator[tuple[Opener, Opener]]:
    """A near side that dies, and a far side that would wait for it for ever."""
    rx, tx = os.pipe()

    def wait(_: int) -> None:
        os.read(rx, 1)

    def die() -> Side:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    try:
        yield die, lambda: wait
    finally:
        os.close(rx)
        os.close(tx)


def test_a_side_that_dies_ends_the_run_and_the_other_side() -> None:
    before = children()
    with pytest.raises(MachineError, match="dying: a process ended"):
        run("dying", failing(), 1, CPUS)
    assert children() == before


def test_an_interrupted_run_leaves_no_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from contextlib import contextmanager\n"
        "from xenlike.benchmarks.ring.pair import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def side(count):\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"
        "    signal.pause()\n"
        "@contextmanager\n"
        "def ends():\n"
        "    yield (lambda: side), (lambda: side)\n"
        f"run('paused', ends(), 1, {CPUS!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def made(name: str, samples: list[float], stolen: list[float]) -> contest.Contestant:
    return contest.Contestant(name, "M/s", staged_ends, samples=samples, stolen=stolen)


def staged_ends() -> Ends:
    raise AssertionError("nothing is run")


def bench() -> runner.Bench:
    return runner.Bench(dataclasses.replace(runner.QUICK, ring_s=0.004), Progress(disable=True))


def test_a_ratio_is_formed_within_a_round_and_without_what_the_host_took() -> None:
    given = bench()
    games = contest.Contest(given, CPUS, 0.001)
    ours = made("ours", [10.0, 2.0, 30.0], [0.0, 0.5, 0.0])
    games.ratio("x", ours, made("theirs", [5.0, 4.0, 10.0], [0.0, 0.0, 0.0]))
    assert given.figures[0].samples == [2.0, 3.0]
    assert "in 1 of 3 rounds" in given.figures[0].note
    games.ratio("y", ours, made("theirs", [5.0, 4.0, 10.0], [1.0, 1.0, 1.0]))
    assert given.figures[1].samples == [2.0, 0.5, 3.0]
    games.ratio("z", ours, made("nobody", [], []))
    assert len(given.figures) == 2


def test_a_value_is_in_the_unit_of_its_figure() -> None:
    outcome = Outcome(ns=2_000, near=[3_000, 1_000, 2_000])
    contestant = made("a", [], [])
    contestant.steps, contestant.each = 4, 32
    assert contestant.value(outcome) == pytest.approx(64.0)
    assert dataclasses.replace(contestant, unit="GB/s").value(outcome) == pytest.approx(0.064)
    assert dataclasses.replace(contestant, unit="µs").value(outcome) == 2.0


@needs_two
def test_a_contest_fills_figures_round_by_round() -> None:
    given = bench()
    games = contest.Contest(given, CPUS, 0.001)
    trips = contest.Contestant("trips", "µs", lambda: staged.trips(staged.AT_ONCE), first_count=20)
    games.add(trips)
    games.measure("a contest", 2)
    [figure] = given.figures
    assert figure.name == "trips"
    assert len(figure.samples) == len(trips.p99s) == 2
    assert figure.p99 is not None
    assert games.best([trips]) is trips
    assert games.best([]) is None


def test_peers_are_named_when_they_are_not_there() -> None:
    absent = Peer("nobody's queue", altered, needs="no_such_module", package="no-such-package")
    assert missing(absent) == "not measured: no-such-package is not installed (pip install 'xenlike[peers]')"
    assert not missing(Peer("Python's own", altered))
    names = [peer.name for peer in peers()]
    assert len(set(names)) == len(names) >= 9


def test_links_that_return_at_once_are_asked_again() -> None:
    refusals: Iterator[bool] = iter([False, True] * 100)
    kept: list[bytes] = []

    def put(message: bytes) -> bool:
        taken = next(refusals)
        if taken:
            kept.append(message)
        return taken

    def get() -> bytes | None:
        if not kept or not next(refusals):
            return None
        return kept.pop(0)

    link = Link(put, get, waits=False)
    contents = [b"a", b"b", b"c"]
    with one_way(((lambda: link), (lambda: link)), contents) as (sender, receiver):
        sender()(4)
        receiver()(4)
    assert not kept
    with round_trips(((lambda: link), (lambda: link)), contents, contents) as (asker, _):
        took = asker()(3)
    assert isinstance(took, list)
    assert len(took) == 3
