"""The daemon as a process of its own: its command line, its log, and being killed in mid-work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xenlike.domain.store_sync import SyncStore
from xenlike.errors import PeerGone

GUARD_S = 30


class Daemon:
    """`python -m xenlike.xenstored`, ready when this returns."""

    def __init__(self, path: Path, *options: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xenlike.xenstored", "--socket", str(path), *options, "-v"],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        assert self.process.stderr is not None
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if "ready" in line:
                return
        raise AssertionError(f"did not start: {self.said}")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=GUARD_S)

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=GUARD_S)
        return self.process.returncode


@pytest.fixture
def path(tmp_path):
    return tmp_path / "socket"


def test_it_serves_and_cleans_up(path):
    daemon = Daemon(path)
    with SyncStore(path) as store:
        store.write("/a", "1")
        assert store.read("/a") == "1"
    assert daemon.stop() == 0
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_order(path, number):
    daemon = Daemon(path)
    with SyncStore(path):
        daemon.process.send_signal(number)
        _, errors = daemon.process.communicate(timeout=GUARD_S)
    assert daemon.process.returncode == 0
    assert "Traceback" not in errors
    assert not path.exists()


def test_a_second_daemon_is_refused_and_the_first_goes_on(path):
    daemon = Daemon(path)
    second = subprocess.run(
        [sys.executable, "-m", "xenlike.xenstored", "--socket", str(path)],
        capture_output=True,
        text=True,
        timeout=GUARD_S,
    )
    assert second.returncode == 1
    assert "another xenstored" in second.stderr
    with SyncStore(path) as store:
        assert store.exists("/tool")
    assert daemon.stop() == 0


def test_what_a_killed_daemon_left_is_taken_over(path):
    Daemon(path).kill()
    assert path.exists()
    daemon = Daemon(path)
    with SyncStore(path) as store:
        assert store.exists("/tool")
    assert daemon.stop() == 0


def test_bad_arguments_are_told(path, tmp_path):
    def run(*options):
        return subprocess.run(
            [sys.executable, "-m", "xenlike.xenstored", *options], capture_output=True, text=True, timeout=GUARD_S
        )

    assert run().returncode == 2
    nowhere = run("--socket", str(tmp_path / "none" / "socket"))
    assert nowhere.returncode == 1
    assert "No such file" in nowhere.stderr
    other = tmp_path / "other"
    other.write_text("something else")
    refused = run("--socket", str(path), "--log", str(other))
    assert refused.returncode == 1
    assert "store's log" in refused.stderr
    assert other.read_text() == "something else"
    for done in (nowhere, refused):
        assert "Traceback" not in done.stderr


def test_a_log_in_a_file_survives(path, tmp_path):
    log = tmp_path / "log"
    for number in range(3):
        daemon = Daemon(path, "--log", str(log))
        with SyncStore(path) as store:
            assert store.ls("/") == ["tool", *(f"run-{earlier}" for earlier in range(number))]
            store.write(f"/run-{number}", "")
        daemon.kill()


def test_two_daemons_cannot_write_one_log(path, tmp_path):
    log = tmp_path / "log"
    daemon = Daemon(path, "--log", str(log))
    command = [sys.executable, "-m", "xenlike.xenstored", "--socket", str(tmp_path / "other"), "--log", str(log)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S)
    assert second.returncode == 1
    assert "another xenstored writes this log" in second.stderr
    assert not (tmp_path / "other").exists()
    assert daemon.stop() == 0


def test_the_command_keeps_a_log_too(path, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "xenlike.cli", "-v", "xenstored", "--socket", str(path), "--log", str(log)]
    for number in range(2):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                assert any("ready" in line for line in process.stderr)
                with SyncStore(path) as store:
                    assert store.get("/run") == (None if number == 0 else "0")
                    store.write("/run", number)
            finally:
                process.kill()
    log.write_text("something else")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S)
    assert refused.returncode == 2
    assert f"{log}: log: neither empty nor a store's log" in refused.stderr
    assert "Traceback" not in refused.stderr


class Load:
    """Clients that write as fast as they can until the daemon is gone, and know what it acknowledged.

    Args:
        path: the daemon's socket.
        life: which daemon it is; values grow from one to the next.
        acknowledged: the last value of each node that the daemon said it has.
        tried: the last value that was sent.
    """

    def __init__(self, path: Path, life: int, acknowledged: dict[str, int], tried: dict[str, int]) -> None:
        self.path = path
        self.first = life * 1_000_000 + 1
        self.acknowledged = acknowledged
        self.tried = tried
        self.go = threading.Barrier(4)
        self.threads = [threading.Thread(target=self._client, args=(self._write, who)) for who in range(2)]
        self.threads.append(threading.Thread(target=self._client, args=(self._commit, 2)))

    def run_until(self, kill: Callable[[], None], requests: int) -> None:
        """Lets them work for as long as a fourth client takes for some requests, and kills."""
        for thread in self.threads:
            thread.start()
        with SyncStore(self.path) as store:
            self.go.wait(GUARD_S)
            for _ in range(requests):
                store.read("/tool")
        kill()
        for thread in self.threads:
            thread.join(GUARD_S)
            assert not thread.is_alive()

    def _client(self, work: Callable[[SyncStore, int, int], None], who: int) -> None:
        try:
            with SyncStore(self.path) as store:
                self.go.wait(GUARD_S)
                for value in range(self.first, self.first + 1_000_000):
                    work(store, who, value)
        except (PeerGone, OSError):
            pass

    def _write(self, store: SyncStore, who: int, value: int) -> None:
        name = f"/writer-{who}/{value % 37}"
        self.tried[name] = value
        store.write(name, value)
        self.acknowledged[name] = value

    def _commit(self, store: SyncStore, who: int, value: int) -> None:
        self.tried["/left"] = self.tried["/right"] = value
        with store.transaction() as tx:
            tx.write("/left", value)
            tx.write("/right", value)
        self.acknowledged["/left"] = self.acknowledged["/right"] = value


def test_nothing_that_was_acknowledged_is_lost_when_it_is_killed(path):
    """SIGKILL at seeded moments under load, and the same log for the next daemon."""
    seed = int(os.environ.get("XENLIKE_SEED") or random.randrange(1 << 30))
    print(f"XENLIKE_SEED={seed}")
    chance = random.Random(seed)
    log = os.memfd_create("log")
    acknowledged: dict[str, int] = {}
    tried: dict[str, int] = {}
    try:
        for life in range(10):
            daemon = Daemon(path, "--log-fd", str(log), pass_fds=(log,))
            with SyncStore(path) as store:
                for name, value in tried.items():
                    found = int(store.get(name, "0") or 0)
                    # What was on its way may have arrived or not; nothing else is possible.
                    assert found in (acknowledged.get(name, 0), value), (name, life)
                    acknowledged[name] = tried[name] = found
                # Two nodes of one transaction are of one age.
                assert store.get("/left") == store.get("/right")
            Load(path, life, acknowledged, tried).run_until(daemon.kill, chance.randrange(1, 300))
        assert len(acknowledged) > 20
    finally:
        os.close(log)
