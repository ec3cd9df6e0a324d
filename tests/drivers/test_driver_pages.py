"""Law: the Python in the pages for driver authors is Python, and that of the declarations does what it says."""

from __future__ import annotations

import ast
import re
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("protocols.md", "rings-in-drivers.md")


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_parses(page):
    found = blocks(page)
    assert len(found) >= 5
    for text in found:
        # Some are the inside of an async function.
        ast.parse("async def block():\n" + "".join(f"    {line}\n" for line in text.splitlines()))


def test_the_declarations_do_what_the_page_says(monkeypatch):
    module = types.ModuleType("albumif")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for text in blocks("protocols.md"):
        exec(compile(text, "protocols.md", "exec"), module.__dict__)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_points_to_is_there(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text):
        assert (DOCS / target).exists(), target
    for name in re.findall(r"`((?:frontends|backends)/\w+|xenlike/io/\w+\.py)`", text):
        assert (DOCS.parent / name).exists(), name
