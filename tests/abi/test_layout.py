"""Law: what we declare is what Xen's public headers declare, to the last byte and number."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.abi.c_compiler import HEADERS, compile_and_run, need
from xenlike.abi import export
from xenlike.abi.layout import FieldLayout, Layout
from xenlike.abi.xen import XEN_ERRNO
from xenlike.abi.xs_wire import XSD_ERRORS

REFERENCE = Path(__file__).parent / "data" / "layout.json"
"""Measured on Xen 4.17's headers by another program."""
SHARED_REFERENCE = Path(__file__).parents[3] / "shared" / "xen" / "layout.json"

# Protocols without a driver here; everything else in the reference must be declared.
NOT_DECLARED = re.compile("xendispl|xen_displ|xensnd|pvcalls|vscsiif|usbif|xen_pci|xencamera|tpmif")

# Numbers of ours between Xen's, which have no macro there.
NOT_IN_C = {
    "XENCONS_IN_SIZE", "XENCONS_OUT_SIZE", "__HYPERVISOR_xenlike_op", "SEGMENTS_PER_INDIRECT_PAGE", "SECTOR_SIZE",
    "REQ_OFFSET", "RSP_OFFSET", "IN_OFFSET", "OUT_OFFSET",
}  # fmt: skip

INCLUDES = (
    "xen.h", "errno.h", "grant_table.h", "event_channel.h", "sched.h", "version.h", "domctl.h", "io/ring.h",
    "io/blkif.h", "io/netif.h", "io/console.h", "io/xs_wire.h", "io/xenbus.h", "io/fbif.h", "io/kbdif.h",
    "io/libxenvchan.h",
)  # fmt: skip


@pytest.fixture(scope="module")
def declared() -> dict[str, int | list[int]]:
    return export.everything()


@pytest.fixture(scope="module")
def structures() -> list[Layout]:
    return [layout for module in export.modules() for layout in export.layouts(module)]


def test_agrees_with_the_reference(declared):
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    expected = {key: value for key, value in reference.items() if not NOT_DECLARED.search(key)}
    assert {key: declared.get(key) for key in expected} == expected
    assert len(expected) >= 230


def test_the_reference_is_not_an_old_copy():
    if not SHARED_REFERENCE.exists():
        pytest.skip("the shared reference is not next to this checkout")
    assert json.loads(REFERENCE.read_text("utf-8")) == json.loads(SHARED_REFERENCE.read_text("utf-8"))


def _has_sign(member: FieldLayout) -> bool:
    """True for integers, but not for those that stand for a pointer in Xen's header."""
    return member.scalar is not None and member.is_scalar and member.name != "frame_list"


def _print(key: str, expression: str) -> str:
    return f'printf("%s\\t%lld\\n", {json.dumps(key)}, (long long)({expression}));'


def _member_prints(layout: Layout, member: FieldLayout) -> list[str]:
    kind, name = layout.c_type, member.c_name
    value = f"(({kind} *)0)->{name}"
    lines = [
        _print(f"{kind}.{name}@", f"offsetof({kind}, {name})"),
        _print(f"{kind}.{name}#", f"sizeof({value})"),
    ]
    if _has_sign(member):
        # Integer promotion would make small unsigned types signed, hence the cast to the type itself.
        lines.append(_print(f"{kind}.{name}<0", f"(__typeof__({value}))-1 < 0"))
    return lines


def _member_values(layout: Layout, member: FieldLayout) -> dict[str, int]:
    key = f"{layout.c_type}.{member.c_name}"
    values = {f"{key}@": member.offset, f"{key}#": member.size}
    if member.scalar is not None and _has_sign(member):
        values[f"{key}<0"] = int(member.scalar.signed)
    return values


def test_agrees_with_the_headers(declared, structures, tmp_path):
    need("/usr/include/xen (Debian: libxen-dev)", HEADERS.is_dir())
    expected: dict[str, int] = {}
    lines: list[str] = []
    theirs = [layout for layout in structures if not export.is_ours(layout.c_type)]
    for layout in theirs:
        expected[f"sizeof({layout.c_type})"] = layout.size
        lines.append(_print(f"sizeof({layout.c_type})", f"sizeof({layout.c_type})"))
        expected[f"alignof({layout.c_type})"] = layout.align
        lines.append(_print(f"alignof({layout.c_type})", f"_Alignof({layout.c_type})"))
        for member in layout.fields.values():
            expected.update(_member_values(layout, member))
            lines += _member_prints(layout, member)
    described = {f"{layout.c_type}.{name}" for layout in theirs for name in (m.c_name for m in layout.fields.values())}
    for key, value in declared.items():
        if export.is_ours(key) or key in NOT_IN_C or key in described or key in expected:
            continue
        if isinstance(value, list):
            kind, name = key.split(".")
            expected |= {f"{key}@": value[0], f"{key}#": value[1]}
            lines += [
                _print(f"{key}@", f"offsetof({kind}, {name})"),
                _print(f"{key}#", f"sizeof((({kind} *)0)->{name})"),
            ]
        else:
            expected[key] = value
            lines.append(_print(key, key))
    for name, value in XEN_ERRNO.items():
        expected[f"XEN_{name}"] = value
        lines.append(_print(f"XEN_{name}", f"XEN_{name}"))
    for index, name in enumerate(XSD_ERRORS):
        lines.append(_print(f"xsd {name}", f'strcmp(xsd_errors[{index}].errstring, "{name}")'))
        expected[f"xsd {name}"] = 0
    includes = "\n".join(f"#include <xen/{name}>" for name in INCLUDES)
    source = f"""
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
{includes}
int main(void) {{
{chr(10).join(lines)}
return 0; }}
"""
    output = compile_and_run(source, tmp_path, "-D__XEN_TOOLS__")
    measured = {key: int(value) for key, value in (line.split("\t") for line in output.splitlines())}
    assert measured == expected
    assert len(expected) > 900


def test_json_is_what_is_declared(declared):
    command = [sys.executable, "-m", "xenlike.abi", "--json"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == declared


def test_members_do_not_overlap_and_numpy_agrees(structures):
    for layout in structures:
        dtype = layout.dtype()
        assert dtype.itemsize == layout.size, layout.c_name
        assert dtype.fields is not None
        for name, member in layout.fields.items():
            kind, offset = dtype.fields[name][:2]
            assert (offset, kind.itemsize) == (member.offset, member.size), (layout.c_name, name)
        if layout.kind == "struct":
            for one, two in itertools.pairwise(layout.fields.values()):
                assert one.offset + one.size <= two.offset, (layout.c_name, two.name)
        assert layout.codec.size == layout.size
