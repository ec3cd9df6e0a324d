"""Laws of the table of rules: total, pure, of names that tests know, and readable."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import msgspec

from xenlike.abi.xenbus import XenbusState
from xenlike.toolstack.why import Evidence, Explanation, explain
from xenlike.toolstack.why.evidence import DomainFacts, End, GrantFacts, PortFacts, QueueFacts
from xenlike.toolstack.why.facts import facts
from xenlike.toolstack.why.rules import RULES

STAGES = [*Path(__file__).parent.glob("test_*.py"), *Path(__file__).parents[2].glob("system/test_why*.py")]
HEALTHY = {"moving", "idle"}
NONSENSE = ["", "0", "4", "9", "banana", "-1", "4294967296", "\x1b[31m", "é" * 300, "/local/domain/2/device/echo/0"]


def test_names_are_unique_and_each_stuck_device_gets_advice() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert {rule.name for rule in RULES if not rule.hint} == HEALTHY
    assert all(rule.finds.__doc__ for rule in RULES)


def test_each_rule_is_staged_by_a_test() -> None:
    text = "".join(path.read_text() for path in STAGES if path != Path(__file__))
    assert [rule.name for rule in RULES if f'"{rule.name}"' not in text] == []


def anything(dice: random.Random) -> Evidence:
    """Whatever hostile domains may have written."""

    def number() -> int:
        return dice.choice([0, 1, 2, 31, 32, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])

    def end(side: str, other: str, domid: int, peer: int) -> End:
        path = f"/local/domain/{domid}/{side}"
        nodes = {
            "state": dice.choice(["1", "2", "3", "4", "4", "4", "5", "6", "7", *NONSENSE]),
            other: f"/local/domain/{peer}/{other}",
            f"{other}-id": str(peer),
        }
        names = ("ring-ref", "ring-ref0", "event-channel", "protocol", "ring-layout", "ring-page-order", "online")
        nodes |= {name: dice.choice(NONSENSE) for name in names if dice.random() < 0.4}
        queue = QueueFacts(1, dice.random() < 0.9, *(number() for _ in range(12)))
        states = ["running"] * 12 + ["paused", "stopped", "restarting", "crashed", "dead", "gone"]
        domain = DomainFacts(
            domid,
            dice.choice(["", "x"]),
            dice.choice(states),  # type: ignore[arg-type]
            dice.choice([None, None, [], ["echo"], ["vbd"]]),
            dice.random() < 0.2,
            dice.choice([None, True, False]),
            dice.choice([None, True, False]),
        )
        error = dice.choice(["", "", *NONSENSE, "ring broken: ", "no driver for devices of type 'x'"])
        if dice.random() < 0.05:
            nodes = {}
        return End(side, domain, path, nodes, error, queue=dice.choice([None, queue]))  # type: ignore[arg-type]

    return Evidence(
        "x/echo/0",
        "echo",
        end("frontend", "backend", 2, 1),
        end("backend", "frontend", 1, 2),
        dice.choice([[], ["a"]]),
        dice.choice([[], ["sectors"]]),
        dice.choice([[], [GrantFacts("ring-ref", number(), dice.random() < 0.5, number(), dice.choice([None, 1]))]]),
        dice.choice([None, PortFacts(1, dice.choice(["closed", "unbound", "interdomain", "virq"]), number())]),
        dice.random() < 0.97,
        dice.choice([0, 0, 5]),
    )


def test_whatever_domains_say_there_is_one_sentence_and_it_travels() -> None:
    dice, seen = random.Random(5), set()
    for _ in range(4000):
        evidence = anything(dice)
        told = explain(evidence)
        seen.add(told.rule)
        assert explain(evidence) == told
        assert "\n" not in told.sentence
        assert told.healthy == (told.rule in HEALTHY) == (not told.waits)
        assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told
        for end in (evidence.front, evidence.back):
            assert facts(evidence, end)
        assert told.lines()
    assert len(seen) > 35, sorted({rule.name for rule in RULES} - seen)


def test_any_two_states_are_explained() -> None:
    for front in XenbusState:
        for back in XenbusState:
            dice = random.Random(1)
            evidence = anything(dice)
            ends = {}
            for side, other, domid, peer, state in (
                ("frontend", "backend", 2, 1, front),
                ("backend", "frontend", 1, 2, back),
            ):
                nodes = {"state": str(int(state)), other: f"/{peer}", f"{other}-id": str(peer)}
                ends[side] = End(side, DomainFacts(domid), f"/{domid}", nodes)  # type: ignore[arg-type]
            told = explain(
                msgspec.structs.replace(evidence, front=ends["frontend"], back=ends["backend"], store=True, answered=0)
            )
            assert told.healthy == (front == back == XenbusState.Connected), told.sentence


DOCUMENT = Path(__file__).parents[3] / "docs" / "why.md"


def test_the_page_names_each_rule_in_the_order_in_which_they_are_tried() -> None:
    table = DOCUMENT.read_text().partition("## What it can tell")[2]
    places = [table.find(f"`{rule.name}`") for rule in RULES]
    assert -1 not in places
    assert places == sorted(places)


def test_the_example_of_the_page_prints_what_the_page_says() -> None:
    found = re.search(r"```python\n(.*?)```\n\n```console\n(.*?)\.\.\.\n```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    code, said = found.groups()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert timeless(done.stdout).startswith(timeless(said))


def timeless(text: str) -> str:
    return re.sub(r"\d+\.\d s", "N s", text)
