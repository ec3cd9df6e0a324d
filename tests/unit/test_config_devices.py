"""Disks in xl's words, devices, sizes, and the opening of images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xenlike.errors import ConfigError
from xenlike.toolstack.devices import Device, Disk, open_image, parse_disk
from xenlike.toolstack.paths import MachinePaths, check_name, machine_names, runtime_root
from xenlike.toolstack.sizes import format_size, parse_memory, parse_size


@pytest.mark.parametrize(
    ("words", "disk"),
    [
        ("/a.img", Disk("/a.img")),
        ("/a.img,raw,xvdb,ro", Disk("/a.img", "raw", "xvdb", "ro")),
        ("/a.img,,xvdb", Disk("/a.img", "raw", "xvdb")),
        ("vdev=xvdc, access=ro ,target=/a,b=c.img", Disk("/a,b=c.img", "raw", "xvdc", "ro")),
        ("/a.img,raw,xvdb,backend=storage", Disk("/a.img", "raw", "xvdb", backend="storage")),
        ("a=b.img", Disk("a=b.img")),
        ("64M,memory", Disk("64M", "memory")),
    ],
)
def test_disk_words_are_xls(words: str, disk: Disk) -> None:
    assert parse_disk(words) == disk


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "no target"),
        ("vdev=xvda", "no target"),
        ("a,raw,xvda,ro,more", "one word too many"),
        ("a,vdev=xvda,vdev=xvdb", "vdev twice"),
        ("a,raw,vdev=xvda,size=3", "'size' is not one of"),
        ("a,qcow9", "format 'qcow9'"),
        ("a,raw,yda", "'yda'"),
    ],
)
def test_bad_disk_words_are_refused(words: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_disk(words)


def test_a_disk_knows_its_number_and_mode() -> None:
    disk = Disk("/a.img", vdev="51728", access="r")
    assert (disk.type, disk.id, disk.name, disk.readonly) == ("vbd", 51728, "xvdb", True)


def test_a_read_only_image_is_opened_read_only(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 1024)
    opened = open_image(Disk(str(image), access="ro"))
    assert opened.fd is not None
    try:
        assert opened.info == {"format": "raw", "readonly": True, "size": 1024}
        assert not os.get_inheritable(opened.fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(opened.fd, b"y")
    finally:
        os.close(opened.fd)


def test_a_memory_disk_needs_no_image() -> None:
    opened = open_image(Disk("1M", "memory"))
    assert opened.fd is None
    assert opened.info == {"format": "memory", "readonly": False, "size": 1 << 20}


def test_an_image_of_half_a_sector_is_refused_and_closed(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 700)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match="700 bytes"):
        open_image(Disk(str(image)))
    with pytest.raises(ConfigError, match="whole sectors"):
        open_image(Disk("700", "memory"))
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("type_", "id_", "nodes", "reason"),
    [
        ("Echo", 0, {}, "device type"),
        ("echo", 1 << 31, {}, "device id"),
        ("echo", 0, {"backend-id": 1}, "belongs to xenbus"),
        ("echo", 0, {"/abs": 1}, "no name for a store node"),
    ],
)
def test_bad_devices_are_refused(type_: str, id_: int, nodes: dict[str, str | int], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Device(type_, id_, nodes=nodes)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("64M", 64 << 20),
        ("1g", 1 << 30),
        ("4KiB", 4096),
        ("2 MB", 2 << 20),
        ("512", 512),
        (4096, 4096),
        ("1T", 1 << 40),
    ],
)
def test_sizes_are_powers_of_1024(text: str | int, number: int) -> None:
    assert parse_size(text) == number


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1P", "0", 0, -4096])
def test_bad_sizes_are_refused(text: str | int) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)


def test_memory_is_whole_pages() -> None:
    assert parse_memory("64M") == 64 << 20
    with pytest.raises(ConfigError, match="whole number of pages"):
        parse_memory(4097)


@pytest.mark.parametrize(("number", "text"), [(64 << 20, "64M"), (1536 << 20, "1.5G"), (4096, "4K"), (100, "100")])
def test_sizes_for_people(number: int, text: str) -> None:
    assert format_size(number) == text


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "a" * 64, "ä"])
def test_a_name_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


def test_the_runtime_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENLIKE_RUNTIME_DIR", "/somewhere")
    assert runtime_root() == Path("/somewhere")
    monkeypatch.delenv("XENLIKE_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert runtime_root() == Path("/run/user/1/xenlike")


def test_machine_folders_are_private_and_go_again(tmp_path: Path) -> None:
    paths = MachinePaths.of("lab", tmp_path / "root")
    (tmp_path / "root").mkdir(mode=0o755)
    paths.create()
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
    assert paths.folder.stat().st_mode & 0o777 == 0o700
    assert machine_names(tmp_path / "root") == []
    paths.lock.touch()
    paths.remove()
    assert not paths.folder.exists()
    paths.remove()


def test_a_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    with pytest.raises(ConfigError, match="not a folder of ours"):
        MachinePaths.of("lab", tmp_path / "root").create()


def test_a_socket_path_that_is_too_long_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="XENLIKE_RUNTIME_DIR"):
        MachinePaths.of("lab", tmp_path / ("x" * 100))
