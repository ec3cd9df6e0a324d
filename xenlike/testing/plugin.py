"""The pytest plugin: fixtures for tests of drivers. It imports nothing but pytest until one of them is used.

def test_the_laws(check_driver):
    check_driver(DRIVER)                       # fails with the report

async def test_echo(loopback):                 # with pytest-trio
    async with loopback() as machine:
        echo = await machine.attach("echo")

pytest --xenlike-seed 7                        # what a report says broke with seed 7
pytest -p no:xenlike                           # without all this
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from xenlike.testing.loopback import Loopback
    from xenlike.testing.report import Report

_machines = pytest.StashKey["list[Loopback]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("xenlike", "tests of xenlike drivers")
    group.addoption(
        "--xenlike-seed",
        type=int,
        action="append",
        metavar="SEED",
        help="check the laws of drivers with this seed only; may be given several times",
    )
    group.addoption(
        "--xenlike-law",
        action="append",
        metavar="LAW",
        help="check only this law, or group of laws, of drivers; may be given several times",
    )


@pytest.fixture
def loopback(request: pytest.FixtureRequest) -> Callable[..., Loopback]:
    """Makes loopback machines, as `xenlike.testing.Loopback`; a failure shows what was last written to their stores."""
    from xenlike.testing.loopback import Loopback

    machines = request.node.stash.setdefault(_machines, [])

    def make(*args: object, **options: object) -> Loopback:
        machine = Loopback(*args, **options)  # type: ignore[arg-type]
        machines.append(machine)
        return machine

    return make


@pytest.fixture
def check_driver(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """Checks a driver's laws, as `xenlike.testing.check_driver_sync`, also in async tests; fails with the report."""
    import trio

    from xenlike.testing.conformance import check_driver_sync

    def check(driver: object, **options: object) -> Report:
        __tracebackhide__ = True
        for name, option in (("seeds", "--xenlike-seed"), ("laws", "--xenlike-law")):
            chosen = request.config.getoption(option)
            if chosen:
                options[name] = chosen
        found: list[Report | BaseException] = []

        def work() -> None:
            try:
                found.append(check_driver_sync(driver, **options))  # type: ignore[arg-type]
            except BaseException as error:
                found.append(error)

        if trio.lowlevel.in_trio_run():
            # It runs trio itself, which one thread can do only once.
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        else:
            work()
        (result,) = found
        if isinstance(result, BaseException):
            raise result
        if not result.ok:
            pytest.fail(str(result), pytrace=False)
        return result

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the stores' last changes to the report of a test that failed with a loopback machine."""
    report = yield
    if report.failed and call.when == "call":
        for machine in item.stash.get(_machines, []):
            from xenlike.testing.trace import Trace

            trace = Trace()
            trace.tree = machine.tree
            report.sections.append(("xenlike loopback machine", "\n".join(trace.lines())))
    return report
