"""Which driver somebody means, and where its files are.

    echo                    a device type: ours, or one that an installed package brings
    package.module:DRIVER   a reference, looked for in the working directory too
    path/file.py:DRIVER     likewise, in a file
    path/to/folder          a package whose pyproject.toml has an entry point in `xenlike.drivers`

A folder is used as it lies there: it need not be installed.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xenlike.abi.driver import Driver
from xenlike.abi.ring import XEN, ring_size
from xenlike.abi.types import PAGE_SIZE
from xenlike.domain.reference import resolve
from xenlike.errors import ConfigError
from xenlike.xenbus.registry import GROUP, load_backend, load_driver, load_frontend

_OURS = str(Path(__file__).parents[1]) + os.sep
_STDLIB = sysconfig.get_path("stdlib") + os.sep


class DriverImportError(ConfigError):
    """A driver's module could not be imported.

    Args:
        what: the driver or the half of it, in words.
        error: what the import raised.
    """

    def __init__(self, what: str, error: BaseException) -> None:
        super().__init__(f"{what} cannot be imported: {_place_of(error)}")


@dataclass(frozen=True)
class FoundDriver:
    """A driver, and how it was found.

    Attributes:
        driver: the driver.
        name: as it was asked for.
        files: the Python files that it is made of, as far as they are known without its halves.
    """

    driver: Driver
    name: str
    files: frozenset[Path]

    def load_halves(self) -> FoundDriver:
        """Imports both halves and the exercise, and returns itself with their files.

        Raises:
            DriverImportError: a module does not import; the message has its file and line.
            ConfigError: a half is not there, or is none.
        """
        driver = self.driver
        files = set(self.files)
        with _importing(f"the frontend of {driver.type!r}"):
            files |= _file_of(load_frontend(driver))
        with _importing(f"the backend of {driver.type!r}"):
            files |= _file_of(load_backend(driver))
        if driver.exercise:
            with _importing(f"the exercise of {driver.type!r}"):
                files |= _file_of(resolve(driver.exercise))
        return FoundDriver(driver, self.name, frozenset(files))


def find_driver(name: str) -> FoundDriver:
    """Finds a driver; imports its protocol, and neither of its halves.

    What it takes to import it is added to this process's module path, and so to that of the domains it starts.

    Args:
        name: a device type, a reference or a folder; see the module's text.

    Raises:
        DriverImportError: its module does not import; the message has the file and the line.
        ConfigError: there is none of that name, or what is there is no driver.
    """
    where, colon, _ = name.rpartition(":")
    if colon and where:
        _add_path(Path.cwd())
        return _load(name, name)
    if "/" in name or name in (".", "..") or (Path(name) / "pyproject.toml").is_file():
        return _in_folder(name)
    if name.endswith(".py"):
        raise ConfigError(f"{name} is a file: say which driver in it, such as {name}:DRIVER")
    with _importing(f"the driver {name!r}"):
        driver = load_driver(name)
    return _checked(name, driver)


def forget(files: frozenset[Path]) -> None:
    """Makes the next import of modules in the folders of these files read them anew, in this process."""
    folders = {str(file.parent) + os.sep for file in files}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # xenlike's own modules are in use here, whoever else changes them.
        if file and not file.startswith(_OURS) and any(file.startswith(folder) for folder in folders):
            del sys.modules[name]
    importlib.invalidate_caches()


def _in_folder(name: str) -> FoundDriver:
    folder = Path(name)
    project = folder / "pyproject.toml"
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {name}")
    try:
        declared = tomllib.loads(project.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{name} has no pyproject.toml, so it is no driver's package") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{project} cannot be read: {error}") from None
    found: object = declared
    for key in ("project", "entry-points", GROUP):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not found:
        raise ConfigError(f'{project} has no entry point in [project.entry-points."{GROUP}"]')
    if len(found) > 1:
        raise ConfigError(f"{project} has several drivers: take a reference, such as {next(iter(found.values()))}")
    source = folder / "src"
    _add_path(source if source.is_dir() else folder)
    return _load(name, str(next(iter(found.values()))))


def _load(name: str, reference: str) -> FoundDriver:
    with _importing(f"the driver {name!r}"):
        driver = resolve(reference)
    if not isinstance(driver, Driver):
        raise ConfigError(f"{reference!r} is no xenlike Driver but {driver!r}")
    return _checked(name, driver)


def _checked(name: str, driver: Driver) -> FoundDriver:
    protocol = driver.protocol
    try:
        ring_size(XEN(protocol.entry_size), PAGE_SIZE)
    except ValueError:
        raise ConfigError(
            f"{protocol.name}: a message of {protocol.entry_size} bytes does not fit into a ring of one page of "
            f"{PAGE_SIZE}: put large data into granted pages, and their references into the message"
        ) from None
    return FoundDriver(driver, name, frozenset(_file_of(protocol.requests[0])))


def _add_path(folder: Path) -> None:
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.insert(0, path)
        importlib.invalidate_caches()


def _file_of(thing: object) -> set[Path]:
    module = sys.modules.get(getattr(thing, "__module__", ""))
    file = getattr(module, "__file__", None)
    return {Path(file).resolve()} if file else set()


@contextmanager
def _importing(what: str) -> Iterator[None]:
    """Makes whatever an import raises a sentence with file and line."""
    try:
        yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise DriverImportError(what, error) from error


def _place_of(error: BaseException) -> str:
    """Returns `file, line 3: SyntaxError: message`: where a person has to look."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    # The last line that is the author's: what it called in the library, or in us, is not where the fault is.
    own = [frame for frame in frames if not frame.filename.startswith((_OURS, "<", _STDLIB))]
    if not own:
        return said
    authors = [frame for frame in own if "site-packages" not in frame.filename] or own
    return f"{_short(authors[-1].filename)}, line {authors[-1].lineno}: {said}"


def _short(file: str) -> str:
    """Returns a path as a person would type it here."""
    path = Path(file)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return file
