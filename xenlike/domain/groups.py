"""One error instead of a group of one.

A trio nursery wraps whatever leaves it into an `ExceptionGroup`. Where the nursery is an inner affair (a
machine's or a domain's own tasks), its users ought to see the error they raised, or the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xenlike.errors import HypervisorGone


def innermost(error: BaseException) -> BaseException:
    """Returns the one error that a group stands for, or the group where it stands for several.

    The hypervisor's death explains whatever else failed with it.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    gone = error.subgroup(HypervisorGone)
    found: BaseException = error if gone is None else gone
    while isinstance(found, BaseExceptionGroup) and (gone is not None or len(found.exceptions) == 1):
        found = found.exceptions[0]
    return found


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raises what `innermost` says of any group that leaves the block."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = innermost(group)
        if error is group:
            raise
        # Its own cause and traceback say where it came from; the group's add nothing.
        raise error from error.__cause__
