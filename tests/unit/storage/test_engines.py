"""Laws of every storage engine: whole transfers or an error, nothing outside, nothing when read-only."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenlike.storage import BlockDevice, FileDevice, MemoryDevice, open_device

SIZE = 1 << 16
PATTERN = bytes(range(256)) * (SIZE // 256)
Maker = Callable[[bool], BlockDevice]


@pytest.fixture(params=["raw", "memory", "memfd"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    made: list[BlockDevice] = []

    def maker(readonly: bool) -> BlockDevice:
        if request.param == "memory" and not readonly:
            device: BlockDevice = MemoryDevice(SIZE)
            device.pwritev(0, [memoryview(PATTERN)])
        elif request.param == "raw":
            path = tmp_path / "image"
            path.write_bytes(PATTERN)
            device = FileDevice(os.open(path, os.O_RDONLY if readonly else os.O_RDWR), readonly=readonly)
        else:
            fd = os.memfd_create("test")
            os.write(fd, PATTERN)
            device = MemoryDevice(fd=fd, readonly=readonly)
        made.append(device)
        return device

    yield maker
    for device in made:
        device.close()
        device.close()  # idempotent


def read(device: BlockDevice, offset: int, *lengths: int) -> bytes:
    buffers = [memoryview(bytearray(length)) for length in lengths]
    device.preadv(offset, buffers)
    return b"".join(bytes(buffer) for buffer in buffers)


def test_scattered_buffers_are_one_contiguous_range(make: Maker) -> None:
    device = make(False)
    assert (device.size, device.sector_size, device.readonly) == (SIZE, 512, False)
    assert read(device, 512, 512, 4096, 1024) == PATTERN[512 : 512 + 5632]
    device.pwritev(1024, [memoryview(b"a" * 512), memoryview(b"b" * 1024)])
    device.flush()
    expected = bytearray(PATTERN)
    expected[1024:2560] = b"a" * 512 + b"b" * 1024
    assert read(device, 0, SIZE) == expected


@pytest.mark.parametrize(("offset", "length"), [(SIZE - 512, 1024), (SIZE, 512), (-512, 512), (1 << 62, 512)])
def test_nothing_outside_the_device_is_touched(make: Maker, offset: int, length: int) -> None:
    device = make(False)
    buffer = memoryview(bytearray(length))
    for transfer in (device.preadv, device.pwritev):
        with pytest.raises(OSError, match="outside a device"):
            transfer(offset, [buffer])
    with pytest.raises(OSError, match="outside a device"):
        device.discard(offset, length)
    assert read(device, 0, SIZE) == PATTERN


def test_a_read_only_device_never_changes(make: Maker) -> None:
    device = make(True)
    with pytest.raises(PermissionError):
        device.pwritev(0, [memoryview(b"x" * 512)])
    with pytest.raises(PermissionError):
        device.discard(0, 512)
    device.flush()
    assert read(device, 0, SIZE) == PATTERN


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (512, 512), (512, 8192), (4096, 4096), (3584, 16896)])
def test_a_discarded_range_reads_as_zeros(make: Maker, offset: int, length: int) -> None:
    device = make(False)
    device.discard(offset, length)
    assert read(device, 0, SIZE) == PATTERN[:offset] + bytes(length) + PATTERN[offset + length :]


def test_short_transfers_are_finished(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of bytes the kernel moves at a time, the whole range is moved."""
    device = make(False)
    real_read, real_write = os.preadv, os.pwritev
    monkeypatch.setattr(os, "preadv", lambda fd, bufs, at: real_read(fd, [bufs[0][:700]], at))
    monkeypatch.setattr(os, "pwritev", lambda fd, bufs, at: real_write(fd, [bufs[0][:700]], at))
    device.pwritev(0, [memoryview(b"x" * 512), memoryview(b"y" * 4096)])
    assert read(device, 0, 1024, 512, 4096) == (b"x" * 512 + b"y" * 4096 + PATTERN[4608:])[:5632]


