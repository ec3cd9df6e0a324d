"""Drivers are found by type, and their halves imported late and once."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from xenlike.abi.driver import Driver
from xenlike.backends.echo import EchoBack
from xenlike.errors import ConfigError
from xenlike.frontends.echo import EchoFront
from xenlike.io.echo import DRIVER, ECHO
from xenlike.testing import FakeDomain, FakeTree
from xenlike.xenbus import Frontend, driver_types, load_backend, load_driver, load_frontend, registry

OWN_DRIVER = """
from xenlike.abi.driver import Driver
from xenlike.io.echo import ECHO
from xenlike.xenbus import Frontend

class Front(Frontend, protocol=ECHO): ...

DRIVER = Driver("mine", ECHO, f"{__file__}:Front", f"{__file__}:Missing")
NOTHING = 1
"""


def test_the_drivers_that_come_with_xenlike():
    assert {"echo", "vbd"} <= set(driver_types())
    assert load_driver("echo") is DRIVER
    assert load_frontend(DRIVER) is EchoFront
    assert load_backend(DRIVER) is EchoBack
    assert load_frontend(EchoFront) is EchoFront
    assert load_frontend("xenlike.io.echo:DRIVER") is EchoFront
    assert load_backend("xenlike.backends.echo:EchoBack") is EchoBack


def test_a_driver_in_a_file_is_loaded_once(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN_DRIVER)
    driver = load_driver("mine", f"{path}:DRIVER")
    assert load_driver("mine", f"{path}:DRIVER") is driver
    # The class that the driver's own reference names is the class of the module that was loaded.
    assert load_frontend(driver) is load_frontend(f"{path}:Front")
    with pytest.raises(ConfigError, match="Missing"):
        load_backend(driver)
    with pytest.raises(ConfigError, match="is no xenlike Driver"):
        load_driver("mine", f"{path}:NOTHING")
    with pytest.raises(ConfigError, match="'mine', not 'other'"):
        load_driver("other", f"{path}:DRIVER")
    with pytest.raises(ConfigError, match="no subclass of"):
        load_backend(f"{path}:Front")
    with pytest.raises(ConfigError, match="no frontend class"):
        load_frontend(f"{path}:NOTHING")


def test_two_drivers_of_one_type_are_both_named(monkeypatch):
    def points(*references):
        return lambda group: [EntryPoint("echo", reference, group) for reference in references]

    try:
        registry._installed.cache_clear()
        monkeypatch.setattr(registry, "entry_points", points("xenlike.io.echo:DRIVER"))
        assert load_driver("echo") is DRIVER
        registry._installed.cache_clear()
        monkeypatch.setattr(registry, "entry_points", points("xenlike.io.echo:DRIVER", "other.echo:DRIVER"))
        with pytest.raises(ConfigError, match=r"2 drivers for .*'echo': xenlike.io.echo:DRIVER, other.echo:DRIVER"):
            load_driver("echo")
        # Who says which gets it.
        assert load_driver("echo", "xenlike.io.echo:DRIVER") is DRIVER
    finally:
        registry._installed.cache_clear()


def test_an_unknown_type_is_named_with_those_that_are_known():
    with pytest.raises(ConfigError, match=r"'warp'.*echo, kv, rng, sensor, vbd"):
        load_driver("warp")


def test_a_class_without_protocol_says_so():
    class Nothing(Frontend): ...

    with pytest.raises(TypeError, match="names no protocol"):
        Nothing(FakeDomain({}, FakeTree(), 1, "guest"), "device/echo/0")


def test_the_halves_are_imported_only_when_asked_for():
    program = (
        "import sys; from xenlike.xenbus import load_driver, load_frontend; driver = load_driver('echo');"
        "assert not [m for m in sys.modules if m.startswith(('xenlike.frontends', 'xenlike.backends'))];"
        "load_frontend(driver); assert not [m for m in sys.modules if m.startswith('xenlike.backends')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["frontends", "backends"])
def test_the_folders_are_importable_by_one_name_only(name):
    program = f"import {name}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode
    assert f"import xenlike.{name}" in result.stderr or "No module named" in result.stderr


def test_a_driver_is_a_value():
    assert Driver("echo", ECHO, DRIVER.frontend, DRIVER.backend, DRIVER.doc, DRIVER.exercise) == DRIVER
