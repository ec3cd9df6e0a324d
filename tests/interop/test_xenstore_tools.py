"""Xen's own xenstore-* programs, unmodified, against our daemon in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

TOOLS = ["ls", "read", "write", "list", "exists", "rm", "chmod", "watch"]
MISSING = [f"xenstore-{tool}" for tool in TOOLS if shutil.which(f"xenstore-{tool}") is None]
GUARD_S = 30


@pytest.fixture(scope="module", autouse=True)
def tools():
    if MISSING:
        message = f"{', '.join(MISSING)}: install Debian's xenstore-utils"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture
def socket_path(tmp_path):
    path = tmp_path / "socket"
    daemon = subprocess.Popen(
        [sys.executable, "-c", READY, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    with daemon:
        # Closed by the daemon when it listens.
        daemon.stdout.read()
        yield path
        daemon.terminate()
        _, errors = daemon.communicate(timeout=GUARD_S)
    assert daemon.returncode == 0
    assert errors == ""
    assert not path.exists()


# The daemon itself, and a word when it can be reached.
READY = """
import os, sys
from xenlike.xenstored import main
from xenlike.xenstored.server import Server
listen = Server.listen
def listening(server, sock):
    listen(server, sock)
    os.close(1)
Server.listen = listening
sys.exit(main.main(["--socket", sys.argv[1]]))
"""


class Tools:
    def __init__(self, path: Path) -> None:
        self.environment = {**os.environ, "XENSTORED_PATH": str(path)}

    def run(self, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"xenstore-{tool}", *arguments],
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=GUARD_S,
        )

    def __call__(self, tool: str, *arguments: str) -> str:
        """Runs a tool that is to succeed, and returns what it prints."""
        done = self.run(tool, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout


@pytest.fixture
def xenstore(socket_path):
    return Tools(socket_path)


def listing(output: str) -> list[str]:
    """Returns the lines of `xenstore-ls -p` without the dots that fill them."""
    return [re.sub(r" [. ]*\(", " (", line) for line in output.splitlines()]


def test_a_new_store_has_what_xen_s_has(xenstore):
    assert listing(xenstore("ls", "-p")) == ['tool = "" (n0)', ' xenstored = "" (n0)']


def test_read_what_was_written(xenstore):
    assert xenstore("write", "/vm/name", "web server", "/vm/memory", "64") == ""
    assert xenstore("read", "/vm/name") == "web server\n"
    assert xenstore("read", "/vm/memory", "/vm/name") == "64\nweb server\n"
    assert xenstore("read", "-p", "/vm/memory") == "/vm/memory: 64\n"


def test_list_in_order_of_creation(xenstore):
    xenstore("write", "/d/zebra", "", "/d/ant", "", "/d/middle", "")
    assert xenstore("list", "/d") == "zebra\nant\nmiddle\n"
    assert xenstore("list", "-p", "/d") == "/d/zebra\n/d/ant\n/d/middle\n"


def test_ls_prints_the_tree(xenstore):
    xenstore("write", "/d/a", "1", "/d/a/b", "2", "/d/c", "")
    assert xenstore("ls", "/d") == 'a = "1"\n b = "2"\nc = ""\n'
    assert xenstore("ls", "-f", "/d") == '/d/a = "1"\n/d/a/b = "2"\n/d/c = ""\n'


def test_binary_values_are_escaped(xenstore):
    xenstore("write", "/bin", "\\x00\\xff\\n")
    assert xenstore("read", "/bin") == "\\000\\xff\\n\n"
    assert xenstore("read", "-R", "/bin").encode("utf-8", "surrogateescape") == b"\x00\xff\n"


def test_exists_and_rm(xenstore):
    xenstore("write", "/d/a/b", "")
    assert xenstore.run("exists", "/d/a/b").returncode == 0
    assert xenstore("rm", "/d/a") == ""
    assert xenstore.run("exists", "/d/a/b").returncode == 1
    assert xenstore.run("exists", "/d").returncode == 0
    # Removing what is not there is no error; below what is not there it is.
    assert xenstore("rm", "/d/a") == ""
    assert xenstore.run("rm", "/d/a/b").returncode == 1


def test_rm_t_removes_empty_directories_above(xenstore):
    xenstore("write", "/one/two/three", "")
    xenstore("rm", "-t", "/one/two/three")
    assert xenstore("list", "/") == "tool\n"


def test_errors_are_told_by_name(xenstore):
    missing = xenstore.run("read", "/none")
    assert missing.returncode == 1
    assert missing.stderr == "xenstore-read: couldn't read path /none\n"
    assert xenstore.run("list", "/none").returncode == 1
    assert xenstore.run("ls", "/none").stderr == "xenstore-ls: xs_directory (/none): No such file or directory\n"
    bad = xenstore.run("write", "/bad//path", "x")
    assert (bad.returncode, bad.stderr) == (1, "xenstore-write: could not write path /bad//path\n")


def test_chmod(xenstore):
    xenstore("write", "/d/a", "", "/d/b", "")
    assert xenstore("chmod", "/d/a", "n3", "r4", "b5") == ""
    assert listing(xenstore("ls", "-fp", "/d")) == ['/d/a = "" (n3,r4,b5)', '/d/b = "" (n0)']
    xenstore("chmod", "-r", "/d", "r7")
    assert listing(xenstore("ls", "-fp", "/d")) == ['/d/a = "" (r7)', '/d/b = "" (r7)']
    assert xenstore.run("chmod", "/d/a", "x3").returncode == 1


def test_watch(xenstore):
    # The first event is the registration's.
    watching = subprocess.Popen(
        ["stdbuf", "-oL", "xenstore-watch", "-n", "4", "/d"],
        env=xenstore.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline() == "/d\n"
            xenstore("write", "/d/a", "1")
            assert watching.stdout.readline() == "/d/a\n"
            xenstore("write", "/elsewhere", "1")
            xenstore("write", "/d/a", "1")
            assert watching.stdout.readline() == "/d/a\n"
            xenstore("rm", "/d")
            assert watching.stdout.readline() == "/d\n"
            assert watching.wait(GUARD_S) == 0
        finally:
            watching.kill()


def test_a_listing_longer_than_a_message(xenstore):
    names = [f"a-child-with-a-rather-long-name-{index:03}" for index in range(300)]
    for start in range(0, 300, 100):
        xenstore("write", *[word for name in names[start : start + 100] for word in (f"/many/{name}", "x")])
    assert xenstore("list", "/many").split() == names
    assert len(xenstore("ls", "/many").splitlines()) == 300


def test_a_large_value(xenstore):
    xenstore("write", "/large", "v" * 4000)
    assert xenstore("read", "/large") == "v" * 4000 + "\n"


def test_clients_at_once_count_right(xenstore, socket_path):
    """`xenstore-*` reads, scripts and trio tasks at once, on one counter."""
    script = (
        "import sys\n"
        "from xenlike.domain.store_sync import SyncStore\n"
        "with SyncStore(sys.argv[1]) as store:\n"
        "    for _ in range(25):\n"
        "        store.transact(lambda tx: tx.write('/count', int(tx.read('/count')) + 1), attempts=10000)\n"
    )
    xenstore("write", "/count", "0")
    counting = [subprocess.Popen([sys.executable, "-c", script, str(socket_path)]) for _ in range(4)]
    for process in counting:
        assert process.wait(GUARD_S) == 0
    assert xenstore("read", "/count") == "100\n"
