"""The site: `make docs` builds it from the Markdown pages here and from the docstrings.

Docstrings are Google form with the diagrams and examples of our modules as they are: a paragraph that is indented, or
that is more lines of a table than sentences, is shown as it stands in the source.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed

project = "xenlike"
author = "The xenlike authors"
copyright = author
release = version = installed("xenlike")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "xenlike"
html_show_sphinx = False
exclude_patterns = ["_build"]
nitpicky = False
default_role = "code"
# Names such as `type` are members of several classes; a hint that links to none of them says enough.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

SECTION = re.compile(r"(Args|Arguments|Attributes|Raises|Returns|Yields|Note|Example|Examples):\s*$")
LIST = re.compile(r"\s*([*-]|\d+\.|\(\w\))\s")


def paragraphs(lines: list[str]) -> list[list[str]]:
    """Returns the runs of lines that have no empty line between them."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def is_as_it_stands(paragraph: list[str]) -> bool:
    """Whether a paragraph is a diagram, a table or an example: its columns matter."""
    if SECTION.match(paragraph[0].strip()) or LIST.match(paragraph[0]):
        return False
    first = len(paragraph[0]) - len(paragraph[0].lstrip())
    steps = any(len(line) - len(line.lstrip()) >= first + 4 for line in paragraph[1:])
    columns = sum(bool(re.search(r"\S {3,}\S", line)) or line.lstrip().startswith("|") for line in paragraph)
    return first >= 4 or steps or columns * 2 > len(paragraph)


def show_as_it_stands(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Makes literal blocks of what is laid out by hand; before napoleon reads the sections."""
    made: list[str] = []
    section = False
    for paragraph in paragraphs(lines):
        if SECTION.match(paragraph[0].strip()) and not paragraph[0].startswith(" "):
            section = True
        elif not paragraph[0].startswith(" "):
            section = False
        if not section and is_as_it_stands(paragraph):
            if made and made[-1] == "" and len(made) > 1 and made[-2].startswith("    "):
                made += [f"    {line}" for line in paragraph]
            else:
                made += ["::", "", *(f"    {line}" for line in paragraph)]
        else:
            made += paragraph
        made.append("")
    lines[:] = made


def setup(app: object) -> None:
    """Registers the hook."""
    app.connect("autodoc-process-docstring", show_as_it_stands, priority=400)  # type: ignore[attr-defined]
