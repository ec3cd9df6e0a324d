"""Machines whose devices get stuck: real halves, and halves that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.why.stuck import DiscBack, DiscFront
from xenlike.testing import Loopback, MockBackend, MockFrontend


@pytest.fixture
async def machine() -> AsyncIterator[Loopback]:
    """Real halves in both domains."""
    async with Loopback({"disc": DiscFront}, {"disc": DiscBack}) as machine:
        yield machine


@pytest.fixture
async def against_backend(machine: Loopback) -> MockFrontend:
    """A real backend, and a frontend that the test plays."""
    guest = await machine.add_domain("mock", buses=False)
    return MockFrontend(machine, machine.plug("echo", guest=guest))


@pytest.fixture
async def against_frontend(machine: Loopback) -> MockBackend:
    """A real frontend, and a backend that the test plays."""
    driver = await machine.add_domain("mock", buses=False)
    return MockBackend(machine, machine.plug("echo", driver=driver))


@pytest.fixture
async def mocks(machine: Loopback) -> tuple[MockFrontend, MockBackend]:
    """Both halves are the test's: d3 is the guest, d4 the driver domain."""
    guest = await machine.add_domain("guest", buses=False)
    driver = await machine.add_domain("driver", buses=False)
    device = machine.plug("echo", guest=guest, driver=driver)
    return MockFrontend(machine, device), MockBackend(machine, device)