def test_an_image_that_shrank_is_an_error_not_zeros(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(PATTERN)
    with FileDevice(os.open(path, os.O_RDWR)) as device:
        os.truncate(path, 4096)
        with pytest.raises(OSError, match="ended at byte 4096"):
            read(device, 0, 8192)


def test_a_failing_kernel_write_is_an_error(tmp_path: Path) -> None:
    """A full file system (here: a memfd sealed against growing) does not pass for success."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    with FileDevice(fd) as device:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(PermissionError):
            device.pwritev(0, [memoryview(bytes(512))])


def test_a_memory_disk_copies_an_image_and_uses_a_memfd_in_place(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(PATTERN)
    with open_device(os.open(path, os.O_RDONLY), {"format": "memory", "size": SIZE}) as device:
        device.pwritev(0, [memoryview(b"x" * 512)])
        assert read(device, 0, 1024) == b"x" * 512 + PATTERN[512:1024]
    assert path.read_bytes() == PATTERN
    fd = os.memfd_create("test")
    os.ftruncate(fd, SIZE)
    with open_device(os.dup(fd), {"format": "memory"}) as device:
        device.pwritev(512, [memoryview(b"y" * 512)])
    with open_device(fd, {"format": "memory", "readonly": True}) as device:  # as a successor would
        assert read(device, 0, 1536) == bytes(512) + b"y" * 512 + bytes(512)


@pytest.mark.parametrize("size", [0, 100, 513])
def test_a_size_that_is_no_whole_number_of_sectors_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(size))
    fd = os.open(path, os.O_RDWR)
    with pytest.raises(ValueError, match="multiple of 512"):
        open_device(fd, {"format": "raw"})
    os.close(fd)  # still the caller's
    with pytest.raises(ValueError, match="multiple of 512"):
        open_device(None, {"format": "memory", "size": size})


def test_wrong_resources_are_refused_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(PATTERN)
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(PermissionError, match="reading and writing"):
        open_device(fd, {"format": "raw"})
    with pytest.raises(ValueError, match="unknown disk format 'vhd'; known are memory, raw"):
        open_device(fd, {"format": "vhd"})
    with pytest.raises(ValueError, match="fewer than"):
        open_device(fd, {"format": "memory", "size": SIZE * 2})
    with open_device(fd, {"format": "raw", "readonly": True}) as device:
        assert read(device, 0, 512) == PATTERN[:512]
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="regular file"):
        open_device(directory, {"format": "raw", "readonly": True})
    os.close(directory)
    with pytest.raises(ValueError, match="needs an image"):
        open_device(None, {"format": "raw"})
    with pytest.raises(ValueError, match="needs a size"):
        open_device(None, {"format": "memory"})
    with pytest.raises(ValueError, match="number of bytes"):
        open_device(None, {"format": "memory", "size": "1M"})


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "discard"]),
        st.integers(0, 31),
        st.integers(1, 31),
        st.integers(0, 255),
    ),
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_engines_agree_with_a_bytearray(steps: list[Step]) -> None:
    """Differential: both engines and a plain bytearray see the same bytes after any history."""
    size = 32 * 512
    model = bytearray(size)
    fd = os.memfd_create("test")
    os.ftruncate(fd, size)
    with MemoryDevice(size) as memory, FileDevice(fd) as file:
        for what, sector, count, value in steps:
            offset, length = sector * 512, min(count, 32 - sector) * 512
            if what == "write":
                data = bytes([value]) * length
                model[offset : offset + length] = data
            for device in (memory, file):
                if what == "read":
                    assert read(device, offset, 512, length - 512) == model[offset : offset + length]
                elif what == "write":
                    device.pwritev(offset, [memoryview(data)[:512], memoryview(data)[512:]])
                else:
                    device.discard(offset, length)
            if what == "discard":
                model[offset : offset + length] = bytes(length)
        assert read(memory, 0, size) == read(file, 0, size) == model
