"""Laws of the key-value driver: what was put is got, changes are told, and what does not fit is refused by name."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.drivers import example_guests
from tests.drivers.example_machine import machine_with
from xenlike import Device
from xenlike.backends.kv import MAX_WATCHES, KvBack
from xenlike.backends.kv import store as store_module
from xenlike.errors import NoSuchDevice, PeerGone, RequestFailed
from xenlike.frontends.kv import KeyMissing, KvFailed, KvFront, StoreFull, TooMany, ValueTooBig, exercise
from xenlike.io.kv import DRIVER, KVIF_RSP_QUOTA
from xenlike.testing import Loopback, check_driver_sync

LONGEST = 16 * 4096
SIZES = [0, 1, 4095, 4096, 4097, 8192, 8193, LONGEST - 1, LONGEST]


@pytest.fixture
async def machine():
    async with Loopback() as machine:
        yield machine


# What it does.


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_is_got(machine, size):
    kv = (await machine.attach("kv")).frontend
    value = random.Random(size).randbytes(size)
    version = await kv.put(b"key", value)
    assert await kv.get(b"key") == (value, version)
    assert await kv.put(b"key", value[::-1]) > version
    assert (await kv.get(b"key")).value == value[::-1]


async def test_a_value_that_shrinks_leaves_nothing_of_the_longer_one(machine):
    kv = (await machine.attach("kv")).frontend
    await kv.put(b"key", b"x" * 10_000)
    await kv.get(b"key")
    await kv.put(b"key", b"short")
    assert (await kv.get(b"key")).value == b"short"


async def test_a_deleted_key_is_gone(machine):
    kv = (await machine.attach("kv")).frontend
    await kv.put(b"key", b"value")
    assert await kv.delete(b"key") is True
    assert await kv.delete(b"key") is False
    with pytest.raises(KeyMissing, match="b'key': there is no such key") as caught:
        await kv.get(b"key")
    assert isinstance(caught.value, KeyError | RequestFailed)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("key", [b"", b"x" * 33, b"\0", b"a\0b", b"a\0"])
async def test_what_is_no_key_is_an_error(machine, key):
    kv = (await machine.attach("kv")).frontend
    for operation in (kv.get(key), kv.put(key, b""), kv.delete(key), kv.changed(key, 0)):
        with pytest.raises(ValueError, match="a key has 1 to 32 bytes"):
            await operation


async def test_many_at_once_with_long_values_do_not_wait_for_each_other_for_ever(machine):
    device = await machine.attach("kv")
    kv = device.frontend

    async def use(number):
        dice = random.Random(number)
        key, value = b"%d" % number, dice.randbytes(dice.choice(SIZES))
        version = await kv.put(key, value)
        assert await kv.get(key) == (value, version)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(use, number)
    assert len(kv.pages._free) == KvFront.pool_pages
    assert len(device.backend.foreign) <= KvFront.pool_pages


# Stores.


async def test_each_device_has_a_store_of_its_own(machine):
    one, two = [await machine.attach("kv", number) for number in (0, 1)]
    await one.frontend.put(b"key", b"one")
    with pytest.raises(KeyMissing):
        await two.frontend.get(b"key")
    assert one.frontend.epoch != two.frontend.epoch


async def test_devices_with_the_same_word_share_a_store(machine):
    other = await machine.add_domain("other")
    one = await machine.attach("kv", back_nodes={"store": "common"})
    two = await machine.attach("kv", guest=other, back_nodes={"store": "common"})
    await one.frontend.put(b"key", b"from one")
    assert (await two.frontend.get(b"key")).value == b"from one"
    assert one.frontend.epoch == two.frontend.epoch
    # It outlives its users: another device finds what was in it.
    await machine.detach(one)
    await machine.detach(two)
    three = await machine.attach("kv", 3, back_nodes={"store": "common"})
    assert (await three.frontend.get(b"key")).value == b"from one"


async def test_driver_domains_share_nothing(machine):
    another = await machine.add_domain("another driver")
    one = await machine.attach("kv", back_nodes={"store": "common"})
    two = await machine.attach("kv", 1, driver=another, back_nodes={"store": "common"})
    assert one.frontend.epoch != two.frontend.epoch


async def test_a_store_of_its_own_ends_with_the_device(machine):
    device = await machine.attach("kv")
    await device.frontend.put(b"key", b"value")
    before = device.frontend.epoch
    await machine.detach(device)
    device = await machine.attach("kv")
    assert device.frontend.epoch != before
    with pytest.raises(KeyMissing):
        await device.frontend.get(b"key")


# Limits.


async def test_a_value_that_is_too_long_is_refused_at_once(machine):
    kv = (await machine.attach("kv")).frontend
    with pytest.raises(ValueTooBig, match="longer than the backend takes") as caught:
        await kv.put(b"key", bytes(LONGEST + 1))
    assert isinstance(caught.value, ValueError)
    assert caught.value.errno == errno.EFBIG


async def test_a_full_store_says_so_and_takes_again_when_something_is_deleted(machine, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_BYTES", 10_000)
    kv = (await machine.attach("kv")).frontend
    await kv.put(b"one", bytes(6000))
    with pytest.raises(StoreFull) as caught:
        await kv.put(b"two", bytes(6000))
    assert caught.value.errno == errno.ENOSPC
    # A refused one changes nothing, and a shorter one in its own place fits.
    await kv.put(b"one", bytes(10_000))
    await kv.delete(b"one")
    await kv.put(b"two", bytes(10_000))


async def test_the_number_of_keys_is_limited(machine, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_KEYS", 2)
    kv = (await machine.attach("kv")).frontend
    await kv.put(b"one", b"")
    await kv.put(b"two", b"")
    with pytest.raises(TooMany) as caught:
        await kv.put(b"three", b"")
    assert (caught.value.errno, caught.value.status) == (errno.EDQUOT, KVIF_RSP_QUOTA)
    await kv.put(b"one", b"again")


# Watches.


Log = list[int]


async def changes(kv, key, version, log):
    log.append(await kv.changed(key, version))


async def test_a_watch_is_answered_when_the_key_changes_and_not_before(machine):
    device = await machine.attach("kv")
    kv, log = device.frontend, Log()
    version = await kv.put(b"key", b"one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes, kv, b"key", version, log)
        await wait_all_tasks_blocked()
        await kv.put(b"other", b"two")
        await wait_all_tasks_blocked()
        assert log == []
        newer = await kv.put(b"key", b"two")
    assert log == [newer]


async def test_a_change_that_came_before_the_watch_is_told_at_once(machine):
    kv = (await machine.attach("kv")).frontend
    old = await kv.put(b"key", b"one")
    new = await kv.put(b"key", b"two")
    assert await kv.changed(b"key", old) == new
    assert await kv.changed(b"key", 0) == new
    await kv.delete(b"key")
    assert await kv.changed(b"key", new) == 0


async def test_another_guest_hears_of_a_change(machine):
    other = await machine.add_domain("other")
    one = await machine.attach("kv", back_nodes={"store": "common"})
    two = await machine.attach("kv", guest=other, back_nodes={"store": "common"})
    log = Log()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes, two.frontend, b"key", 0, log)
        await wait_all_tasks_blocked()
        version = await one.frontend.put(b"key", b"value")
    assert log == [version]


async def test_there_are_so_many_watches_and_other_requests_go_on(machine):
    kv = (await machine.attach("kv")).frontend
    log = Log()
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_WATCHES):
            nursery.start_soon(changes, kv, b"key", 0, log)
        await wait_all_tasks_blocked()
        with pytest.raises(TooMany):
            await kv.changed(b"key", 0)
        version = await kv.put(b"key", b"value")
    assert log == [version] * MAX_WATCHES
    # Their places are free again.
    await kv.changed(b"key", 0)


async def test_a_watch_goes_on_for_longer_than_one_request(monkeypatch, machine):
    monkeypatch.setattr(KvBack, "watch_ms", 1)
    device = await machine.attach("kv")
    log = Log()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes, device.frontend, b"key", 0, log)
        while device.backend.queue.statistics().responses < 3:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert log == []
        await device.frontend.put(b"key", b"value")
    assert len(log) == 1


async def test_a_cancelled_watch_leaves_nothing_behind(machine, monkeypatch):
    monkeypatch.setattr(KvBack, "watch_ms", 1)
    device = await machine.attach("kv")
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_WATCHES):
            nursery.start_soon(changes, device.frontend, b"key", 0, [])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with trio.fail_after(20):
        await device.frontend.queue.drained()
    assert device.backend._watches == 0


async def test_a_suspend_waits_for_watches_which_go_on_afterwards(mock_clock: MockClock):
    async with Loopback() as machine:
        kv, log = (await machine.attach("kv")).frontend, Log()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changes, kv, b"key", 0, log)
            await wait_all_tasks_blocked()
            nursery.start_soon(kv.quiesce)
            # The watch's time is over, and later so is the rest after it.
            for suspended in (False, True, True):
                await wait_all_tasks_blocked()
                assert kv.queue.in_flight == (not suspended)
                mock_clock.jump(1.0)
            await kv.revive()
            version = await kv.put(b"key", b"value")
        assert log == [version]


# Death, return, detach.


async def test_a_new_life_of_the_backend_is_another_epoch(machine):
    device = await machine.attach("kv")
    kv, log = device.frontend, Log()
    version, epoch = await kv.put(b"key", b"value"), kv.epoch
    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes, kv, b"key", version, log)
        await wait_all_tasks_blocked()
        await machine.kill(machine.driver)
        machine.relink(device, await machine.add_domain("driver again"))
    # Who watched is told that the key is gone; no version comes twice.
    assert log == [0]
    assert kv.epoch != epoch
    assert await kv.put(b"key", b"value") != version


@pytest.mark.parametrize("seed", range(5))
async def test_a_killed_backend_returns_and_work_goes_on(machine, seed):
    device, dice = await machine.attach("kv"), random.Random(seed)

    async def work(number):
        for turn in range(5):
            await exercise(device.frontend, random.Random(f"{seed} {number} {turn}"))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(work, number)
            for _ in range(2):
                for _ in range(dice.randrange(60)):
                    await trio.lowlevel.checkpoint()
                await machine.kill(device.back)
                machine.relink(device, await machine.add_domain("driver again"))
    # All may have been done before the last of them was there.
    await device.wait_connected()
    assert device.backend.store._entries == {}
    assert len(device.frontend.pages._free) == KvFront.pool_pages


async def test_cancelling_at_random_loses_no_page(machine):
    device, dice = await machine.attach("kv"), random.Random(1)

    async def impatient(patience):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(device.frontend.put, b"key", bytes(LONGEST))
            for _ in range(patience):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(impatient, dice.randrange(40))
    await wait_all_tasks_blocked()
    assert device.frontend.queue.in_flight == 0
    assert len(device.frontend.pages._free) == KvFront.pool_pages
    await device.frontend.put(b"key", bytes(LONGEST))


async def test_detach_under_load(machine):
    device = await machine.attach("kv")
    ends = []

    async def use(number):
        with pytest.raises(NoSuchDevice):
            while True:
                await device.frontend.put(b"%d" % number, bytes(5000))
                await device.frontend.get(b"%d" % number)
        ends.append(number)

    async def watch(number):
        with pytest.raises(NoSuchDevice):
            await device.frontend.changed(b"never", 0)
        ends.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(use, number)
            nursery.start_soon(watch, number)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(20):
            await machine.detach(device)
    assert len(ends) == 20
    assert machine.guest.memory.windows == {}
    assert machine.driver.grants.mappings == set()


async def test_who_does_not_want_to_wait_hears_of_the_death(machine):
    device = await machine.attach("kv")
    device.frontend.on_peer_gone = "fail"
    async with trio.open_nursery() as nursery:

        async def watch():
            with pytest.raises(PeerGone):
                await device.frontend.changed(b"key", 0)

        nursery.start_soon(watch)
        await wait_all_tasks_blocked()
        await machine.kill(machine.driver)


def test_an_unknown_status_is_an_error_like_any_other():
    from xenlike.frontends.kv.errors import failure

    error = failure(-99, b"key")
    assert type(error) is KvFailed
    assert (error.status, error.errno) == (-99, errno.EIO)


async def test_its_exercise(machine):
    device = await machine.attach("kv")
    for seed in range(10):
        await exercise(device.frontend, random.Random(seed))
    assert device.backend.store._entries == {}


@pytest.mark.slow
def test_it_keeps_the_laws_of_every_driver():
    report = check_driver_sync(DRIVER)
    report.verify()
    assert len(report.outcomes) > 40


@pytest.mark.system
async def test_two_guests_in_processes_of_their_own_share_a_store(tmp_path: Path) -> None:
    async with machine_with("kv", tmp_path) as (machine, heard):
        kv = Device("kv", backend="driver", nodes={"store": "common"})
        names = [("one", "two"), ("two", "one")]
        guests = [
            await machine.spawn(name, example_guests.keeps_values, args=[name, other], devices=[kv])
            for name, other in names
        ]
        assert [(await guest.wait()).reason for guest in guests] == ["poweroff"] * 2
        assert "met True" in heard.text["one"]
        assert "met True" in heard.text["two"]
