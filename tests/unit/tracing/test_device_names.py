"""Devices by the names that people use."""

from __future__ import annotations

import pytest

from xenlike.errors import ConfigError, NoSuchDevice
from xenlike.toolstack.device_names import device_name, match_device, match_domain
from xenlike.toolstack.nodes import Attachment

NAMES = {0: "Domain-0", 1: "xenstored", 2: "storage", 3: "guest", 4: "other", 5: "7"}
DISK = Attachment("vbd", 51712, 3, 2)
ECHO = Attachment("echo", 0, 3, 2)
SECOND = Attachment("echo", 0, 4, 0)
DEVICES = [DISK, ECHO, SECOND]


@pytest.mark.parametrize(
    ("who", "device"),
    [
        ("guest/xvda", DISK),
        ("guest/vbd/51712", DISK),
        ("guest/vbd/xvda", DISK),
        ("3/xvda", DISK),
        ("d3/xvda", DISK),
        ("xvda", DISK),
        ("vbd/51712", DISK),
        ("device/vbd/51712", DISK),
        ("guest/device/vbd/51712", DISK),
        ("backend/vbd/3/51712", DISK),
        ("storage/backend/vbd/3/51712", DISK),
        ("/local/domain/3/device/vbd/51712", DISK),
        ("/local/domain/2/backend/vbd/3/51712", DISK),
        ("storage/xvda", DISK),
        ("guest/echo/0", ECHO),
        ("d3/echo/0", ECHO),
        ("d4/echo/0", SECOND),
        ("other/echo/0", SECOND),
        ("d2/echo/0", ECHO),
        ("backend/echo/4/0", SECOND),
    ],
)
def test_a_device_goes_by_all_its_names(who: str, device: Attachment) -> None:
    assert match_device(who, DEVICES, NAMES) == device


@pytest.mark.parametrize("who", ["echo/0", "device/echo/0"])
def test_a_name_that_several_have_is_refused_with_all_of_them(who: str) -> None:
    with pytest.raises(ConfigError, match="may be any of guest/echo/0, other/echo/0"):
        match_device(who, DEVICES, NAMES)


@pytest.mark.parametrize(
    "who", ["guest/xvdb", "nobody/xvda", "guest", "guest/", "/", "", "guest/echo/1", "d4/backend/echo/3/0", "xvda/xvda"]
)
def test_a_name_that_none_has_is_told_which_there_are(who: str) -> None:
    with pytest.raises(NoSuchDevice, match="there are: guest/xvda, guest/echo/0, other/echo/0"):
        match_device(who, DEVICES, NAMES)


def test_a_long_list_is_cut() -> None:
    many = [Attachment("echo", number, 3, 2) for number in range(20)]
    with pytest.raises(NoSuchDevice, match="and 12 more"):
        match_device("xvda", many, NAMES)


def test_a_domain_goes_by_name_before_number() -> None:
    assert match_domain("guest", NAMES) == 3
    assert match_domain("3", NAMES) == 3
    assert match_domain("d3", NAMES) == 3
    assert match_domain("7", NAMES) == 5
    assert match_domain("d7", NAMES) is None
    assert match_domain("nobody", NAMES) is None


def test_the_best_name_finds_the_device() -> None:
    for device in DEVICES:
        assert match_device(device_name(device, NAMES), DEVICES, NAMES) == device
