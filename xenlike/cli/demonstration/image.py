"""The host's side of the demo's disks: real files into an ext4 image, and what is found in the images afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from xenlike.errors import ConfigError, MachineError
from xenlike.toolstack.doctor import find_tool

BLOCK = 4096
_MAX_BYTES = 48 << 20
_MAX_FILE = 4 << 20
_SKIPPED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Originals:
    """The files that went into the image.

    Attributes:
        folder: they are below it.
        sums: SHA-256 by path relative to it.
        nr_bytes: of all together.
        largest: path of the largest.
    """

    folder: Path
    sums: dict[str, str]
    nr_bytes: int
    largest: str


def need(*tools: str) -> dict[str, str]:
    """Returns the paths of programs.

    Raises:
        ConfigError: one is not installed.
    """
    found = {tool: find_tool(tool) for tool in tools}
    missing = [tool for tool, path in found.items() if path is None]
    if missing:
        raise ConfigError(f"the demo needs {' and '.join(missing)}: install e2fsprogs")
    return {tool: path for tool, path in found.items() if path is not None}


def gather(target: Path, source: Path | None, limit: int) -> Originals:
    """Copies up to `limit` regular files to `target`: those below `source`, by default Python's own library.

    Raises:
        ConfigError: there are no files below `source`.
    """
    sums: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for path, file in _library() if source is None else _files(source):
        if len(sums) == limit:
            break
        try:
            data = file.read_bytes()
        except OSError:
            continue  # not ours to read
        if len(data) > _MAX_FILE or sum(sizes.values()) + len(data) > _MAX_BYTES:
            continue
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
        sums[path] = hashlib.sha256(data).hexdigest()
        sizes[path] = len(data)
    if not sums:
        raise ConfigError(f"there are no files below {source}")
    return Originals(target, sums, sum(sizes.values()), max(sizes, key=sizes.__getitem__))


def _library() -> Iterator[tuple[str, Path]]:
    """Yields Python's library; where that is small, also its compiled files and what is installed beside it."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    skipped = _SKIPPED | {"__pycache__"}
    caches = ((path, file) for path, file in _files(stdlib, _SKIPPED) if "__pycache__" in file.parts)
    packages = ((f"packages/{path}", file) for path, file in _files(Path(sysconfig.get_path("purelib"))))
    return chain(_files(stdlib, skipped), caches, packages)


def _files(root: Path, skipped: frozenset[str] | set[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - skipped)
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file() and not file.is_symlink():
                yield str(file.relative_to(root)), file


def make_ext4(originals: Originals, image: Path) -> None:
    """Makes an image that holds the files, with room to spare.

    Raises:
        MachineError: mke2fs failed; the message is its own.
    """
    blocks = sum(-(-path.stat().st_size // BLOCK) for path in originals.folder.rglob("*"))
    size = (blocks * BLOCK * 5 // 4 + len(originals.sums) * 512 + (16 << 20)) // BLOCK
    mke2fs = need("mke2fs")["mke2fs"]
    command = [mke2fs, "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-d", str(originals.folder), str(image), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise MachineError(f"mke2fs failed: {done.stderr.strip()}")


def make_empty(image: Path, nr_bytes: int) -> None:
    """Makes an image of zeroes, with room for that many bytes."""
    with image.open("wb") as file:
        file.truncate(-(-nr_bytes // BLOCK) * BLOCK + BLOCK)


def is_clean(image: Path) -> bool:
    """Whether `e2fsck -fn` finds nothing to say."""
    e2fsck = need("e2fsck")["e2fsck"]
    command = [e2fsck, "-f", "-n", str(image)]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0


def holds(image: Path, original: Path) -> bool:
    """Whether an image begins with exactly the bytes of a file, and is zero from there on."""
    expected = original.read_bytes()
    found = image.read_bytes()
    return found[: len(expected)] == expected and not any(found[len(expected) :])


def work_folder() -> Path:
    """Returns where images lie best: in memory if that is large enough, else where temporary files go."""
    import tempfile

    shared = Path("/dev/shm")
    if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 4 * _MAX_BYTES:
        return shared
    return Path(tempfile.gettempdir())
