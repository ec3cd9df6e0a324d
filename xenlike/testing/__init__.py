"""What driver authors test with: a machine in one process, and peers that misbehave.

    async def test_echo():
        async with Loopback() as machine:
            echo = await machine.attach("echo")
            assert await echo.frontend.upper(b"hello") == b"HELLO"

Everything here is public.
"""

from xenlike.testing.fakedomain import FakeDomain
from xenlike.testing.fakestore import FakeStore, FakeTree
from xenlike.testing.loopback import Loopback, LoopDomain, Plugged
from xenlike.testing.peer import MockBackend, MockFrontend, RawRing

__all__ = [
    "FakeDomain",
    "FakeStore",
    "FakeTree",
    "LoopDomain",
    "Loopback",
    "MockBackend",
    "MockFrontend",
    "Plugged",
    "RawRing",
]
