"""The named segment with the machine's statistics; `xenlike.abi.statistics` has its layout.

Only this process writes it, and never maps it. Domains share the user whose segment it is, so that they can write to
it, shrink it, or give its name to another one: each snapshot is written whole, and under the right name. What they
can do is to deceive readers until then, not to harm them or us.
"""

from __future__ import annotations

import logging
import os

import posix_ipc

log = logging.getLogger(__name__)

SHM = "/dev/shm"
# Somebody who makes the name anew as fast as we remove it is not fought for ever.
TRIES = 3


class Segment:
    """A segment that is made when it is first written.

    Args:
        name: as POSIX has it: a slash, and no other.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = -1
        self._complained = False

    def write(self, snapshot: bytes) -> None:
        """Replaces what the segment holds. Where the host has no room for it, there are no statistics."""
        try:
            if not self._is_ours():
                self._make()
            os.pwrite(self._fd, snapshot, 0)
            # Also what somebody else has written behind it, and what that takes of the host's memory.
            os.ftruncate(self._fd, len(snapshot))
        except (OSError, ValueError, posix_ipc.Error) as error:
            if not self._complained:
                self._complained = True
                log.warning("no statistics are published in %s%s: %s", SHM, self.name, error)

    def remove(self) -> None:
        """Takes the name away, if it is still ours."""
        try:
            if self._is_ours():
                posix_ipc.unlink_shared_memory(self.name)
        except (OSError, posix_ipc.Error):
            pass  # somebody was quicker
        self._close()

    def _is_ours(self) -> bool:
        """Whether the name still leads to what this process has open."""
        if self._fd < 0:
            return False
        try:
            named = os.stat(SHM + self.name, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(named, os.fstat(self._fd))

    def _make(self) -> None:
        self._close()
        for left in reversed(range(TRIES)):
            try:
                # The mode is for others: our own descriptor writes all the same.
                memory = posix_ipc.SharedMemory(self.name, posix_ipc.O_CREX, mode=0o400)
            except posix_ipc.ExistentialError:
                if not left:
                    raise
                try:
                    posix_ipc.unlink_shared_memory(self.name)
                except posix_ipc.ExistentialError:
                    pass
            else:
                self._fd = memory.fd
                return

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
