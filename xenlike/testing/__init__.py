"""What driver authors test with: a machine in one process, peers that play by script, faults, and laws.

    async def test_echo():
        async with Loopback() as machine:
            echo = await machine.attach("echo")
            assert await echo.frontend.upper(b"hello") == b"HELLO"

    def test_echo_keeps_the_laws():
        check_driver_sync(DRIVER).verify()

Everything here is public. Names are loaded when they are first used: the pytest plugin lives here, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenlike.testing.conformance import check_driver, check_driver_sync
    from xenlike.testing.explaining import why
    from xenlike.testing.fakedomain import FakeDomain
    from xenlike.testing.fakestore import FakeStore, FakeTree
    from xenlike.testing.faults import Action, DomainKilled, Faults, delay, kill, stop
    from xenlike.testing.law import Broken, Law
    from xenlike.testing.loopback import Loopback, LoopDomain, Plugged
    from xenlike.testing.peer import MockBackend, MockFrontend, RawRing
    from xenlike.testing.report import Breach, LawBroken, Report
    from xenlike.testing.script import Hear, Hush, Request, Respond, Say

_HOMES = {
    "conformance": ("check_driver", "check_driver_sync"),
    "explaining": ("why",),
    "fakedomain": ("FakeDomain",),
    "fakestore": ("FakeStore", "FakeTree"),
    "faults": ("Action", "DomainKilled", "Faults", "delay", "kill", "stop"),
    "law": ("Broken", "Law"),
    "loopback": ("LoopDomain", "Loopback", "Plugged"),
    "peer": ("MockBackend", "MockFrontend", "RawRing"),
    "report": ("Breach", "LawBroken", "Report"),
    "script": ("Hear", "Hush", "Request", "Respond", "Say"),
}

__all__ = [
    "Action",
    "Breach",
    "Broken",
    "DomainKilled",
    "FakeDomain",
    "FakeStore",
    "FakeTree",
    "Faults",
    "Hear",
    "Hush",
    "Law",
    "LawBroken",
    "LoopDomain",
    "Loopback",
    "MockBackend",
    "MockFrontend",
    "Plugged",
    "RawRing",
    "Report",
    "Request",
    "Respond",
    "Say",
    "check_driver",
    "check_driver_sync",
    "delay",
    "kill",
    "stop",
    "why",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            import importlib

            found = getattr(importlib.import_module(f"xenlike.testing.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
