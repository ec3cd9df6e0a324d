"""What guests of real machines do with the example drivers; runs in their own processes."""

from __future__ import annotations

import os
import random

from xenlike import Domain
from xenlike.domain.reference import resolve
from xenlike.frontends.kv import KvFront
from xenlike.frontends.kv import exercise as exercise_kv
from xenlike.frontends.rng import RngFront
from xenlike.frontends.rng import exercise as exercise_rng
from xenlike.frontends.sensor import SensorFront
from xenlike.frontends.sensor import exercise as exercise_sensor
from xenlike.xenbus import load_driver


async def takes_entropy(domain: Domain) -> None:
    rng = await domain.device("rng", kind=RngFront)
    await exercise_rng(rng, random.Random(1))
    print("read", len(await rng.read(10_000)), "pid", os.getpid())
    await rng.read(100_000)
    print("done")


async def keeps_values(domain: Domain, name: str, other: str) -> None:
    """Two guests of one store tell each other that they are there."""
    kv = await domain.device("kv", kind=KvFront)
    await exercise_kv(kv, random.Random(2))
    await kv.put(name.encode(), name.encode() * 5000)
    if await kv.changed(other.encode(), 0):
        print("met", (await kv.get(other.encode())).value == other.encode() * 5000, "pid", os.getpid())


async def takes_samples(domain: Domain) -> None:
    sensor = await domain.device("sensor", kind=SensorFront)
    await exercise_sensor(sensor, random.Random(3))
    await sensor.start(5000)
    taken = 0
    while taken < 1000:
        samples = await sensor.read()
        taken += len(samples)
    print("taken", samples.dtype.names, int(samples["sequence"][-1]) > 900, "pid", os.getpid())
    await sensor.stop()


async def outlives_its_backend(domain: Domain, type: str) -> None:
    """Uses a device until another domain serves it, and once more."""
    frontend = await domain.device(type)
    exercise = resolve(load_driver(type).exercise)
    assert callable(exercise)
    first, number = frontend.otherend_id, 0
    print("at work")
    while frontend.otherend_id == first:
        await exercise(frontend, random.Random(number))
        number += 1
    await exercise(frontend, random.Random(number))
    print("outlived it")
