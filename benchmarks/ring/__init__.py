"""How fast rings are, beside what else there is; one file for each kind of contest."""

from __future__ import annotations

from xenlike.benchmarks.ring import batch, payload, staged, trio_pair
from xenlike.benchmarks.ring.native import measure as native
from xenlike.benchmarks.runner import Bench


def measure(bench: Bench) -> None:
    """Measures rings from C to C, then from Python to Python: batches, single messages, trio programs, payloads.

    With one size chosen only from C to C.

    Raises:
        MachineError: there are no two CPUs, or something arrived wrong.
    """
    native.measure(bench)
    if bench.options.chosen:
        return
    batch.measure(bench)
    staged.measure(bench)
    trio_pair.measure(bench)
    payload.measure(bench)
