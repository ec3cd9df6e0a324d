"""From evidence to one sentence: the first rule that applies."""

from __future__ import annotations

from xenlike.toolstack.why.evidence import Evidence
from xenlike.toolstack.why.rule import Explanation
from xenlike.toolstack.why.rules import RULES


def explain(evidence: Evidence) -> Explanation:
    """Says what is awaited from whom, or that nothing is wrong. Pure."""
    for rule in RULES:
        found = rule.finds(evidence)
        if found is None:
            continue
        return Explanation(
            device=evidence.name,
            rule=rule.name,
            sentence=f"{found.waits} waits: {found.because}" if found.waits else found.because,
            healthy=not found.waits,
            waits=found.waits,
            for_whom=found.for_whom,
            because=found.because,
            hint=rule.hint,
            evidence=evidence,
        )
    raise AssertionError("the last rule always applies")
