"""A store daemon that dies where it is told to: between a change, its log and its answer, and while it starts.

`PLAN_VARIABLE` in the environment of the machine names the plan (see `fate`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.fate import Fate
from xenlike.xenstored import main, records
from xenlike.xenstored.log import _ENTRY, Log
from xenlike.xenstored.rings import RingHost
from xenlike.xenstored.server import Server
from xenlike.xenstored.store import Store

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain

PLAN_VARIABLE = "XENLIKE_FAULT_STORE_PLAN"
ENTRY = f"{__name__}:serve"
PLACES = ("handled", "introduced", "logged", "answered", "aside")
"""With changes made and not logged, with a new domain's ring taken up and that logged, with anything logged and not
answered, answered; or anywhere near there."""
STARTING_PLACES = ("replayed", "attached", "started")


def serve(domain: Domain) -> None:
    """Is `xenlike.xenstored.main:serve`, until this process's fate."""
    fate = Fate(Path(os.environ[PLAN_VARIABLE]))

    def passing(owner: type, name: str, before: Callable[[Any], None], after: Callable[[Any], None]) -> None:
        original = getattr(owner, name)

        def passes(self: Any, *args: Any) -> Any:
            before(self)
            result = original(self, *args)
            after(self)
            return result

        setattr(owner, name, passes)

    changed = introduced = False

    def before_flush(log: Log) -> None:
        nonlocal changed, introduced
        changed = bool(log._pending)
        entries = [records.parse(entry[_ENTRY.size :]) for entry in log._pending]
        introduced = any(isinstance(record, records.Introduce) for entry in entries for record in entry)
        if changed:
            fate.pass_by("handled")
            fate.pass_aside(1)

    def after_flush(_: Log) -> None:
        if changed:
            fate.pass_by("logged")
        if introduced:
            fate.pass_by("introduced")

    def after_turn(_: Server) -> None:
        if changed:
            fate.pass_by("answered")

    def nothing(_: object) -> None:
        pass

    passing(Store, "keep_log", lambda _: fate.pass_by("replayed"), nothing)
    passing(Log, "flush", before_flush, after_flush)
    passing(Server, "_end_turn", nothing, after_turn)
    passing(Server, "run", lambda _: fate.pass_by("started"), nothing)
    passing(RingHost, "attach", nothing, lambda _: fate.pass_by("attached"))
    main.serve(domain)
