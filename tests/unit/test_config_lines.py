"""`key_lines` gives each key of a TOML text the line it stands on."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from xenlike.toolstack.toml_lines import Path, key_lines, line_of

TEXT = '''\
# [[domain]] in a comment
title = "a # b"
quote = "\\" [[domain]]"
long = """
[[domain]]
name = "no"
"""
raw = \'\'\'
x = 1\'\'\'\'\'
list = [   # comment ]
  "]", [1, 2],
  { inner = 1 },
]
a.b."c.d" = 1

[machine]  # after a header
name = "lab"
[[ domain ]]
name = 'one'
[[domain.disk]]
vdev = "xvda"
[[domain.disk]]
vdev = "xvdb"
[[domain]]
name = "two"
[[domain.disk]]
vdev = "xvdc"
'''


def test_every_kind_of_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == {
        ("title",): 2,
        ("quote",): 3,
        ("long",): 4,
        ("raw",): 8,
        ("list",): 10,
        ("a",): 14,
        ("a", "b"): 14,
        ("a", "b", "c.d"): 14,
        ("machine",): 16,
        ("machine", "name"): 17,
        ("domain", 0): 18,
        ("domain", 0, "name"): 19,
        ("domain", 0, "disk", 0): 20,
        ("domain", 0, "disk", 0, "vdev"): 21,
        ("domain", 0, "disk", 1): 22,
        ("domain", 0, "disk", 1, "vdev"): 23,
        ("domain", 1): 24,
        ("domain", 1, "name"): 25,
        ("domain", 1, "disk", 0): 26,
        ("domain", 1, "disk", 0, "vdev"): 27,
    }


def test_what_has_no_line_of_its_own_takes_that_of_what_is_around_it() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("list", 2, "inner")) == 10
    assert line_of(lines, ("domain", 1, "disk", 0, "target")) == 26
    assert line_of(lines, ("nothing",)) is None


values = st.sampled_from(
    [
        "1",
        "true",
        '"x = 1"',
        "'[t]'",
        '"""\n[t]\nx = 2\n"""',
        "'''\n'' = 3\n'''",
        "[\n  1, # ]\n  2,\n]",
        '{ k = "}" }',
        '"\\""',
    ]
)


@given(st.lists(st.tuples(st.integers(0, 2), values, st.sampled_from(["", '  # [[x]] "', "\t"]))))
def test_any_mix_of_values_keeps_the_count(items: list[tuple[int, str, str]]) -> None:
    """Key `k<n>` is written as line n says, whatever stood before it."""
    text = ""
    expected: dict[Path, int] = {}
    for number, (blank, value, comment) in enumerate(items):
        text += "\n" * blank
        expected[f"k{number}",] = text.count("\n") + 1
        text += f"k{number} = {value}{comment}\n"
    tomllib.loads(text)
    assert key_lines(text) == expected
