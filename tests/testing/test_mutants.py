"""Law: a driver with a fault is found out, by a law that points at the fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.testing import more_mutants as more
from tests.testing import mutants
from tests.testing.kits import options
from xenlike.io.blk import DRIVER as VBD
from xenlike.io.echo import DRIVER as ECHO
from xenlike.testing import check_driver_sync
from xenlike.testing.law import LAWS
from xenlike.xenbus import Frontend

FAULTS = [
    (mutants.NoBounds, "hostile.over-limit", "size = 4097 is over its limit max-size = 4096", "does not check bounds"),
    (mutants.KeepsIds, "hostile.duplicate-id", "was answered twice", "not cleared"),
    (mutants.SkipsInitialised, "handshake.order", "the frontend skipped Initialised"),
    (mutants.NeverKicks, "wakeups.told", "the backend pushed up to rsp_prod = 1 and sent no event"),
    (mutants.KicksFirst, "wakeups.told", "the backend pushed up to rsp_prod = 1 and sent no event"),
    (mutants.SleepsAfterArm, "wakeups.backend-looks-again", "between the backend's last look and its arming"),
    (mutants.Litters, "leftovers.detached", "nodes are left", "data/echo-version"),
    (mutants.NeverUnmaps, "leftovers.detached", "the driver domain maps", "never unmapped"),
    (mutants.AnswersTwice, "service.alone", "2 responses for 1 unanswered requests"),
    (mutants.LeaksOnReconnect, "leftovers.reconnected", "after ten more connections", "the driver domain maps"),
    (mutants.BelievesNodes, "nodes.extreme", "an operation raised ValueError"),
    (mutants.HangsOnDetach, "hotplug.detach", "never was", "the backend Closing"),
    (mutants.Swallows, "hostile.not-granted", "gref = 4000 is no grant of this frontend", "error was swallowed"),
    (mutants.NeverSleeps, "wakeups.idle", "round in circles", "_serve"),
    (mutants.NoSegmentBounds, "hostile.over-limit", "seg[0].last_sect = 8 is over its limit of 7"),
    (mutants.LosesIds, "service.alone", "response with id 0, which is not in flight"),
    (mutants.BlockNeverUnmaps, "leftovers.detached", "the driver domain maps", "never unmapped"),
    (mutants.AssumesSectors, "nodes.missing", "sectors, which has no default, was missing, and the frontend connected"),
    (mutants.ForgetsSectors, "handshake.order", "sectors is missing"),
    (mutants.BlockNeverKicks, "wakeups.told", "and sent no event, although rsp_event = 1 asks for one"),
    (mutants.BlockSwallows, "hostile.not-granted", "seg[0].gref = 4000 is no grant", "error was swallowed"),
]

MORE = [
    (more.OnePageForAll, "service.together", "wrong answer"),
    (more.OneCacheForAll, "service.apart", "wrong answer"),
    (more.WaitsForItsGuest, "handshake.either-first", "never got connected", "the frontend is Initialising"),
    (more.NeedsInitWait, "handshake.skipped", "the frontend stays Initialising"),
    (more.ReconnectsWhenTold, "handshake.repeated", "after Connected was said again", "device/echo/0/protocol changed"),
    (more.KeepsTheRing, "handshake.again", "still maps 1 pages of the old connection"),
    (more.OffersOnce, "handshake.walk", "cannot begin again"),
    (more.TakesNonsense, "nodes.nonsense", "max-size = 'much' was taken"),
    (more.TakesAnyProtocol, "nodes.ring", "should refuse protocol = 'arm-abi'"),
    (more.NeedsPersistent, "nodes.features", "I need persistent grants"),
    (more.SleepsAfterArm, "wakeups.frontend-looks-again", "between the frontend's last look and its arming"),
    (mutants.HangsOnDetach, "hotplug.detach-under-load", "never was"),
    (more.StopsTheOther, "hotplug.attach-under-load", "there is another one now"),
    (more.ForgetsItsCallers, "hotplug.detach-under-load", "hang in an operation"),
    (more.NeverCloses, "hotplug.close", "the frontend closed the device", "the frontend is Connected"),
    (more.LeaksPages, "leftovers.relinked", "windows of memory"),
    (more.DoesNotDrain, "suspend.waits", "the guest says that it is quiet", "requests are in flight"),
    (more.NeverResumes, "suspend.under-load", "operations under load are never done"),
    (more.NeverResumes, "suspend.elsewhere", "never got connected"),
    (more.MakesAnswersUp, "deaths.of-the-backend", "wrong answer"),
    (more.KeepsPagesOfTheDead, "deaths.of-the-frontend", "the guest is dead", "still maps"),
    (more.ConnectsOnce, "deaths.at-a-point", "cannot connect again"),
    (more.WaitsForItsGuest, "silence.in-the-handshake", "should wait in InitWait and is Initialising"),
    (more.CannotBeCancelled, "silence.cancelled", "12 operations that were cancelled have not ended"),
    (more.NeverGivesUp, "silence.detached", "operations still wait for an answer"),
    (more.ConnectsOnce, "silence.replaced", "cannot connect again"),
    (more.LosesPatience, "silence.stopped", "wrong answer"),
    (more.IgnoresBrokenRings, "hostile.request-index", "should give the connection up, and is Connected"),
    (more.IgnoresBrokenAnswers, "hostile.response-index", "should give the connection up, and is Connected"),
    (more.IgnoresBrokenAnswers, "hostile.unknown-id", "which nobody asked with"),
    (more.BelievesAnswers, "hostile.response-content", "raised IndexError"),
    (more.HangsOnBadGrants, "hostile.random-requests", "random bytes was never answered"),
    (more.HatesEvents, "hostile.storm", "events without requests made the backend"),
]


def test_every_law_is_broken_by_a_mutant():
    assert {law for _, law, *_ in FAULTS + MORE} == set(LAWS)


@pytest.mark.parametrize(("mutant", "law", "words"), [(m, law, words) for m, law, *words in FAULTS + MORE])
def test_a_mutant_is_caught_by_the_law_that_it_breaks(mutant, law, words):
    base = ECHO if mutant.protocol is ECHO.protocol else VBD
    name = f"{mutant.__module__}:{mutant.__name__}"
    driver = replace(base, frontend=name) if issubclass(mutant, Frontend) else replace(base, backend=name)
    report = check_driver_sync(driver, laws=[law], seeds=range(4), **options(base.type))
    assert report.broken() == [law]
    message = report.breaches[0].message
    for part in words:
        assert part in message
