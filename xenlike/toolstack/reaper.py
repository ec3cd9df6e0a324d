"""Removes a machine's names when its hypervisor has ended, however it ended.

Run as a script with no imports of xenlike: `python -I -S reaper.py FOLDER`. Standard input is a pipe whose
other end only the hypervisor holds, so end-of-file there means that it is gone. The machine's lock says
whether a new machine of that name has taken over meanwhile: then the names are the new one's.
"""

import fcntl
import os
import shutil
import signal
import sys


def main(folder: str) -> None:
    """Waits for the hypervisor's end and removes `folder`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(0, 1)
    try:
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Removed already, or a new machine's.
        return
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
