"""Events: whoever sleeps is woken, whoever is about to sleep looks once more, and who has nothing to do sleeps."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from xenlike.ring import BackRing, FrontRing
from xenlike.testing.law import Broken, Inapplicable, law
from xenlike.testing.meeting import connected_backend
from xenlike.testing.running import limited
from xenlike.testing.script import Respond
from xenlike.testing.waiting import waiting
from xenlike.testing.wellformed import Overheard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xenlike.testing.case import Case
    from xenlike.testing.loopback import Loopback, LoopDomain

PATIENCE_S = 100
MOST_IDLE_STEPS = 50


@law("Whoever sleeps is sent an event when something is published for him.")
async def told(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device")
        device = await case.attach(machine)
        for number in range(5):
            case.step(f"use it while both halves sleep, time {number + 1}")
            await case.settle()
            with trio.move_on_after(PATIENCE_S) as scope:
                await case.exercise(device)
            if scope.cancelled_caught:
                raise Broken("; ".join(["an operation is never done", *waiting(machine)]))


@law("A backend that has asked for an event looks once more before it sleeps.")
async def backend_looks_again(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, and overhear a request")
        device = await case.attach(machine)
        frontend, overheard = device.frontend, Overheard(device.frontend)
        await case.exercise(device)
        await case.settle()
        if not overheard.entries:
            raise Inapplicable("its operations send no requests through the frontend's queue")
        if frontend.queue.size < 2:
            raise Inapplicable("its ring has one slot, so nothing is published beside a request")
        answered = _Answered()

        def publish() -> None:
            frontend.queue.post(overheard.entries[0], 1, answered)

        case.step("publish it between the backend's last look and its arming, as another processor might")
        with _before_arm(BackRing, device.backend.queue._ring, publish) as seen:
            await case.exercise(device)
            await case.settle()
            if not seen:
                raise Inapplicable("its backend does not sleep through `arm`")
            await trio.sleep(PATIENCE_S)
        case.expect(
            answered.times,
            "a request that was published between the backend's last look and its arming was never served: "
            f"{'; '.join(waiting(machine))}",
        )


@law("A frontend that has asked for an event looks once more before it sleeps.")
async def frontend_looks_again(case: Case) -> None:
    async with case.machine() as machine:
        case.step("a frontend is connected to a backend that answers between its last look and its arming")
        peer = await connected_backend(case, machine)
        answered = 0

        def publish() -> None:
            nonlocal answered
            while peer.pending:
                Respond().put(peer)
                answered += 1

        with _before_arm(FrontRing, peer.device.frontend.queue._ring, publish, every=True):
            with limited(PATIENCE_S, steps=5000):
                await case.try_out(peer.device)
            await case.settle()
        if not answered:
            raise Inapplicable("its frontend does not sleep through `arm`")
        queue = peer.device.frontend.queue if peer.device.frontend.connected else None
        case.expect(
            queue is None or not queue._ring.available,
            "a response that was published between the frontend's last look and its arming was never taken: "
            f"{'; '.join(waiting(machine))}",
        )


class _Answered:
    def __init__(self) -> None:
        self.times = 0

    def done(self, index: int, response: bytes) -> None:
        self.times += 1

    def fail(self, error: Exception) -> None:
        """Nothing to do: `times` says it."""


@contextmanager
def _before_arm(
    kind: type[BackRing | FrontRing], ring: object, publish: Callable[[], None], *, every: bool = False
) -> Iterator[list[object]]:
    """Has something published right before a ring is armed; yields a list that is filled when that happened."""
    real, seen = kind.arm, list[object]()

    def arm(self: BackRing | FrontRing, *args: int) -> bool:
        if self is ring and (every or not seen):
            seen.append(self)
            publish()
        armed: bool = real(self, *args)  # type: ignore[arg-type]
        return armed

    setattr(kind, "arm", arm)  # noqa: B010 - a method, to mypy
    try:
        yield seen
    finally:
        setattr(kind, "arm", real)  # noqa: B010


@law("A device that has nothing to do sleeps: it takes no steps.")
async def idle(case: Case) -> None:
    async with case.machine() as machine:
        case.step("attach a device, use it, and leave it alone for a quarter of an hour")
        device = await case.attach(machine)
        await case.exercise(device)
        await case.settle()
        with _counted(machine) as steps:
            await trio.sleep(900)
        for name, count in steps.items():
            case.expect(count <= MOST_IDLE_STEPS, f"in a quarter of an hour without work, {name} took {count} steps")


@contextmanager
def _counted(machine: Loopback) -> Iterator[dict[str, int]]:
    """Counts the steps of each domain."""
    counts: dict[str, int] = {}
    domains: list[LoopDomain] = [machine.driver, machine.guest]

    class Counter(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            for domain in domains:
                if domain.owns(task):
                    counts[f"d{domain.domid}"] = counts.get(f"d{domain.domid}", 0) + 1

    counter = Counter()
    trio.lowlevel.add_instrument(counter)
    try:
        yield counts
    finally:
        trio.lowlevel.remove_instrument(counter)
