"""Laws of names: a device is found by whatever people, logs and the store call it, and never mistaken for another."""

from __future__ import annotations

import pytest

from xenlike.errors import ConfigError, NoSuchDevice
from xenlike.toolstack.why.names import DeviceName, find_device


def device(guest: str, front: int, type: str, id: str, back: int = 2) -> DeviceName:
    paths = f"/local/domain/{front}/device/{type}/{id}", f"/local/domain/{back}/backend/{type}/{front}/{id}"
    return DeviceName(guest, front, type, id, back, *paths)


DISK, ECHO, OTHER = device("guest", 3, "vbd", "51712"), device("guest", 3, "echo", "0"), device("lab", 4, "echo", "0")
ALL = [DISK, ECHO, OTHER]


@pytest.mark.parametrize(
    "text",
    [
        "guest/xvda",
        "guest/vbd/51712",
        "guest/51712",
        "d3/vbd/51712",
        "3/xvda",
        "xvda",
        "vbd/51712",
        "device/vbd/51712",
        "guest/device/vbd/51712",
        "backend/vbd/3/51712",
        "/local/domain/3/device/vbd/51712",
        "/local/domain/2/backend/vbd/3/51712",
    ],
)
def test_a_device_is_found_by_all_that_it_is_called(text: str) -> None:
    assert find_device(ALL, text) is DISK


def test_a_device_has_the_name_that_users_know() -> None:
    assert [device.name for device in ALL] == ["guest/xvda", "guest/echo/0", "lab/echo/0"]
    assert device("guest", 3, "vbd", "banana").name == "guest/vbd/banana"
    assert device("guest", 3, "vbd", "9" * 30).name == f"guest/vbd/{'9' * 30}"


def test_a_name_that_several_have_is_refused_with_all_of_theirs() -> None:
    for text in ("echo/0", "device/echo/0"):
        with pytest.raises(ConfigError, match="may be any of guest/echo/0, lab/echo/0: say which"):
            find_device(ALL, text)
    assert find_device(ALL, "lab/echo/0") is OTHER
    assert find_device([DISK, OTHER], "echo/0") is OTHER


@pytest.mark.parametrize("text", ["guest/xvdb", "nobody/xvda", "", "/", "echo", "guest", "local/domain/3"])
def test_a_name_that_nobody_has_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(NoSuchDevice, match="there are: guest/echo/0, guest/xvda, lab/echo/0"):
        find_device(ALL, text)
    with pytest.raises(NoSuchDevice, match="there are: none"):
        find_device([], text)
