"""`xenlike why`: the sentence first, the evidence below it, and clear words for what it cannot explain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from tests.unit.fake_machine import FakeMachine, served
from xenlike.cli.app import app
from xenlike.toolstack.why import Evidence, Explanation, explain
from xenlike.toolstack.why.evidence import DomainFacts, End, GrantFacts, PortFacts, QueueFacts

FRONT, BACK = "/local/domain/3/device/vbd/51712", "/local/domain/2/backend/vbd/3/51712"
STUCK = Evidence(
    name="guest/xvda",
    type="vbd",
    front=End(
        "frontend",
        DomainFacts(3, "guest"),
        FRONT,
        {"backend": BACK, "backend-id": "2", "state": "3", "ring-ref": "8"},
        since_s=12.5,
    ),
    back=End(
        "backend",
        DomainFacts(2, "storage", serves=["vbd"]),
        BACK,
        {"frontend": FRONT, "frontend-id": "3", "state": "2", "online": "1"},
    ),
    back_needs=["sectors"],
    grants=[GrantFacts("ring-ref", 8, True, 2, 2)],
    port=PortFacts(5, "unbound", 2),
    trace=["     -1.000 s  d3  state Initialising -> Initialised [bold]not markup[/bold]"],
)
SENTENCE = "guest waits: backend d2 is in InitWait because node event-channel is missing"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMachine]:
    root = tmp_path / "run"
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(root))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("XENLIKE_MACHINE", raising=False)
    with served("lab", root) as machine:
        machine.explanations = [explain(STUCK)]
        yield machine


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_the_sentence_comes_first_and_then_what_to_do_and_both_ends(machine: FakeMachine) -> None:
    result = run("why", "guest/xvda")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == SENTENCE
    assert lines[1] == "The frontend must write the node before it says Initialised."
    assert lines[3].split() == ["frontend", "d3", "backend", "d2"]
    assert lines[4].split() == ["domain", "guest", "d3", "running", "storage", "d2", "running"]
    assert lines[5].split() == ["state", "3", "(Initialised)", "for", "12.5", "s", "2", "(InitWait)"]
    for words in ("event-channel missing", "sectors missing", "ring-ref 8: for d2, mapped 0 times", "port 5: unbound"):
        assert words in result.stdout
    assert lines[-1] == STUCK.trace[0]


def test_rings_are_shown_by_the_names_of_the_abi(machine: FakeMachine) -> None:
    queue = QueueFacts(1, True, 32, prod=7, kicked=6, cons=5, armed=6, starved=2)
    back = QueueFacts(1, True, 32, prod=5, kicked=5, cons=7, armed=6, broken=1, bad_index=1000)
    ends = {
        "front": msgspec.structs.replace(STUCK.front, queue=queue),
        "back": msgspec.structs.replace(STUCK.back, queue=back),
    }
    machine.explanations = [explain(msgspec.structs.replace(STUCK, **ends))]
    text = run("why", "guest/xvda").stdout
    for words in (
        "req_prod 7, rsp_cons 5, of 32 slots",
        "rsp_prod 5, req_cons 7, of 32 slots",
        "2, 2 wait for a page",
        "kicked at 6, armed at 6 (rsp_event)",
        "its peer ran ahead: 1000",
    ):
        assert words in text


def test_json_is_what_the_machine_said(machine: FakeMachine) -> None:
    result = run("why", "guest/xvda", "--json")
    assert msgspec.json.decode(result.stdout, type=Explanation) == explain(STUCK)
    result = run("why", "--json")
    assert msgspec.json.decode(result.stdout, type=list[Explanation]) == [explain(STUCK)]


def test_without_a_device_each_has_a_line(machine: FakeMachine) -> None:
    machine.explanations *= 2
    lines = run("why").stdout.splitlines()
    assert [line.split()[:3] for line in lines if "guest/xvda" in line] == [["guest/xvda", "guest", "waits:"]] * 2
    machine.explanations = []
    assert run("why").stdout == "this machine has no devices\n"


def test_of_a_store_that_does_not_answer_nothing_is_shown_that_is_not_known(machine: FakeMachine) -> None:
    machine.explanations = [explain(msgspec.structs.replace(STUCK, store=False, trace=[]))]
    lines = run("why", "guest/xvda").stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("everybody waits: the store does not answer")


def test_an_unknown_device_is_refused_with_those_that_there_are(machine: FakeMachine) -> None:
    result = run("why", "guest/xvdb")
    assert result.exit_code == 3
    assert result.stderr == "xenlike: there is no device 'guest/xvdb'; there are: guest/xvda\n"


def test_a_machine_that_is_down_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("XENLIKE_MACHINE", raising=False)
    result = run("why", "guest/xvda")
    assert result.exit_code == 3
    assert result.stderr == "xenlike: no machine is running; `xenlike up FILE.toml -d` starts one\n"
    result = run("-m", "lab", "why")
    assert result.exit_code == 3
    assert "no machine 'lab' is running" in result.stderr
