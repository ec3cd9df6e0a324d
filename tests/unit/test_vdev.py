"""Law: names and numbers of virtual disks are xl's, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike.io.vdev import parse_vdev, vdev_name

# From xen-vbd-interface(7) and libxl__device_disk_dev_number.
NAMES = [
    ("xvda", 51712),
    ("xvda1", 51713),
    ("xvda15", 51727),
    ("xvdb", 51728),
    ("xvdp15", (202 << 8) | 255),
    ("xvda16", (1 << 28) | 16),
    ("xvdq", (1 << 28) | (16 << 8)),
    ("xvdz", (1 << 28) | (25 << 8)),
    ("xvdaa", (1 << 28) | (26 << 8)),
    ("xvdqen37", (1 << 28) | (((16 + 1) * 26 + 4 + 1) * 26 + 13) << 8 | 37),
    ("hda", 768),
    ("hdb63", (3 << 8) | (1 << 6) | 63),
    ("hdc", 22 << 8),
    ("hdd1", (22 << 8) | (1 << 6) | 1),
    ("sda", 2048),
    ("sdp15", (8 << 8) | 255),
]


@pytest.mark.parametrize(("name", "number"), NAMES)
def test_a_name_and_its_number_belong_together(name: str, number: int) -> None:
    assert parse_vdev(name) == number
    assert vdev_name(number) == name


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("d0", 51712),
        ("d536p37", (1 << 28) | (536 << 8) | 37),
        ("51712", 51712),
        ("0xca00", 51712),
        ("0", 0),
        ("xvda0", 51712),
    ],
)
def test_other_spellings_are_understood(name: str, number: int) -> None:
    assert parse_vdev(name) == number


WRONG = [
    *[
        "",
        "xvd",
        "xvdA",
        "xvda01",
        "xvda-1",
        "xvda 1",
        "xvda\n",
        " xvda",
        "xvda\u0661",
        "vda",
        "-1",
        "1e3",
        "0x",
    ],
    *["xvda256", "sdq", "sda16", "hde", "hda64", "2147483648", "d1048576", "d0p256", "xvd" + "z" * 1000],
]


@pytest.mark.parametrize("name", WRONG)
def test_anything_else_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="vdev"):
        parse_vdev(name)


@given(st.integers(0, (1 << 31) - 1))
def test_every_number_has_a_name_that_means_it(number: int) -> None:
    assert parse_vdev(vdev_name(number)) == number


def test_numbers_no_device_has_are_refused() -> None:
    for number in (-1, 1 << 31):
        with pytest.raises(ValueError, match="device number"):
            vdev_name(number)
