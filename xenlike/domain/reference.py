"""Names for Python objects that another process is to find: `package.module:attr` or `/path/file.py:attr`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from xenlike.errors import ConfigError


def resolve(reference: str) -> object:
    """Finds what a reference names; imports its module.

    A file is loaded once a process, under a name made from its path, so that its classes are the same
    however often it is asked for.

    Raises:
        ConfigError: no such module, file or attribute.
    """
    where, colon, attribute = reference.rpartition(":")
    if not colon or not where or not attribute:
        raise ConfigError(f"{reference!r} is no reference: write package.module:name or path/file.py:name")
    module = load_file(Path(where)) if where.endswith(".py") else _import(where, reference)
    found: object = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ConfigError(f"{reference!r}: {where} has no {attribute!r}") from None
    return found


def _import(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A missing import deep inside the module is its own error, with its own traceback.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigError(f"{reference!r}: there is no module {error.name!r}") from error
        raise


def load_file(path: Path) -> ModuleType:
    """Loads a Python file as a module, once.

    Raises:
        ConfigError: no such file.
    """
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    name = f"_xenlike_file_{path.stem}_{hashlib.blake2s(str(path).encode(), digest_size=4).hexdigest()}"
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def reference_to(thing: object) -> str:
    """Returns a reference to a function, class or module-level object that has a name.

    What lives in a script (`__main__`), or in a module that was loaded from a file, is named by its file.

    Raises:
        ConfigError: it is local to a function, a lambda, or typed at a prompt, so nobody else can find it.
    """
    name = getattr(thing, "__qualname__", None)
    module_name = getattr(thing, "__module__", None)
    if not isinstance(name, str) or not isinstance(module_name, str):
        raise ConfigError(f"{thing!r} has no name by which a domain could find it")
    if "<" in name:
        raise ConfigError(f"{name} is local: a domain finds only what is at a module's top level")
    module = sys.modules.get(module_name)
    if module is None:
        raise ConfigError(f"{name} belongs to the module {module_name}, which is not loaded")
    return f"{module_reference(module)}:{name}"


def module_reference(module: ModuleType) -> str:
    """Returns how another process finds a module: by its name if it can be imported, else by its file.

    Raises:
        ConfigError: it can be found neither way.
    """
    name, file = module.__name__, getattr(module, "__file__", None)
    importable = name != "__main__" and not name.startswith("_xenlike_file_")
    if importable and _findable(name):
        return name
    if file is None:
        raise ConfigError(f"{name} has no file: put what a domain is to find into one")
    return str(Path(file).resolve())


def _findable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
