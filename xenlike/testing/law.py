"""What a law is, and what it says when it is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from xenlike.testing.case import Case

LAWS: dict[str, Law] = {}
"""All laws by name, in the order of their declaration."""


class Broken(AssertionError):
    """A law is broken; the message says how."""


class Inapplicable(Exception):
    """The driver has nothing that this law is about; the message says what."""


@dataclass(frozen=True)
class Law:
    """Something that every driver must keep.

    Args:
        name: its group and its own name, such as "hostile.over-limit".
        sentence: what it says.
        check: raises if a driver breaks it; `Broken` where it can say how.
        seeded: chance plays a part, so it is checked once for each seed.
    """

    name: str
    sentence: str
    check: Callable[[Case], Awaitable[None]]
    seeded: bool = False


def law(sentence: str, *, seeded: bool = False) -> Callable[[Callable[[Case], Awaitable[None]]], Law]:
    """Makes a law of an async function, which gets a `Case`; named after its module and itself.

        @law("A frontend is told of every response.")
        async def told(case): ...

    Args:
        sentence: what the law says.
        seeded: as for `Law`.
    """

    def make(check: Callable[[Case], Awaitable[None]]) -> Law:
        group = check.__module__.rpartition(".")[2]
        made = Law(f"{group}.{check.__name__.replace('_', '-')}", sentence, check, seeded)
        LAWS[made.name] = made
        return made

    return make
