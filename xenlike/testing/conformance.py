"""`check_driver`: does a driver keep the laws that every driver must keep?

    report = await check_driver(DRIVER)          # or check_driver_sync(DRIVER), where no trio runs
    report.verify()

Each law runs in a trio run of its own, on a clock that never makes anybody wait, with a scheduler whose dice a seed
deals; what a seed breaks once, it breaks again.
"""

from __future__ import annotations

import random
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from xenlike.abi.driver import Driver
from xenlike.domain.reference import resolve
from xenlike.errors import ConfigError
from xenlike.testing import laws as all_laws
from xenlike.testing.case import Case, Kit, leaves
from xenlike.testing.law import LAWS, Broken, Inapplicable, Law
from xenlike.testing.report import Breach, Outcome, Report
from xenlike.testing.running import Runaway, run_apart
from xenlike.testing.trace import logged
from xenlike.testing.wellformed import random_exercise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from xenlike.testing.loopback import Loopback, Plugged

SEEDS = range(8)


async def check_driver(
    driver: Driver | str,
    *,
    exercise: Callable[[Any, random.Random], Awaitable[None]] | None = None,
    seeds: Iterable[int] = SEEDS,
    laws: Iterable[str] | None = None,
    front_nodes: Mapping[str, str] | None = None,
    back_nodes: Mapping[str, str] | None = None,
    prepare: Callable[[Loopback, Plugged], None] | None = None,
) -> Report:
    """Checks the laws, in a thread; as `check_driver_sync`. A checkpoint; cancelled, it ends after the present law."""
    kit = make_kit(driver, exercise, front_nodes, back_nodes, prepare)
    chosen, seeds = choose(laws), list(seeds)
    await trio.to_thread.run_sync(all_laws.record, kit)
    outcomes = [await trio.to_thread.run_sync(check_law, kit, law, seeds) for law in chosen]
    return Report(kit.driver.type, outcomes)


def check_driver_sync(
    driver: Driver | str,
    *,
    exercise: Callable[[Any, random.Random], Awaitable[None]] | None = None,
    seeds: Iterable[int] = SEEDS,
    laws: Iterable[str] | None = None,
    front_nodes: Mapping[str, str] | None = None,
    back_nodes: Mapping[str, str] | None = None,
    prepare: Callable[[Loopback, Plugged], None] | None = None,
) -> Report:
    """Checks whether a driver keeps the laws.

    Args:
        driver: the driver, or a reference to it, such as "mypackage.protocol:DRIVER".
        exercise: uses a connected frontend; by default what the driver names, and where it names nothing, requests
            with random honest numbers. Several tasks run it at once.
        seeds: laws in which chance plays a part are checked once for each.
        laws: names of laws or of their groups, such as "hostile"; all by default.
        front_nodes: nodes that the toolstack writes for each device, as for `Loopback.plug`.
        back_nodes: likewise, at the backend.
        prepare: as for `Loopback`: gives a device's backend what it needs of its host.

    Raises:
        ConfigError: there is no such driver, or no such law.
    """
    kit = make_kit(driver, exercise, front_nodes, back_nodes, prepare)
    chosen, seeds = choose(laws), list(seeds)
    all_laws.record(kit)
    return Report(kit.driver.type, [check_law(kit, law, seeds) for law in chosen])


def make_kit(
    driver: Driver | str,
    exercise: Callable[[Any, random.Random], Awaitable[None]] | None = None,
    front_nodes: Mapping[str, str] | None = None,
    back_nodes: Mapping[str, str] | None = None,
    prepare: Callable[[Loopback, Plugged], None] | None = None,
) -> Kit:
    """Returns a driver with all that its checks need; errors as `check_driver_sync`."""
    found = resolve(driver) if isinstance(driver, str) else driver
    if not isinstance(found, Driver):
        raise ConfigError(f"{driver!r} is no xenlike Driver but {found!r}")
    if exercise is None and found.exercise:
        exercise = cast("Callable[[Any, random.Random], Awaitable[None]]", resolve(found.exercise))
    for half in (found.frontend, found.backend):
        resolve(half)
    return Kit(found, exercise or random_exercise, prepare, front_nodes or {}, back_nodes or {})


def choose(names: Iterable[str] | None) -> list[Law]:
    """Returns the laws of these names and groups; all for None.

    Raises:
        ConfigError: there is no such law and no such group.
    """
    if names is None:
        names = all_laws.GROUPS
    chosen: dict[str, Law] = {}
    for name in [names] if isinstance(names, str) else names:
        found = {key: law for key, law in LAWS.items() if key == name or key.partition(".")[0] == name}
        if not found:
            raise ConfigError(f"there is no law {name!r}; there are {', '.join(law.name for law in choose(None))}")
        chosen |= found
    return list(chosen.values())


def check_law(kit: Kit, law: Law, seeds: Iterable[int]) -> Outcome:
    """Checks one law, in this thread, which runs no trio."""
    began, breaches, used = time.perf_counter(), [], []
    left_out = ""
    for seed in seeds:
        used.append(seed)
        case = Case(kit, law.name, seed)
        try:
            with logged(case.trace):
                run_apart(partial(law.check, case), seed)
        except BaseException as error:
            found = list(leaves(error))
            stranger = next((e for e in found if not isinstance(e, Exception)), None)
            if stranger is not None:
                raise stranger from error
            reason = next((e for e in found if isinstance(e, Inapplicable)), None)
            if reason is not None:
                left_out = str(reason)
            else:
                breaches.append(_breach(case, law, found))
        if not law.seeded:
            break
    return Outcome(law.name, law.sentence, used, time.perf_counter() - began, left_out, breaches)


def _breach(case: Case, law: Law, errors: list[BaseException]) -> Breach:
    known = next((error for error in errors if isinstance(error, (Broken, Runaway))), None)
    message = str(known) if known is not None else _crash(errors[0])
    return Breach(
        law=law.name,
        sentence=law.sentence,
        message=message,
        step=case.steps[-1] if case.steps else "making a machine",
        seed=case.seed,
        fault="" if case.faults is None else repr(case.faults),
        trace=case.trace.lines(),
        repeat=f'check_driver_sync(DRIVER, laws=["{law.name}"], seeds=[{case.seed}])',
    )


def _crash(error: BaseException) -> str:
    """Returns what an error says that nothing of this expected, and where it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = (
        f", raised in {frames[-1].name} ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})"
        if frames
        else ""
    )
    return f"{type(error).__name__}: {error}{where}"
