"""What a driver is to xenlike: a device type, its protocol, and where its two halves are found.

Both halves are named by strings and imported late, so that a guest never loads backend code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenlike.abi.protocol import Protocol


@dataclass(frozen=True, slots=True)
class Driver:
    """A pair of driver halves; published through the entry-point group `xenlike.drivers`.

    Args:
        type: the device type in xenstore paths, such as `vbd`.
        protocol: the messages and nodes.
        frontend: `module:Class` of the frontend.
        backend: `module:Class` of the backend.
        doc: one line on what it does.
        exercise: `module:function` of `async def exercise(frontend, dice)`: uses a connected frontend for one or a
            few operations of its own choice, by the `random.Random` given, and raises where an answer is wrong.
            Conformance checks, `xenlike dev` and `xenlike bench driver` run it.
    """

    type: str
    protocol: Protocol
    frontend: str
    backend: str
    doc: str = ""
    exercise: str = ""
