"""A sensor in use, for checks and benchmarks. Others may use it at the same time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from xenlike.io.sensor import SensorSample, waveform

if TYPE_CHECKING:
    from random import Random

    from xenlike.frontends.sensor import SensorFront


async def exercise(sensor: SensorFront, dice: Random) -> None:
    """Starts it, reads some samples, stops it; see `xenlike.abi.driver.Driver`."""
    rate = max(1, sensor.max_rate // dice.randint(1, 4))
    await sensor.start(rate)
    left = 20
    while left > 0:
        data = await sensor.read_raw(left)
        samples = SensorSample.unpack_many(data, len(data) // SensorSample.__layout__.size)
        assert all(sample.value == waveform(sample.sequence) for sample in samples)
        assert all(one.time < two.time for one, two in pairwise(samples))
        left -= len(samples)
        if not samples:
            # Somebody else has stopped it.
            await sensor.start(rate)
    await sensor.stop()
