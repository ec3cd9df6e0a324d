"""How a machine's domains stand: by the hypervisor, the toolstack and the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from xenlike.abi import hypercall as hc
from xenlike.toolstack.exits import exit_of
from xenlike.toolstack.spec import Exec
from xenlike.toolstack.tracing.event import printable
from xenlike.toolstack.why.evidence import DomainFacts, DomainState

if TYPE_CHECKING:
    from xenlike.domain.hypercalls import Hypercalls
    from xenlike.toolstack.console_log import ConsoleLog
    from xenlike.toolstack.guest import Guest

_LAST_WORDS = 200


class Domains:
    """The domains of one machine, as they are now.

    Args:
        hypercalls: domain 0's.
        guests: by name, as they come and go.
        console: has their last words.
    """

    def __init__(self, hypercalls: Hypercalls, guests: Mapping[str, Guest], console: ConsoleLog) -> None:
        self._guests = guests
        self._console = console
        self._infos = {info.domid: info for info in hypercalls.domain_infos()}
        self.names = {domid: info.name.decode(errors="replace") for domid, info in self._infos.items()}
        self.names |= {guest.domid: guest.name for guest in guests.values() if guest.is_running}
        self.names[0] = "Domain-0"

    def facts(self, domid: int, name: str = "") -> DomainFacts:
        """Returns what is known of a domain.

        Args:
            domid: its number.
            name: what it was called, should it be gone.
        """
        guest = next((guest for guest in self._guests.values() if guest.is_running and guest.domid == domid), None)
        guest = guest or self._guests.get(name)
        name = self.names.get(domid, name)
        state = self._state(domid, guest)
        if domid == 0 or guest is None:
            return DomainFacts(domid, name, state, said=self._said(name, state))
        program = isinstance(guest.spec.entry, Exec)
        serves = None if program or "*" in guest.spec.backends else list(guest.spec.backends)
        return DomainFacts(domid, name, state, serves, program, said=self._said(name, state))

    def _state(self, domid: int, guest: Guest | None) -> DomainState:
        info = self._infos.get(domid)
        if info is not None and info.state in (hc.XENLIKE_DOMAIN_BUILDING, hc.XENLIKE_DOMAIN_RUNNING):
            if info.state == hc.XENLIKE_DOMAIN_BUILDING and not info.pid and info.flags & hc.XENLIKE_CREATE_FORK:
                return "paused"
            return "stopped" if domid and info.pid and is_stopped(info.pid) else "running"
        ending = exit_of(info) if info is not None else None
        if guest is not None and not guest.destroyed and guest.is_running:
            # It has another number by now, or is to get one.
            lives_on = guest.domid != domid or guest.phase != "up"
            if ending is not None and guest.spec.action_after(ending.reason) == "restart":
                return "restarting"
            if guest.spec.on_crash == "restart" and lives_on:
                return "restarting"
        if ending is None:
            return "gone"
        return "dead" if ending.ok else "crashed"

    def _said(self, name: str, state: DomainState) -> str:
        if state in ("running", "stopped", "paused"):
            return ""
        lines = self._console.tail(name)[-4096:].split(b"\n")
        return printable(next((line for line in reversed(lines) if line.strip()), b""))[:_LAST_WORDS]


def is_stopped(pid: int) -> bool:
    """Says whether a process is stopped, by a signal or by a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False
