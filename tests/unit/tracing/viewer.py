"""What a viewer of trace files relies on."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

PHASES = {"M", "X", "i", "C"}


def check_trace(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Sees that a file is what the format says, that every track has a name, and that its slices do not overlap.

    Returns:
        The slices.
    """
    events = trace["traceEvents"]
    named: set[tuple[str, int, int]] = set()
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        assert event["ph"] in PHASES
        assert event["pid"] > 0
        assert isinstance(event["name"], str)
        if event["ph"] == "M":
            named.add((event["name"], event["pid"], event["tid"]))
            continue
        assert event["ts"] >= 0
        assert ("process_name", event["pid"], 0) in named
        if event["ph"] == "C":
            assert all(isinstance(value, int) and value >= 0 for value in event["args"].values())
            continue
        assert ("thread_name", event["pid"], event["tid"]) in named
        if event["ph"] == "X":
            assert event["dur"] >= 0
            tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        else:
            assert event["s"] == "t"
    for slices in tracks.values():
        slices.sort()
        for (_, end), (begin, _) in pairwise(slices):
            # Microseconds as doubles: the same nanosecond may differ in the last bit.
            assert begin >= end - 0.001
    return [event for event in events if event["ph"] == "X"]
