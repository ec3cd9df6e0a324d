"""The demo's ext4 reader finds every file that mke2fs put into an image, byte for byte."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from xenlike.cli.demonstration.ext4 import Ext4, Ext4Error
from xenlike.toolstack.doctor import find_tool

MKE2FS = find_tool("mke2fs")


def make_image(folder: Path, image: Path, *options: str) -> None:
    if MKE2FS is None:
        pytest.skip("mke2fs is not installed (Debian: e2fsprogs)")
    subprocess.run([MKE2FS, "-q", "-t", "ext4", *options, "-d", str(folder), str(image), "64M"], check=True)


async def read_all(image: Path) -> dict[str, bytes]:
    with image.open("rb") as file:

        async def read(offset: int, length: int) -> bytes:
            assert offset % 512 == length % 512 == 0
            file.seek(offset)
            return file.read(length)

        disk = await Ext4.open(read)
        return {path: b"".join([part async for part in disk.content(inode)]) async for path, inode in disk.files()}


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-O", "^64bit"), ("-g", "1024")], ids=" ".join)
async def test_every_file_reads_as_it_was(tmp_path: Path, options: tuple[str, ...]) -> None:
    folder = tmp_path / "files"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty dir").mkdir()
    chance = random.Random(4)
    expected = {
        "empty": b"",
        "one": b"1",
        "deep/block": chance.randbytes(4096),
        "deep/er/large": chance.randbytes(3_000_001),
        "deep/er/näme": b"text" * 700,
    }
    expected |= {f"deep/{number:03}": b"%d" % number * number for number in range(300)}
    for path, data in expected.items():
        (folder / path).write_bytes(data)
    (folder / "link").symlink_to("one")
    with (folder / "sparse").open("wb") as file:
        for position in range(40):
            file.seek(position * 65536)
            file.write(b"%d" % position)
        file.truncate(50 * 65536 + 3)
    expected["sparse"] = (folder / "sparse").read_bytes()
    make_image(folder, tmp_path / "image", *options)
    assert await read_all(tmp_path / "image") == expected


async def test_what_is_no_ext4_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(8192))
    with pytest.raises(Ext4Error, match="no superblock"):
        await read_all(tmp_path / "image")


async def test_an_unknown_feature_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    make_image(tmp_path / "files", tmp_path / "image", "-O", "inline_data")
    with pytest.raises(Ext4Error, match="0x8000"):
        await read_all(tmp_path / "image")
