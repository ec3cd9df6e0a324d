"""Exit statuses, which scripts may rely on.

| status | meaning |
|---|---|
| 0 | done |
| 1 | what was asked for failed |
| 2 | the command line, a machine file or a disk was described wrongly; nothing was started or changed |
| 3 | there is no such machine, domain, device or node |
| 130 | interrupted by Ctrl-C or SIGTERM; nothing is left behind |
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec

import typer

from xenlike.errors import ConfigError, NoSuchDevice, NoSuchDomain, NoSuchMachine, XenlikeError

_P = ParamSpec("_P")

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
INTERRUPTED = 130


def status_of(error: BaseException) -> int | None:
    """Returns the exit status for an error; None for one that is a bug and deserves its traceback."""
    match error:
        case ConfigError():
            return USAGE
        case NoSuchMachine() | NoSuchDomain() | NoSuchDevice():
            return NOT_FOUND
        case KeyboardInterrupt():
            return INTERRUPTED
        case XenlikeError() | OSError():
            return FAILED
    return None


def single(error: BaseException) -> BaseException:
    """Returns what is inside of groups of one; several errors together stay together."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        # Whoever pressed Ctrl-C does not want to know what else it stopped.
        interrupts, others = error.split(KeyboardInterrupt)
        if interrupts is not None and (others is None or status_of(single(others)) is not None):
            return KeyboardInterrupt()
    return error


def guarded(command: Callable[_P, None]) -> Callable[_P, None]:
    """Makes an error that a command raises end it with a line on stderr and an exit status."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (Exception, KeyboardInterrupt, BaseExceptionGroup) as raised:
            error = single(raised)
            status = status_of(error)
            if status is None:
                raise
            if isinstance(error, BrokenPipeError):
                # Whoever read our output has enough. Python would complain once more when it flushes at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                raise typer.Exit(status) from None
            if status != INTERRUPTED:
                for line in (str(error) or type(error).__name__).splitlines():
                    typer.echo(f"xenlike: {line}", err=True)
            raise typer.Exit(status) from None

    return run
