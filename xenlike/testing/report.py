"""What `check_driver` found out: for a person as text, for a program as JSON."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass, field

WIDTH = 110


class LawBroken(AssertionError):
    """A driver breaks laws; the text is the report.

    Args:
        report: the whole of it.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(f"\n{report}")
        self.report = report


@dataclass(frozen=True)
class Breach:
    """One law, broken once.

    Attributes:
        law: its name, such as "hostile.over-limit".
        sentence: what it says.
        message: how it is broken.
        step: what the law was doing.
        seed: with which it did it.
        fault: what went wrong on purpose, as the call that repeats it; empty where nothing did.
        trace: lines of what happened before, oldest first.
        repeat: the call that shows it again.
    """

    law: str
    sentence: str
    message: str
    step: str
    seed: int
    fault: str
    trace: list[str]
    repeat: str

    def __str__(self) -> str:
        lines = [f"BROKEN  {self.law}: {self.sentence}", *_wrapped(self.message, "        ")]
        lines += _wrapped(f"while    {self.step}", "        ", "                 ")
        if self.fault:
            lines.append(f"        fault    {self.fault}")
        lines += [f"        again    {self.repeat}", "        before it:"]
        return "\n".join([*lines, *(f"          {line}" for line in self.trace)])


@dataclass(frozen=True)
class Outcome:
    """One law's checks.

    Attributes:
        law: its name.
        sentence: what it says.
        seeds: with which it was checked.
        seconds: of real time.
        left_out: why it was not checked; empty where it was.
        breaches: one for each seed that broke it.
    """

    law: str
    sentence: str
    seeds: list[int]
    seconds: float
    left_out: str = ""
    breaches: list[Breach] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All laws of one driver.

    Attributes:
        driver: its device type.
        outcomes: a law each.
    """

    driver: str
    outcomes: list[Outcome]

    @property
    def breaches(self) -> list[Breach]:
        """All breaches."""
        return [breach for outcome in self.outcomes for breach in outcome.breaches]

    @property
    def ok(self) -> bool:
        """Whether no law is broken."""
        return not self.breaches

    @property
    def seconds(self) -> float:
        """Real time of all checks."""
        return sum(outcome.seconds for outcome in self.outcomes)

    def broken(self) -> list[str]:
        """Returns the names of the broken laws."""
        return [outcome.law for outcome in self.outcomes if outcome.breaches]

    def verify(self) -> None:
        """Raises `LawBroken`, with the report as its text, if a law is broken."""
        if not self.ok:
            raise LawBroken(self)

    def as_json(self) -> str:
        """Returns all of it as JSON."""
        return json.dumps({"driver": self.driver, "ok": self.ok, "laws": [asdict(o) for o in self.outcomes]}, indent=1)

    def summary(self) -> str:
        """Returns one line."""
        kept = sum(not outcome.breaches and not outcome.left_out for outcome in self.outcomes)
        left_out = [outcome for outcome in self.outcomes if outcome.left_out]
        text = f"{self.driver}: {kept} of {len(self.outcomes)} laws kept, {len(self.broken())} broken"
        return f"{text}, {len(left_out)} left out, in {self.seconds:.1f} s"

    def __str__(self) -> str:
        # One breach a law is enough to read; the others are in `breaches`.
        parts = []
        for outcome in self.outcomes:
            if outcome.breaches:
                parts += [str(outcome.breaches[0]), ""]
                others = [str(breach.seed) for breach in outcome.breaches[1:]]
                if others:
                    parts[-1:] = [f"        and with seeds {', '.join(others)}", ""]
        left_out = [f"left out {o.law}: {o.left_out}" for o in self.outcomes if o.left_out]
        return "\n".join([*parts, *left_out, self.summary()])


def _wrapped(text: str, first: str, then: str | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=first if then is None else then, break_long_words=False
    )
