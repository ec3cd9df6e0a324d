"""What tests of pages share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A folder for machines, with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="xl-"))
    yield folder / "run"
    shutil.rmtree(folder)
