"""The machine's xenstored: a privileged domain that domain 0 starts, and starts again when it dies.

What makes it lose nothing is a log that it does not own: a memfd that stays here. Its successor has the
same domid, so that every domain's store page and port are still meant for it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import deque

from xenlike.abi import hypercall as hc
from xenlike.abi.xen import DOMID_INVALID
from xenlike.domain.domain import Domain
from xenlike.domain.resources import ResourceSender
from xenlike.errors import ConfigError, MachineError
from xenlike.toolstack.paths import MachinePaths

STORE_DOMID = 1
STORE_NAME = b"xenstored"
ENTRY = "xenlike.xenstored.main:serve"
NR_PAGES = 4096
BACKLOG = 128
# A store that cannot start would be started for ever.
MAX_DEATHS = 10
DEATHS_SPAN_S = 3.0


class StoreServer:
    """Keeps one xenstored running."""

    def __init__(self, domain0: Domain, paths: MachinePaths) -> None:
        self._domain0 = domain0
        self._log = os.memfd_create("xenlike-store-log", os.MFD_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX)
        path = str(paths.xenstored)
        try:
            self._socket.bind(path)
            os.chmod(path, 0o600)
            self._socket.listen(BACKLOG)
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot make the store's socket {path}: {error.strerror}") from error
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)

    def start(self) -> None:
        """Starts it. It serves domain 0 as soon as it runs."""
        resources = ResourceSender()
        port = self._domain0.start_info.store_port
        config = {
            "entry": ENTRY,
            "bare": True,
            "introduce": [[0, port]],
            "sys_path": [os.path.abspath(entry) for entry in sys.path],
        }
        arguments = hc.CreateDomain(
            domid=STORE_DOMID,
            flags=hc.XENLIKE_CREATE_PRIVILEGED
            | hc.XENLIKE_CREATE_STORE_SERVER
            | hc.XENLIKE_CREATE_FIXED_DOMID
            | hc.XENLIKE_CREATE_FORK,
            max_windows=1,
            nr_pages=NR_PAGES,
            pool_pages=0,
            store_domid=DOMID_INVALID,
            console_domid=DOMID_INVALID,
            name=STORE_NAME,
        )
        try:
            # Sent before it is born, so that they are there when it looks.
            resources.send("log", self._log, {})
            resources.send("socket", self._socket.fileno(), {})
            with resources.child_end() as theirs:
                self._domain0.hypercalls.create_domain(arguments, json.dumps(config).encode(), theirs.fileno())
        finally:
            resources.close()

    def restart(self) -> None:
        """It died: starts another with the same number, log and socket.

        Raises:
            MachineError: it does nothing but die.
        """
        self._deaths.append(time.monotonic())
        if len(self._deaths) == MAX_DEATHS and self._deaths[-1] - self._deaths[0] < DEATHS_SPAN_S:
            raise MachineError(f"xenstored died {MAX_DEATHS} times within {DEATHS_SPAN_S} s; see what it says above")
        self.start()

    def close(self) -> None:
        """Lets go of the log and the socket; the daemon ends with its machine."""
        self._socket.close()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
