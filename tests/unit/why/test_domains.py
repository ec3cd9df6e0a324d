"""Whose domain is not there is told before anything else: its nodes are of the past."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.why.stuck import say
from xenlike.testing import Loopback, why
from xenlike.toolstack.control_wire import MAX_LINE
from xenlike.toolstack.why import Evidence, explain
from xenlike.toolstack.why.evidence import DomainState
from xenlike.xenbus import XenbusState as S


@pytest.fixture
async def evidence(machine: Loopback) -> Evidence:
    """A device that is well."""
    return why(machine, await machine.attach("echo")).evidence


def told(evidence: Evidence, side: str, state: DomainState, said: str = "") -> tuple[str, str]:
    end = getattr(evidence, side)
    domain = msgspec.structs.replace(end.domain, state=state, said=said)
    changed = msgspec.structs.replace(evidence, **{side: msgspec.structs.replace(end, domain=domain)})
    told = explain(changed)
    assert told.for_whom == end.title
    return told.rule, told.sentence


async def test_a_domain_that_is_not_started(evidence):
    rule, sentence = told(evidence, "back", "paused")
    assert rule == "backend-not-started"
    assert sentence == "guest waits: the domain of backend d1 (driver) has not been started"
    assert told(evidence, "front", "paused")[0] == "frontend-not-started"
    assert told(evidence, "front", "restarting")[0] == "frontend-not-started"


async def test_a_domain_that_is_started_again(evidence):
    rule, sentence = told(evidence, "back", "restarting", "no space left")
    assert rule == "backend-restarting"
    assert sentence.endswith("is being started again after its death; its last words: no space left")


async def test_a_domain_that_ended(evidence):
    for state, words in (("crashed", "has crashed"), ("dead", "has ended"), ("gone", "is no more")):
        rule, sentence = told(evidence, "back", state)  # type: ignore[arg-type]
        assert rule == "backend-dead"
        assert sentence.endswith(words)


async def test_a_store_that_does_not_answer_is_told_first(evidence):
    told = explain(msgspec.structs.replace(evidence, store=False, answered=7))
    assert told.rule == "store-down"
    assert told.sentence.startswith("everybody waits: the store does not answer")
    assert told.for_whom == "xenstored"


async def test_what_domains_write_does_nothing_to_a_terminal(mocks, machine):
    front, back = mocks
    machine.tree.write("/local/domain/4/error/backend/echo/3/0/error", "22 \x1b[2J\nbad\u202e" + "x" * 4000)
    machine.tree.write(f"{front.path}/ring-ref", "\x1b[31m")
    await back.say(S.Closed)
    found = await say(machine, front.device, "backend-fatal", "\\x1b[2J\\nbad")
    assert all(line.isprintable() for line in found.lines())
    assert len(found.sentence) < 500


async def test_a_frontend_that_lost_its_backend_says_what_it_is_by_itself(machine):
    device = await machine.attach("echo")
    await machine.kill(machine.driver)
    found = await say(machine, device, "backend-dead")
    assert any("4 (Connected), by itself Unknown for" in line for line in found.lines())


async def test_a_directory_full_of_rubbish_is_told_in_one_message(mocks, machine):
    front, back = mocks
    for number in range(2000):
        machine.tree.write(f"{front.path}/{'x' * 200}{number}", "y" * 4000)
        machine.tree.write(f"{back.path}/{number}", "\x1b" * 4000)
    found = await say(machine, front.device, "backend-not-begun")
    assert len(msgspec.json.encode(found)) < MAX_LINE / 2
    assert found.evidence.front.nodes.keys() == {"backend", "backend-id", "state"}
