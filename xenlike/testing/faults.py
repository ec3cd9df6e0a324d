"""Faults at chosen points of a domain's life: it dies, stops or is delayed there, the same way every time.

    faults = Faults.at("before-map", kill, nth=2)             # the driver domain, at its second mapping
    async with Loopback(faults=faults) as machine: ...
    faults = Faults(7)                                        # one that seed 7 chooses
    print(faults)                                             # the call that repeats it

The points, each before and after:

    publish   the domain writes a `state` node, with all that goes with it
    map       it maps pages of its peer
    respond   its backend pushes responses
    notify    it sends an event, or finds out that it need not

`kill` is a SIGKILL: nothing that comes after it is done. `stop` is a SIGSTOP: no task of the domain takes a step
until `LoopDomain.go`. `delay` is a stop that ends by itself. A task of a domain is one that the domain started, or
`LoopDomain.spawn` for it. What lies between two checkpoints of a task is one step, so a stop takes hold at the end
of the step; an event or a response that a stopped domain was about to send is sent when it goes on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from xenlike.testing.attended import Attended, DomainKilled, attended_responses
from xenlike.xenbus.backqueue import BackQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from xenlike.testing.loopdomain import LoopDomain

__all__ = ["POINTS", "Action", "DomainKilled", "Faults", "delay", "kill", "stop"]

POINTS: Final = tuple(
    f"{when}-{what}" for what in ("publish", "map", "respond", "notify") for when in ("before", "after")
)


@dataclass(frozen=True)
class Action:
    """What happens to the domain; `seconds` is how long a delay lasts, on trio's clock."""

    name: str
    seconds: float = 0.0

    def __repr__(self) -> str:
        return self.name


kill: Final = Action("kill")
stop: Final = Action("stop")
delay: Final = Action("delay", 0.01)


@dataclass
class Faults:
    """One fault, and what came of it.

    Args:
        seed: chooses point, action and number.
        domain: the name of the domain that suffers it: "driver" or "guest" in a plain `Loopback`.
        points: among which the seed chooses.
        actions: likewise.
        most: the fault is at one of so many first times that the point is passed.

    Attributes:
        point, action, nth: what the seed chose.
        passed: how often each point was passed so far.
        struck: an event, set when the fault has happened.
        log: told of the fault when it happens.
    """

    seed: int
    domain: str = "driver"
    points: Sequence[str] = POINTS
    actions: Sequence[Action] = (kill, stop, delay)
    most: int = 8
    point: str = field(init=False)
    action: Action = field(init=False)
    nth: int = field(init=False)

    def __post_init__(self) -> None:
        for point in self.points:
            if point not in POINTS:
                raise ValueError(f"there is no point {point!r}; points are {', '.join(POINTS)}")
        dice = random.Random(self.seed)
        self.point, self.action = dice.choice(self.points), dice.choice(self.actions)
        # Nobody publishes as often as he responds.
        self.nth = dice.randint(1, min(self.most, 2) if self.point.endswith("publish") else self.most)
        self.passed = dict.fromkeys(POINTS, 0)
        self.struck = trio.Event()
        self.log: Callable[[str], None] = lambda _: None

    @classmethod
    def at(cls, point: str, action: Action, *, nth: int = 1, domain: str = "driver") -> Self:
        """Returns the fault at the `nth` time that a domain passes a point, counted from 1.

        Raises:
            ValueError: there is no such point.
        """
        faults = cls(0, domain, (point,), (action,), nth)
        faults.nth = nth
        return faults

    def __repr__(self) -> str:
        if self.nth < 0:
            return "one that never happened"
        return f'Faults.at("{self.point}", {self.action}, nth={self.nth}, domain="{self.domain}")'

    def disarm(self) -> None:
        """Has nothing happen any more."""
        self.nth = -1

    # For Loopback.

    def __enter__(self) -> Self:
        self._respond_raw = BackQueue.respond_raw
        setattr(BackQueue, "respond_raw", attended_responses(self._respond_raw))  # noqa: B010 - a method, to mypy
        return self

    def __exit__(self, *_: object) -> None:
        setattr(BackQueue, "respond_raw", self._respond_raw)  # noqa: B010

    def attend(self, domain: LoopDomain) -> None:
        """Puts the points into a domain, if it is the one."""
        if domain.name == self.domain:
            Attended(domain, self)

    def due(self, point: str) -> Action | None:
        """Counts a passing; returns what is to happen, once."""
        self.passed[point] += 1
        if point != self.point or self.passed[point] != self.nth:
            return None
        self.struck.set()
        self.log(f"fault: {self.action} {point}, time {self.nth}, in the domain {self.domain!r}")
        return self.action
