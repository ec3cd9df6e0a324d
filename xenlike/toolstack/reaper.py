"""Removes what is left of a machine when its hypervisor has ended, however it ended: processes, and names.

Run as a script with no imports of xenlike: `python -I -S reaper.py FOLDER SEGMENT`. Standard input is a pipe whose
other end only the hypervisor holds, so end-of-file there means that it is gone; before that comes its pid. Domains
die with it, but what they have started does not: those processes share its session. The machine's lock says
whether a new machine of that name has taken over meanwhile: then the names are the new one's.
"""

import fcntl
import os
import shutil
import signal
import sys

# A killed process is listed for a moment more, so this is no count of generations.
ROUNDS = 1000


def main(folder: str, segment: str) -> None:
    """Waits for the hypervisor's end, ends its session and removes `segment` and `folder`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = b""
    while data := os.read(0, 64):
        told += data
    if told:
        end_session(int(told))
    try:
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        # Removed already, but whoever did that need not know of the segment.
        remove(segment)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # A new machine's.
        return
    # The segment first: what has no folder is hardly looked for.
    remove(segment)
    shutil.rmtree(folder, ignore_errors=True)


def remove(path: str) -> None:
    """Removes a name, if it is there."""
    try:
        os.unlink(path)
    except OSError:
        pass


def end_session(session: int) -> None:
    """Kills every process of a session; those that are killed may have started others meanwhile."""
    for _ in range(ROUNDS):
        living = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if session_of(pid) == session]
        if not living:
            return
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def session_of(pid: int) -> int:
    """The session of a living process; 0 for one that is gone or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            state, _, _, session = stat.read().rpartition(b")")[2].split()[:4]
    except OSError:
        return 0
    return 0 if state == b"Z" else int(session)


if __name__ == "__main__":
    main(*sys.argv[1:])
