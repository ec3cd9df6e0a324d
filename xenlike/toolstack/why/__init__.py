"""Why a device does not move: what is awaited, from whom, in one sentence, with the evidence.

evidence     plain data of both ends, whoever collected it
rules        the ways of being stuck, from certain to vague
explain      evidence to one sentence: the first rule that applies
machine      collects from a running machine; `xenlike.testing.explaining` from a loopback one
"""

from xenlike.toolstack.why.evidence import Evidence
from xenlike.toolstack.why.explain import explain
from xenlike.toolstack.why.rule import Explanation

__all__ = ["Evidence", "Explanation", "explain"]
