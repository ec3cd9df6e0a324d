"""What a process tells the kernel about itself before it runs anybody's code."""

from __future__ import annotations

import os

from xenlike._core import lib


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def set_pdeathsig(signal: int) -> None:
    """Asks for `signal` when the parent *thread* dies; 0 asks for none.

    The parent may be gone already: compare `os.getppid()` with the expected one after the call.
    """
    _check(lib.xl_set_pdeathsig(signal))


def set_dumpable(dumpable: bool) -> None:
    """With False: no core dump, and no process of the same user may trace us or open our /proc files."""
    _check(lib.xl_set_dumpable(int(dumpable)))


def get_dumpable() -> bool:
    """Returns what `set_dumpable` set (PR_GET_DUMPABLE)."""
    result: int = lib.xl_get_dumpable()
    _check(result)
    return result == 1


def no_new_privs() -> None:
    """Gives up for good what set-user-ID programs would add; a condition for seccomp without root."""
    _check(lib.xl_no_new_privs())


def set_child_subreaper(on: bool = True) -> None:
    """Makes orphaned descendants our children, so that we see their end."""
    _check(lib.xl_set_child_subreaper(int(on)))


def membarrier_register() -> bool:
    """Registers for `membarrier`; every domain does at birth, before seccomp.

    Returns:
        False where the kernel has no membarrier; then `feature-asymmetric-fence` must not be offered.
    """
    result: int = lib.xl_membarrier_register()
    return result == 0


def membarrier() -> None:
    """Runs a full memory barrier on every CPU that runs a registered process (GLOBAL_EXPEDITED).

    Raises:
        OSError: the kernel has no membarrier, or seccomp refuses it.
    """
    _check(lib.xl_membarrier())


def fork_orphan() -> int:
    """Forks a child that belongs to the nearest subreaper from the start; for a process of one thread.

    Python's own hooks run as for `os.fork`.

    Returns:
        0 in the child, the child's pid in the caller.

    Raises:
        OSError: no child was made.
    """
    result: int = lib.xl_fork_orphan()
    _check(result)
    return result
