"""Line numbers for the keys of a TOML text, which `tomllib` does not keep.

The text has been parsed by `tomllib` before, so it is correct TOML, and a small scanner is enough: it follows table
headers, bare and quoted and dotted keys, and skips over strings, comments and brackets. Keys inside inline tables
have no line of their own; the line of what they are in is theirs.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]
"""Where a value is: keys of tables and indices of arrays, as `("domain", 1, "disk", 0, "vdev")`."""

_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = rf"{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEY})[ \t]*\]")
_ASSIGNMENT = re.compile(rf"[ \t]*({_KEY})[ \t]*=")
_PARTS = re.compile(_KEY_PART)
# What a value is made of: strings and comments are stepped over whole, brackets counted.
_TOKEN = re.compile(
    r"""
      \"\"\"(?:[^\\]|\\.)*?\"{3,5}  |  '''.*?'{3,5}
    | "(?:[^"\\\n]|\\.)*"          |  '[^'\n]*'
    | \#[^\n]*  |  [\[\]{}]  |  \n  |  [^"'\#\[\]{}\n]+
    """,
    re.DOTALL | re.VERBOSE,
)


def key_lines(text: str) -> dict[Path, int]:
    """Returns the 1-based line of every table and key in a correct TOML text."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    position = 0
    line = 1
    while position < len(text):
        if match := _HEADER.match(text, position):
            table = _enter(match[1] == "[[", _split(match[2]), counts)
            lines[table] = line
        elif match := _ASSIGNMENT.match(text, position):
            path = table
            for key in _split(match[1]):
                path = (*path, key)
                lines.setdefault(path, line)
        end = _end_of_statement(text, match.end() if match else position)
        line += text.count("\n", position, end)
        position = end
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """Returns the line of `path`, or of the nearest thing around it that has one."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return None


def _enter(is_array: bool, keys: list[str], counts: dict[Path, int]) -> Path:
    """Returns the path of a table header; a step through an array of tables means its last table."""
    path: Path = ()
    for key in keys[:-1]:
        path = (*path, key)
        if path in counts:
            path = (*path, counts[path] - 1)
    path = (*path, keys[-1])
    if is_array:
        index = counts.get(path, 0)
        counts[path] = index + 1
        path = (*path, index)
    return path


def _split(key: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in _PARTS.findall(key)]


def _end_of_statement(text: str, position: int) -> int:
    """Returns where the next line begins that is not inside a string or bracket."""
    depth = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        token = match[0]
        if token == "\n" and depth == 0:
            return position
        if token in "[{":
            depth += 1
        elif token in "]}":
            depth = max(0, depth - 1)  # a header's own closing bracket may come first
    return len(text)
