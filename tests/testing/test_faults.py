"""Laws of fault points: a domain dies, stops or is delayed exactly there, and every time there."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xenlike.errors import NoSuchDevice, PeerGone
from xenlike.testing import Faults, Loopback, delay, kill, stop
from xenlike.testing.faults import POINTS
from xenlike.xenbus import XenbusState as S


class Use:
    """A guest's program: one operation, and what came of it."""

    def __init__(self, device):
        self.device = device
        self.answers = []
        device.front.spawn(self._run)

    async def _run(self):
        try:
            self.answers.append(await self.device.frontend.upper(b"x"))
        except (NoSuchDevice, PeerGone) as error:
            self.answers.append(type(error))


async def plug(machine):
    """Plugs a device in, and uses it as soon as it is there."""
    device = machine.plug("echo")
    for _ in range(1000):
        if device.front.has(device.front_path):
            break
        await trio.lowlevel.checkpoint()
    return device, Use(device)


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_driver_domain_does_nothing_afterwards(point):
    faults = Faults.at(point, kill)
    async with Loopback(faults=faults) as machine:
        device, use = await plug(machine)
        await wait_all_tasks_blocked()
        assert faults.struck.is_set()
        assert not machine.driver.alive
        assert faults.passed[point] == 1
        assert not machine.driver.grants.mappings
        state = device.states()[1]
        said = {"before-publish": (S.Initialising,), "after-publish": (S.InitWait,), "before-map": (S.InitWait,)}
        # Its queue may kick before it has said that it is connected.
        assert state in said.get(point, (S.InitWait, S.Connected))
        before = len(use.answers)
        machine.relink(device, await machine.add_domain("driver again"))
        await device.wait_connected()
        await wait_all_tasks_blocked()
        assert use.answers == [b"X"]
        assert before == int(point == "after-respond")


@pytest.mark.parametrize("point", [point for point in POINTS if "publish" in point or "notify" in point])
async def test_a_killed_guest_does_nothing_afterwards(point):
    faults = Faults.at(point, kill, domain="guest")
    async with Loopback(faults=faults) as machine:
        device, use = await plug(machine)
        await wait_all_tasks_blocked()
        assert faults.struck.is_set()
        assert not machine.guest.alive
        assert use.answers == []
        assert device.states()[1] in (S.InitWait, S.Closed)


@pytest.mark.parametrize("domain", ["driver", "guest"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_stopped_domain_takes_no_step_until_it_goes_on(point, domain):
    faults = Faults.at(point, stop, domain=domain)
    async with Loopback(faults=faults) as machine:
        device, use = await plug(machine)
        await wait_all_tasks_blocked()
        if not faults.struck.is_set():
            assert domain == "guest"  # which maps nothing, and responds to nothing
            return
        stopped = machine.driver if domain == "driver" else machine.guest
        history = list(machine.tree.history)
        assert stopped.is_stopped
        # A frontend that is awake finds a response without being told.
        assert use.answers == [] or point == "after-respond"
        other = await machine.add_domain("other guest")
        machine.tree.write(f"{other.home}/anything", "1")
        await wait_all_tasks_blocked()
        assert machine.tree.history[: len(history)] == history
        stopped.go()
        await device.wait_connected()
        await wait_all_tasks_blocked()
        assert use.answers == [b"X"]


@pytest.mark.parametrize("point", POINTS)
def test_a_delayed_domain_goes_on_by_itself(point):
    async def main():
        async with Loopback(faults=Faults.at(point, delay)) as machine:
            _, use = await plug(machine)
            await wait_all_tasks_blocked()
            assert machine.driver.is_stopped
            began = trio.current_time()
            await trio.sleep(delay.seconds)
            await wait_all_tasks_blocked()
            assert trio.current_time() - began == pytest.approx(delay.seconds)
            assert use.answers == [b"X"]

    trio.run(main, clock=MockClock(autojump_threshold=0.001))


async def test_the_nth_time_counts():
    faults = Faults.at("after-respond", kill, nth=3)
    async with Loopback(faults=faults) as machine:
        device = await machine.attach("echo")
        for _ in range(2):
            assert await device.frontend.upper(b"x") == b"X"
        assert machine.driver.alive
        Use(device)
        await wait_all_tasks_blocked()
        assert not machine.driver.alive


async def test_a_stopped_domain_can_be_killed():
    async with Loopback(faults=Faults.at("before-respond", stop)) as machine:
        device, use = await plug(machine)
        await wait_all_tasks_blocked()
        await machine.kill(machine.driver)
        assert not machine.driver.alive
        assert use.answers == []
        machine.relink(device, await machine.add_domain("driver again"))
        await device.wait_connected()
        await wait_all_tasks_blocked()
        assert use.answers == [b"X"]


async def test_an_operation_of_nobodys_task_hears_of_the_death():
    async with Loopback(faults=Faults.at("before-notify", kill, domain="guest", nth=1)) as machine:
        device = machine.plug("echo")
        await device.wait_connected()
        with pytest.raises(NoSuchDevice):
            await device.frontend.upper(b"x")
        assert not machine.guest.alive


def test_a_seed_chooses_always_the_same_and_the_text_repeats_it():
    for seed in range(50):
        faults = Faults(seed)
        again = eval(repr(faults), {"Faults": Faults, "kill": kill, "stop": stop, "delay": delay})
        assert (again.point, again.action, again.nth) == (faults.point, faults.action, faults.nth)
        assert repr(Faults(seed)) == repr(faults) == repr(again)
    assert len({repr(Faults(seed)) for seed in range(200)}) > 50


def test_a_point_that_there_is_not():
    with pytest.raises(ValueError, match="there is no point 'before-lunch'; points are before-publish"):
        Faults.at("before-lunch", kill)
