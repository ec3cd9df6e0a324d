"""Xen's own C xenstored, on a host without Xen: the oracle that ours is compared with.

Debian's package xen-utils-4.17 is downloaded and unpacked under `build/`, never installed: it would
want to manage a Xen host. `preload.c` answers the few calls that the daemon makes to Xen.
"""

from __future__ import annotations

import functools
import mmap
import os
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import FrameReader, frame
from xenlike.ring.stream import XenstoreStreams

PACKAGE = "xen-utils-4.17"
HERE = Path(__file__).parent
CACHE = HERE.parents[2] / "build" / PACKAGE
# A hang guard, not a measurement.
GUARD_S = 20

RUNNING, SHUTDOWN, DYING = 1, 2, 3
_VIRQ_PORT = 1


def unavailable(message: str) -> None:
    """Skips, or in CI fails: there nothing may go untested without a word."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@functools.cache
def _fetched() -> tuple[Path, str]:
    """Unpacks the package unless it lies there; returns its root and what went wrong."""
    root = CACHE / "root"
    if (root / "usr/lib/xen-4.17/bin/xenstored").exists():
        return root, ""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            return root, f"{PACKAGE} cannot be fetched: no {program} here"
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        scratch = Path(directory)
        done = _download(scratch)
        if done.returncode and os.geteuid() == 0:
            # The lists of packages may be absent or old.
            subprocess.run(["apt-get", "update"], capture_output=True, stdin=subprocess.DEVNULL)
            done = _download(scratch)
        packages = list(scratch.glob("*.deb"))
        if done.returncode or not packages:
            return root, f"{PACKAGE} cannot be downloaded: {done.stderr.strip()[-300:]}"
        unpacked = scratch / "root"
        subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(unpacked)], check=True)
        try:
            unpacked.rename(root)
        except OSError:
            # Another run was faster.
            if not root.exists():
                raise
    return root, ""


def _download(into: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "download", PACKAGE],
        cwd=into,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def xen_utils() -> Path:
    """Returns `/usr/lib/xen-4.17` of the unpacked package, or skips."""
    root, problem = _fetched()
    if problem:
        unavailable(problem)
    return root / "usr/lib/xen-4.17"


@functools.cache
def _preload() -> tuple[Path, str]:
    source = HERE / "preload.c"
    library = CACHE / "preload.so"
    if library.exists() and library.stat().st_mtime_ns > source.stat().st_mtime_ns:
        return library, ""
    fresh = library.with_name(f"preload.{os.getpid()}")
    done = subprocess.run(
        ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(fresh), str(source)], capture_output=True, text=True
    )
    if done.returncode:
        return library, f"preload.c does not compile (libxen-dev, gcc): {done.stderr[:500]}"
    fresh.rename(library)
    return library, ""


class Peer:
    """One client of a daemon: sends a message and waits for its answer, keeps events in order."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._events: list[tuple[bytes, ...]] = []
        self._next = 1

    def put(self, data: bytes) -> None:
        """Sends bytes, whatever they are."""
        raise NotImplementedError

    def get(self) -> bytes:
        """Waits for bytes.

        Raises:
            ConnectionError: there will be none.
        """
        raise NotImplementedError

    def send(self, kind: int, payload: bytes, tx: int = 0) -> bytes | str:
        """Returns the answer's payload, or the error's name as text."""
        req_id = self._next
        self._next += 1
        self.put(frame(kind, req_id, tx, payload))
        while True:
            got, echoed, tx_id, body = self.take()
            if got == xs.XS_WATCH_EVENT and echoed == 0:
                self._events.append(tuple(body.split(b"\0")))
                continue
            assert (echoed, tx_id) == (req_id, tx)
            if got == xs.XS_ERROR:
                return body[:-1].decode()
            assert got == kind
            return body

    def take(self) -> tuple[int, int, int, bytes]:
        """Waits for a message."""
        while (message := self._reader.take()) is None:
            self._reader.feed(self.get())
        return message

    def events(self) -> list[tuple[bytes, ...]]:
        """Returns the events since the last call: those that came before the answer to a question put now."""
        self.send(xs.XS_GET_DOMAIN_PATH, b"0\0")
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Leaves."""


class SocketPeer(Peer):
    """A tool."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(GUARD_S)
        self.socket.connect(str(path))

    def put(self, data: bytes) -> None:
        self.socket.sendall(data)

    def get(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the daemon has closed the connection")
        return data

    def close(self) -> None:
        self.socket.close()


class RingPeer(Peer):
    """A domain on its ring.

    Args:
        page: the store page, mapped.
        ring: sends the daemon an event.
        wait: waits for one of the daemon's.
    """

    def __init__(self, page: mmap.mmap, ring: Callable[[], None], wait: Callable[[], None]) -> None:
        super().__init__()
        self.page = page
        self.streams = XenstoreStreams(page)
        self._ring = ring
        self._wait = wait

    def put(self, data: bytes) -> None:
        while data:
            data = data[self.streams.requests.write(data) :]
            self._ring()
            if data:
                self._wait()

    def get(self) -> bytes:
        while not (data := self.streams.responses.read()):
            if self.streams.error:
                raise ConnectionError(f"error {self.streams.error}")
            self._wait()
        self._ring()
        return data

    def close(self) -> None:
        self.streams.close()
        self.page.close()


class Oracle:
    """A running C xenstored, and the world it believes in.

    Args:
        directory: empty, for this daemon alone.
        arguments: more of the daemon's options.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        daemon = xen_utils() / "bin/xenstored"
        library, problem = _preload()
        if problem:
            unavailable(problem)
        self._directory = directory
        self.socket_path = directory / "socket"
        states = directory / "domains"
        states.write_bytes(bytes(65536))
        with states.open("r+b") as file:
            self._states = mmap.mmap(file.fileno(), 65536)
        (directory / "port").write_text("7")
        self._make_page(0)
        self._states[0] = RUNNING
        self._events, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (directory / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(daemon), "-N", "-P", "-w", "watch-event=0", *arguments],
                env={
                    **os.environ,
                    "LD_PRELOAD": str(library),
                    "XENLIKE_ORACLE": str(directory),
                    "XENLIKE_ORACLE_EVENTS": str(theirs.fileno()),
                    "XENSTORED_RUNDIR": str(directory),
                    "XENSTORED_ROOTDIR": str(directory),
                },
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self._peers: list[Peer] = []
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self.close()
            unavailable(f"Xen's xenstored does not start: {(directory / 'stderr').read_text()[-500:]}")

    def tool(self) -> SocketPeer:
        """Returns a new connection to the socket."""
        peer = SocketPeer(self.socket_path)
        self._peers.append(peer)
        return peer

    def create(self, domid: int) -> None:
        """Lets there be a domain with a zeroed store page, not introduced yet."""
        self._make_page(domid)
        self._states[domid] = RUNNING

    def state(self, domid: int, state: int) -> None:
        """Lets a domain shut down, die or be gone, and the daemon be told of it."""
        self._states[domid] = state
        if not state:
            (self._directory / f"page-{domid}").unlink(missing_ok=True)
        self._send(_VIRQ_PORT)

    def ring(self, domid: int) -> RingPeer:
        """Returns a domain's end of its ring."""
        with (self._directory / f"page-{domid}").open("r+b") as file:
            page = mmap.mmap(file.fileno(), 4096)
        peer = RingPeer(page, lambda: self._send(_VIRQ_PORT + 1 + domid), self._wait)
        self._peers.append(peer)
        return peer

    def _make_page(self, domid: int) -> None:
        (self._directory / f"page-{domid}").unlink(missing_ok=True)
        (self._directory / f"page-{domid}").write_bytes(bytes(4096))

    def _send(self, port: int) -> None:
        self._events.send(port.to_bytes(4, "little"))

    def _wait(self) -> None:
        if not select.select([self._events], [], [], GUARD_S)[0]:
            raise TimeoutError("the oracle says nothing")
        if not self._events.recv(4):
            raise ConnectionError("the oracle has ended")

    def close(self) -> None:
        """Ends the daemon."""
        for peer in self._peers:
            peer.close()
        self._events.close()
        self._process.kill()
        self._process.wait(GUARD_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._states.close()
