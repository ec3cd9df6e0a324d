"""The example is short, runs as it is, and its driver keeps the laws of any driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xenlike.domain.reference import load_file
from xenlike.testing import Loopback

EXAMPLE = Path(__file__).with_name("echo.py")


def test_it_has_at_most_40_lines():
    assert sum(bool(line.strip()) for line in EXAMPLE.read_text().splitlines()) <= 40


@pytest.mark.system
def test_it_runs_as_it_is(tmp_path):
    environment = {**os.environ, "XENLIKE_RUNTIME_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, str(EXAMPLE)], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "HELLO FROM A GUEST" in result.stdout


async def test_its_driver_survives_its_backend():
    driver = load_file(EXAMPLE).DRIVER
    async with Loopback({"echo": driver}, {"echo": driver}) as machine:
        device = await machine.attach("echo")
        echo = device.frontend
        assert await echo.upper(b"one") == b"ONE"
        await machine.kill(machine.driver)
        machine.relink(device, await machine.add_domain("driver again"))
        assert await echo.upper(b"two") == b"TWO"
        await machine.detach(device)
