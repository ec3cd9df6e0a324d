"""Makes the package of `xenlike new-driver` from the files in `templates/driver`.

    base/       every package
    batch/      over it with `--batch`
    c/          beside it with `--c`, and the protocol's header

`NAME` in a file's name and `@name@`, `@Name@`, `@NAME@` in a file that ends in `.in` are the driver's name, as a Python
module, a class and a constant have it. Everything is made in a folder beside the new one, and appears at once or not
at all.
"""

from __future__ import annotations

import keyword
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenlike.errors import ConfigError, MachineError

TEMPLATES = Path(__file__).with_name("templates") / "driver"

_FOLDERS = ("c", "tests")
"""Names that the package's other folders have."""
_C_FILES = ("device", "guest")
"""Names that files of the C half have beside the driver's own."""


def check_name(name: str) -> None:
    """Refuses a name that cannot be a module's and a device type's at once.

    Raises:
        ConfigError: why not, and what to take instead.
    """
    from xenlike.toolstack.devices import Device

    if not name.isidentifier():
        better = "".join(letter if letter.isalnum() else "_" for letter in name.lower()).strip("_0123456789")
        hint = f", such as {better}" if better.isidentifier() else ""
        raise ConfigError(f"{name!r} is no Python identifier: take lower-case letters, digits and '_'{hint}")
    if keyword.iskeyword(name):
        raise ConfigError(f"{name!r} is a word of Python itself: take another name")
    try:
        Device(name)
    except ConfigError:
        raise ConfigError(
            f"{name!r} is no name for a device type: up to 31 lower-case letters, digits and '_', a letter first"
        ) from None
    if name in _FOLDERS or name in _C_FILES:
        raise ConfigError(f"{name!r} is what another part of the package is called: take another name")


def check_free(name: str) -> None:
    """Refuses a name that something else has: a driver, or a Python module.

    Raises:
        ConfigError: what has it.
    """
    from importlib.util import find_spec

    from xenlike.xenbus.registry import driver_types

    if name in driver_types():
        raise ConfigError(f"there is a driver named {name!r} already: two of one name cannot be told apart")
    if name in sys.stdlib_module_names or find_spec(name) is not None:
        raise ConfigError(f"{name!r} is the name of a Python module already: take another name")


def make_package(parent: Path, name: str, *, batch: bool, c: bool) -> Path:
    """Makes the folder `name` in `parent`, and returns it.

    Raises:
        ConfigError: the name is none, or the folder is there already.
        MachineError: the folder cannot be written to.
    """
    check_name(name)
    folder = parent / name
    if os.path.lexists(folder):
        raise ConfigError(f"{folder} exists already: take another name, or work in another folder")
    check_free(name)
    try:
        with _beside(folder) as made:
            for part in ("base", *(["batch"] if batch else []), *(["c"] if c else [])):
                _fill(TEMPLATES / part, made, name)
            if c:
                _write_header(made, name)
            os.rename(made, folder)
    except OSError as error:
        raise MachineError(f"{folder} cannot be made: {error.strerror or error}") from None
    return folder


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Makes a folder of the same filesystem; it is gone after this, unless it has been renamed."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        umask = os.umask(0)
        os.umask(umask)
        made.chmod(0o777 & ~umask)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fill(part: Path, folder: Path, name: str) -> None:
    for source in sorted(part.rglob("*")):
        if not source.is_file() or "__pycache__" in source.parts:
            continue
        target = folder / str(source.relative_to(part)).replace("NAME", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        if target.suffix == ".in":
            target = target.with_suffix("")
            text = filled(text, name)
        if target.name == "README.md" and target.exists():
            text = target.read_text(encoding="utf-8") + text
        target.write_text(text, encoding="utf-8")


def filled(text: str, name: str) -> str:
    """Returns a template's text for a driver of that name."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    return text.replace("@name@", name).replace("@Name@", camel).replace("@NAME@", name.upper())


def _write_header(folder: Path, name: str) -> None:
    from xenlike.abi.driver_header import generate
    from xenlike.toolstack.driver_source import find_driver, forget

    # Its modules are read from where it will not be in a moment; nothing of that may stay behind.
    path, writes = list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        found = find_driver(str(folder))
        text = generate(found.driver)
        forget(found.files)
    finally:
        sys.path[:], sys.dont_write_bytecode = path, writes
    (folder / "c" / f"{name}if.h").write_text(text, encoding="utf-8")
