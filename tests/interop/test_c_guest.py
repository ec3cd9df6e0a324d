"""A guest with no Python in it: C, on Xen's real headers and our documented hypercalls, drives the block backend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import trio

from tests.abi.c_compiler import need
from xenlike import Disk, Exec, open_machine

pytestmark = [pytest.mark.interop, pytest.mark.system]

SOURCES = Path(__file__).parent / "guest"
XEN_HEADERS = Path("/usr/include/xen/io/blkif.h")
INCLUDE = Path(__file__).parents[2] / "xenlike" / "include"
REQUESTS = 1000
STRIDE = 11 * 8  # sectors between the regions of two requests, as in blkfront.c
WORDS = 512 // 8  # a sector


@pytest.fixture(scope="module")
def blkfront(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled guest."""
    compiler = shutil.which("gcc") or ""
    need("gcc", bool(compiler))
    need("libxen-dev", XEN_HEADERS.exists())
    program = tmp_path_factory.mktemp("guest") / "blkfront"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    sources = [SOURCES / "guest.c", SOURCES / "blkfront.c"]
    command = [compiler, "-std=gnu11", "-O2", *warnings, f"-I{INCLUDE}", *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def words(generation: int) -> npt.NDArray[np.uint64]:
    """What the disk holds, as `word` of blkfront.c computes it."""
    index = np.arange(REQUESTS * STRIDE * WORDS, dtype=np.uint64)
    x = index + np.uint64(generation * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
    x = (x ^ (x >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(29))


def written_sectors() -> npt.NDArray[np.bool_]:
    """Which sectors the guest writes: of every region the first few, as many as its request moves."""
    region, sector = np.divmod(np.arange(REQUESTS * STRIDE), STRIDE)
    written: npt.NDArray[np.bool_] = sector < region % 11 * 8 + 1 + region % 8
    return written


@pytest.mark.parametrize("first_index", [0, 2**32 - 100])
async def test_a_guest_in_c_reads_writes_and_reads_back(blkfront: Path, tmp_path: Path, first_index: int) -> None:
    """Requests of 1 to 11 segments, a ring full of them in flight, also with indices that wrap."""
    image = tmp_path / "disk.img"
    before, after = words(0), words(1)
    image.write_bytes(before.tobytes())
    said: list[str] = []

    def hear(domain: str, data: bytes) -> None:
        said.append(data.decode())

    program = Exec([str(blkfront), "51712", str(first_index), str(REQUESTS)])
    with trio.fail_after(60):
        async with open_machine(f"interop-{os.getpid()}", runtime_dir=tmp_path, console=hear) as machine:
            await machine.spawn("driver", backends=["vbd"])
            guest = await machine.spawn("guest", program, devices=[Disk(str(image), vdev="xvda", backend="driver")])
            ending = await guest.wait()
    output = "".join(said)
    assert ending.reason == "poweroff", output
    connected = f"88000 sectors of 512 bytes, indices from {first_index}"
    assert connected in output
    counted = re.search(r"1000 requests of each kind, (\d+) sectors, \d+ notifications, (\d+) wraps", output)
    assert counted, output
    changed = written_sectors()
    assert int(counted[1]) == 3 * changed.sum()
    assert int(counted[2]) == (1 if first_index else 0)
    expected = np.where(np.repeat(changed, WORDS), after, before)
    assert (np.fromfile(image, dtype=np.uint64) == expected).all()
