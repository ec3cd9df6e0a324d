"""How a rule looks: a function from the evidence to a finding, or to nothing where it does not apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgspec

from xenlike.toolstack.why.evidence import End, Evidence


class Finding(NamedTuple):
    """What a rule says.

    Attributes:
        waits: who waits: a domain's name.
        for_whom: who has to move next.
        because: the rest of the sentence.
    """

    waits: str
    for_whom: str
    because: str


class Rule(NamedTuple):
    """A way of being stuck, or of being well.

    Attributes:
        name: by which tests and scripts know it.
        finds: the function.
        hint: what to do about it.
    """

    name: str
    finds: Callable[[Evidence], Finding | None]
    hint: str


Rules: TypeAlias = list[Rule]


def rules() -> tuple[Rules, Callable[[str, str], Callable[[Callable[[Evidence], Finding | None]], Rule]]]:
    """Returns a table, and a decorator that adds a function to it; tables are read from top to bottom."""
    table: Rules = []

    def rule(name: str, hint: str) -> Callable[[Callable[[Evidence], Finding | None]], Rule]:
        def add(finds: Callable[[Evidence], Finding | None]) -> Rule:
            table.append(Rule(name, finds, hint))
            return table[-1]

        return add

    return table, rule


def waits(who: End, for_whom: End, because: str) -> Finding:
    """One end waits for the other, or for its own."""
    return Finding(who.who, for_whom.title, because)


class Explanation(msgspec.Struct, frozen=True):
    """Why a device stands as it does.

    Attributes:
        device: what users call it.
        rule: the name of the rule that found it.
        sentence: all in one.
        healthy: whether nothing is wrong.
        waits: who waits; empty for nobody.
        for_whom: who has to move next.
        because: why.
        hint: what to do about it.
        evidence: what it was read from.
    """

    device: str
    rule: str
    sentence: str
    healthy: bool
    waits: str
    for_whom: str
    because: str
    hint: str
    evidence: Evidence

    def lines(self) -> list[str]:
        """Returns the sentence and the evidence below it, for reports."""
        from xenlike.toolstack.why.facts import facts

        out = [self.sentence]
        for end in (self.evidence.front, self.evidence.back):
            out.append(f"  {end.title} ({end.who})")
            out += [f"    {name:<10} {value.replace(chr(10), ', ')}" for name, value in facts(self.evidence, end)]
        return [*out, *(f"  trace  {line}" for line in self.evidence.trace)]
