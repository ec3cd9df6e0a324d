"""Programs of xen-utils-4.17, unmodified, against our daemon; what they print equals what they print with Xen's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.xenstore.oracle import GUARD_S, Oracle, unavailable, xen_utils

pytestmark = pytest.mark.interop

TESTS = [
    "read 1",
    "read 2000",
    "write 1",
    "write 2000",
    "dir",
    "rm node",
    "rm dir",
    "ta empty",
    "ta empty x",
    "ta rmw",
    "ta rmw x",
    "ta err",
]


@contextmanager
def our_daemon(directory: Path) -> Iterator[Path]:
    """Runs our daemon in a process of its own; yields its socket once it listens."""
    path = directory / "socket"
    command = [sys.executable, "-m", "xenlike.xenstored", "-v", "--socket", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        try:
            assert "ready" in daemon.stderr.readline()
            yield path
        finally:
            daemon.terminate()
            rest = daemon.stderr.read()
    assert (daemon.returncode, rest) == (0, "")


@contextmanager
def xens_daemon(directory: Path) -> Iterator[Path]:
    """Runs Xen's daemon; yields its socket."""
    oracle = Oracle(directory)
    try:
        yield oracle.socket_path
    finally:
        oracle.close()


@pytest.fixture
def ours(tmp_path):
    with our_daemon(tmp_path) as path:
        yield path


def environment(path: Path) -> dict[str, str]:
    return {**os.environ, "XENSTORED_PATH": str(path), "XENSTORED_RUNDIR": str(path.parent)}


def run_test_xenstore(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(xen_utils() / "bin/test-xenstore"), *arguments]
    return subprocess.run(command, env=environment(path), capture_output=True, text=True, timeout=90)


def test_every_case_is_known():
    done = run_test_xenstore(Path("/nowhere/socket"), "-l")
    assert [line.partition(":")[0].strip() for line in done.stdout.splitlines()] == TESTS


@pytest.mark.parametrize("case", TESTS)
def test_test_xenstore(ours, case):
    done = run_test_xenstore(ours, "-i", "20", "-t", case)
    assert done.returncode == 0, done
    assert done.stderr == ""


@pytest.mark.slow
def test_test_xenstore_at_random(ours):
    done = run_test_xenstore(ours, "-r", "10")
    assert done.returncode == 0, done
    assert done.stderr == ""


# Every call of the extension that a socket's client may make; what it returns or raises, line by line.
EXTENSION = """
from xen.lowlevel.xs import xs

def show(name, *arguments):
    try:
        result = getattr(handle, name)(*arguments)
    except Exception as error:
        result = f"{type(error).__name__} {error}"
    print(name, arguments, "->", result)
    return result

handle = xs()
show("ls", "0", "/")
show("mkdir", "0", "/a/b")
show("write", "0", "/a/b/c", "value")
show("write", "0", "relative", "value")
show("write", "0", "/bad path", "value")
show("read", "0", "/a/b/c")
show("read", "0", "/local/domain/0/relative")
show("read", "0", "/none")
show("ls", "0", "/a")
show("ls", "0", "/none")
show("get_permissions", "0", "/a/b")
show("set_permissions", "0", "/a/b", [{"dom": 0, "read": True}, {"dom": 0, "write": True}])
show("get_permissions", "0", "/a/b")
show("get_permissions", "0", "/none")
show("watch", "/a", "token")
show("read_watch")
show("check_watch")
show("watch", "/a", "token")
show("write", "0", "/a/x", "1")
show("read_watch")
show("unwatch", "/a", "token")
show("unwatch", "/a", "token")
show("rm", "0", "/a/b")
show("rm", "0", "/none/none")
show("get_domain_path", 7)
for commit in (False, True):
    tx = show("transaction_start")
    show("write", tx, "/tx", "inside")
    show("read", "0", "/tx")
    show("transaction_end", tx, not commit)
    show("read", "0", "/tx")
tx = show("transaction_start")
show("read", tx, "/tx")
show("write", "0", "/tx", "outside")
show("write", tx, "/tx", "inside")
show("transaction_end", tx)
show("transaction_end", "4711")
show("release_domain", 7)
show("resume_domain", 7)
show("set_target", 7, 8)
print(len(str(handle.fileno())) > 0)
handle.close()
show("read", "0", "/tx")
"""


def run_extension(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", EXTENSION],
        env={**environment(path), "PYTHONPATH": str(xen_utils() / "lib/python")},
        capture_output=True,
        text=True,
        timeout=GUARD_S,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="Debian's extension xen.lowlevel.xs is for Python 3.11")
def test_the_python_extension(ours, tmp_path_factory):
    output = run_extension(ours)
    with xens_daemon(tmp_path_factory.mktemp("oracle")) as theirs:
        assert output == run_extension(theirs)
    assert "read ('0', '/a/b/c') -> b'value'" in output


SCRIPT = r"""
set -u
xenstore-write /vm/name "web server" /vm/memory 64 /d/zebra "" /d/ant "" /bin '\x00\xff\n' /d/deep/er/still x
xenstore-chmod -r /d n0 r0 b0
xenstore-chmod -u /d/deep/er/still w0
xenstore-chmod /none n0; echo $?
xenstore-chmod /d x0; echo $?
xenstore-rm /d/ant
xenstore-rm /none; echo $?
xenstore-rm /none/none; echo $?
xenstore-rm -t /vm/name /vm/memory; echo $?
xenstore-write /bad//path x; echo $?
xenstore-write relative 1
xenstore-read /bin /d/zebra; echo $?
xenstore-read -p -R /bin; echo $?
xenstore-read /none; echo $?
xenstore-exists /d/deep/er /none; echo $?
xenstore-list -p /d /none; echo $?
xenstore-ls /none; echo $?
xenstore-ls -p
xenstore-ls -f -p /
xenstore-ls -f /d
xenstore-watch -n 1 /d
"""


def test_the_tools_print_the_same(ours, tmp_path_factory):
    if shutil.which("xenstore-ls") is None:
        unavailable("xenstore-ls: install Debian's xenstore-utils")

    def run(path: Path) -> str:
        done = subprocess.run(
            ["sh", "-c", SCRIPT],
            env=environment(path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="latin-1",
            timeout=GUARD_S,
        )
        return done.stdout

    output = run(ours)
    with xens_daemon(tmp_path_factory.mktemp("oracle")) as theirs:
        assert output == run(theirs)
    assert "still" in output
