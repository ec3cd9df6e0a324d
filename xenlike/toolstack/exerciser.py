"""What a guest runs to try a driver out: its `exercise`, again and again, in no hurry.

It reports through the store, below its own `data`:

    data/exercise         "12 1": so many went well, so many failed
    data/exercise-error   what the last failure said
"""

from __future__ import annotations

import random
import traceback
from typing import TYPE_CHECKING, cast

import trio

from xenlike.domain.reference import resolve
from xenlike.errors import NoSuchDevice, PeerGone, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from xenlike.domain.domain import Domain
    from xenlike.xenbus import Frontend

COUNTS = "exercise"
ERROR = "exercise-error"
REPORT_S = 0.2
"""The store is told this often at most."""
AFTER_ERROR_S = 0.5
"""What has failed once will probably fail again: no hurry."""


async def main(domain: Domain, type: str, number: int, exercise: str, pause_s: float) -> None:
    """Uses a device until it is cancelled.

    Args:
        domain: the guest.
        type: the device type.
        number: the device's.
        exercise: a reference, as in `Driver.exercise`; empty for a driver that has none.
        pause_s: between two.
    """
    use = cast("Callable[[Frontend, random.Random], Awaitable[None]]", resolve(exercise)) if exercise else None
    chance = random.Random(1)
    device: Frontend | None = None
    done = failed = 0
    reported_s = -1.0
    places: set[str] = set()
    while True:
        error, place = "", ""
        try:
            if device is None:
                device = await domain.device(type, number)
            if use is None:
                await domain.store.write(f"data/{COUNTS}", "0 0")
                await trio.sleep_forever()
            else:
                await use(device, chance)
            done += 1
        except (NoSuchDevice, PeerGone, ProtocolError) as gone:
            # Not the exercise's fault, and perhaps not for ever.
            failed, error, device = failed + 1, f"{gone.__class__.__name__}: {gone}", None
        except Exception as fault:
            failed, error, place = failed + 1, f"{fault.__class__.__name__}: {fault}", _place_of(fault)
            if place not in places:
                traceback.print_exc()
                places.add(place)
        now = trio.current_time()
        if error or done == 1 or now - reported_s > REPORT_S:
            nodes = {f"data/{ERROR}": f"{error}{place}"[:1000]} if error else {}
            await domain.store.write_many({**nodes, f"data/{COUNTS}": f"{done} {failed}"})
            reported_s = now
        await trio.sleep(max(pause_s, AFTER_ERROR_S) if error else pause_s)


def _place_of(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({frame.filename}, line {frame.lineno})"
