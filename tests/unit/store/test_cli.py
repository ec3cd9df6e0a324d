"""`xenlike xenstore`: what it prints, what it changes, and how it says that something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.store.live import running
from xenlike.cli.app import app
from xenlike.domain.store_sync import SyncStore
from xenlike.toolstack.paths import MachinePaths
from xenlike.xenstored.sockets import Listener

GUARD_S = 30


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The socket of a store; no machine runs."""
    import socket

    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("XENLIKE_MACHINE", raising=False)
    with running() as server:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        server.call(lambda: server.server._listeners.append(Listener(server.server, listening, lambda pid: True)))
        yield tmp_path / "socket"


@pytest.fixture
def store(path):
    with SyncStore(path) as store:
        yield store


@pytest.fixture
def run(path):
    def run(command: str, *words: str) -> Result:
        return CliRunner().invoke(app, ["xenstore", command, "--socket", str(path), *words])

    return run


def test_help_names_every_command():
    said = CliRunner().invoke(app, ["xenstore", "--help"]).output
    for command in ("ls", "read", "write", "rm", "watch", "chmod", "tree"):
        assert f" {command} " in said
        assert CliRunner().invoke(app, ["xenstore", command, "--help"]).exit_code == 0
    assert " xenstore " in CliRunner().invoke(app, ["--help"]).output


def test_what_is_written_is_read_listed_and_removed(run):
    assert run("write", "/vm/name", "web server", "/vm/memory", "64").output == ""
    assert run("read", "/vm/memory", "/vm/name").output == "64\nweb server\n"
    assert run("ls", "/vm").output == "name\nmemory\n"
    assert run("ls").output == "tool\nvm\n"
    assert run("rm", "/vm").exit_code == 0
    assert run("ls").output == "tool\n"


def test_json_is_for_scripts(run, store):
    assert json.loads(run("write", "/a", "1", "--json").output) == {"/a": "1"}
    store.write("/a/b", b"\0\xff")
    assert json.loads(run("ls", "/a", "--json").output) == ["b"]
    assert json.loads(run("read", "/a", "/a/b", "--json").output) == {"/a": "1", "/a/b": {"hex": "00ff"}}
    assert json.loads(run("chmod", "/a", "r0", "w3", "--json").output) == {"/a": ["r0", "w3"]}
    assert json.loads(run("tree", "/a", "--json").output) == {
        "/a": {"value": "1", "perms": ["r0", "w3"]},
        "/a/b": {"value": {"hex": "00ff"}, "perms": ["n0"]},
    }
    assert json.loads(run("rm", "/a", "--json").output) == ["/a"]


def test_what_does_not_print_is_escaped(run, store):
    store.write("/bin", b"\0\xff\n")
    store.write("/text", "é\t\\")
    assert run("read", "/bin", "/text").output == "\\x00\\xff\\n\né\\t\\\\\n"


def test_a_tree_looks_as_xens_does(run, store):
    for node, value in {"/vm/web": "7", "/vm/web/name": "web", "/vm/db": ""}.items():
        store.write(node, value)
    assert run("tree").output == 'tool = ""\n xenstored = ""\nvm = ""\n web = "7"\n  name = "web"\n db = ""\n'
    assert run("tree", "/vm/web", "-p").output == 'name = "web"   (n0)\n'


def test_a_tree_may_be_deeper_than_pythons_stack(run, store):
    store.write("/a" * 1000, "deep")
    assert run("tree", "/a").output.splitlines()[-1] == " " * 998 + 'a = "deep"'


def test_permissions_of_a_whole_subtree(run, store):
    store.write("/a/b/c", "")
    assert run("chmod", "-r", "/a", "n0", "r3").exit_code == 0
    assert [[str(perm) for perm in store.get_perms(node)] for node in ("/a", "/a/b/c")] == [["n0", "r3"]] * 2


def test_several_nodes_are_changed_together_or_not_at_all(run, store):
    assert run("write", "/a", "1", "/b//c", "2").exit_code == 2
    assert not store.exists("/a")
    store.write("/a", "1")
    assert run("rm", "/a", "/none").exit_code == 3
    assert store.exists("/a")


def test_a_watch_tells_what_changes(run, store):
    assert run("watch", "/a", "@releaseDomain", "--count", "2").output == "/a\n@releaseDomain\n"
    writer = threading.Thread(target=store.write, args=("/a/b", "1"))
    done = run("watch", "/a", "-n", "1", "--json")
    writer.start()
    writer.join(GUARD_S)
    assert json.loads(done.output) == {"watched": "/a", "path": "/a", "value": None}


def test_a_watch_goes_on_until_its_reader_ends_it(path, store):
    command = [sys.executable, "-m", "xenlike.cli", "xenstore", "watch", "--socket", str(path), "--json", "/a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["path"] == "/a"
            store.write("/a/b", "1")
            assert json.loads(process.stdout.readline()) == {"watched": "/a", "path": "/a/b", "value": "1"}
            store.rm("/a")
            assert json.loads(process.stdout.readline()) == {"watched": "/a", "path": "/a", "value": None}
            process.send_signal(2)
            assert process.wait(GUARD_S) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("read", "/none"), 3, "/none: there is no such node"),
        (("ls", "/none"), 3, "/none: there is no such node"),
        (("tree", "/none"), 3, "/none: there is no such node"),
        (("chmod", "/none", "n0"), 3, "/none: there is no such node"),
        (("read", "/bad//path"), 2, "begins with / and has parts of"),
        (("write", "/a", "v" * 4096), 2, "4096 bytes"),
        (("write", "/a", "1", "/b"), 2, "which value?"),
        (("chmod", "/tool", "x0"), 2, "'x0' is not a permission"),
        (("watch", "/bad//path"), 2, "begins with / and has parts of"),
        (("rm", "/"), 2, "EINVAL"),
    ],
)
def test_errors_say_what_to_do(run, words, status, said):
    result = run(*words)
    assert result.exit_code == status
    assert said in result.output
    assert len(result.output.splitlines()) == 1


def test_who_is_not_there_is_told_of(path, tmp_path: Path):
    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.output

    nowhere = str(tmp_path / "nowhere")
    status, said = run("xenstore", "ls", "--socket", nowhere)
    assert (status, f"`xenlike xenstored --socket {nowhere}` starts one" in said) == (1, True)
    status, said = run("-m", "lab", "xenstore", "ls")
    assert (status, "'lab' is not running" in said) == (3, True)
    status, said = run("xenstore", "ls")
    assert (status, "no machine is running" in said) == (3, True)
    status, said = run("-m", "lab", "xenstore", "ls", "--socket", nowhere)
    assert (status, "which of the two" in said) == (2, True)


def test_a_machine_is_named(path, tmp_path):
    """Its store is at the socket of the machine's folder."""
    paths = MachinePaths.of("lab")
    paths.create()
    paths.xenstored.unlink(missing_ok=True)
    paths.xenstored.symlink_to(path)
    result = CliRunner().invoke(app, ["-m", "lab", "xenstore", "ls"])
    assert (result.exit_code, result.output) == (0, "tool\n")
