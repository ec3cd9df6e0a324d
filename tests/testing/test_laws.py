"""Law: the shipped drivers keep every law, and what a seed has shown once it shows again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import trio

from tests.testing import mutants
from tests.testing.kits import options
from xenlike.errors import ConfigError
from xenlike.io.blk import DRIVER as VBD
from xenlike.io.echo import DRIVER as ECHO
from xenlike.testing import LawBroken, check_driver, check_driver_sync
from xenlike.testing.law import LAWS
from xenlike.testing.laws import GROUPS

UNBOUNDED = replace(ECHO, backend=f"{mutants.__name__}:NoBounds")


@pytest.mark.slow
@pytest.mark.parametrize("driver", [ECHO, VBD], ids=lambda driver: driver.type)
def test_a_shipped_driver_keeps_all_laws(driver):
    report = check_driver_sync(driver, seeds=range(4), **options(driver.type))
    report.verify()
    left_out = [outcome.law for outcome in report.outcomes if outcome.left_out]
    assert left_out == (["nodes.features"] if driver is ECHO else [])


def test_a_driver_without_an_exercise_is_checked_with_random_requests():
    check_driver_sync(replace(ECHO, exercise=""), laws=["service", "leftovers", "hostile"], seeds=[0]).verify()


async def idle(device, dice):
    """What a beginner writes first."""


def test_an_exercise_that_does_nothing_is_told_so():
    report = check_driver_sync(ECHO, exercise=idle, laws=["service", "hotplug"], seeds=[0])
    with pytest.raises(LawBroken, match="it does not use the device"):
        report.verify()


def test_every_law_has_a_sentence_and_a_group():
    assert {name.partition(".")[0] for name in LAWS} == set(GROUPS)
    for law in LAWS.values():
        assert law.sentence.endswith(".")
        assert law.sentence[0].isupper()


async def test_drivers_are_checked_from_async_tests_too():
    report = await check_driver(ECHO, laws=["handshake.order"])
    assert report.ok
    assert not trio.current_effective_deadline() < trio.current_time()


def test_a_driver_or_law_that_there_is_not():
    with pytest.raises(ConfigError, match=r"there is no law 'hostile\.overlimit'; there are service\.alone"):
        check_driver_sync(ECHO, laws=["hostile.overlimit"])
    with pytest.raises(ConfigError, match="there is no module"):
        check_driver_sync("no.such.package:DRIVER")
    with pytest.raises(ConfigError, match="has no 'NoFront'"):
        check_driver_sync(replace(ECHO, frontend="xenlike.frontends.echo:NoFront"))


# Reports.


def test_a_report_says_law_step_seed_and_what_happened_before():
    report = check_driver_sync(UNBOUNDED, laws=["hostile.over-limit", "handshake.order"])
    assert not report.ok
    assert report.broken() == ["hostile.over-limit"]
    with pytest.raises(LawBroken) as caught:
        report.verify()
    text = str(caught.value)
    for part in (
        "BROKEN  hostile.over-limit: A number over its declared limit is answered with an error",
        "size = 4097 is over its limit max-size = 4096",
        "while    a request is honest but for size = 4097; its limit is 4096",
        'again    check_driver_sync(DRIVER, laws=["hostile.over-limit"], seeds=[0])',
        "store  d2/device/echo/0/state = 4 (Connected)",
        "log    INFO d1/backend/echo/2/0: InitWait -> Connected",
        "<FrontRing ",
        "echo: 1 of 2 laws kept, 1 broken, 0 left out",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 130


def test_a_report_is_json_for_programs():
    report = json.loads(check_driver_sync(UNBOUNDED, laws=["hostile.over-limit"]).as_json())
    assert not report["ok"]
    (breach,) = report["laws"][0]["breaches"]
    assert breach["law"] == "hostile.over-limit"
    assert breach["trace"]


@pytest.mark.parametrize("seed", [0, 5])
def test_a_seed_repeats_what_it_did(seed):
    def trace():
        driver = replace(ECHO, backend=f"{mutants.__name__}:AnswersTwice")
        (breach,) = check_driver_sync(driver, laws=["hotplug.detach-under-load"], seeds=[seed]).breaches
        return breach.trace

    assert trace() == trace()


def test_log_lines_of_checks_are_nobody_elses(caplog):
    check_driver_sync(UNBOUNDED, laws=["hostile"], seeds=[0])
    assert not caplog.records
