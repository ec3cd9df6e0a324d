"""Law: a guest of an example driver works on when its driver domain is killed, and comes back as another process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.drivers import example_guests
from tests.drivers.example_machine import machine_with
from xenlike import Device


@pytest.mark.system
@pytest.mark.parametrize("type", ["rng", "kv", "sensor"])
async def test_a_guest_outlives_its_driver_domain(tmp_path: Path, type: str) -> None:
    async with machine_with(type, tmp_path) as (machine, heard):
        device = Device(type, backend="driver")
        guest = await machine.spawn("guest", example_guests.outlives_its_backend, args=[type], devices=[device])
        await heard.wait_for("guest", "at work")
        driver = machine.find("driver")
        assert driver.pid is not None
        os.kill(driver.pid, signal.SIGKILL)
        assert (await guest.wait()).reason == "poweroff"
        assert "outlived it" in heard.text["guest"]
