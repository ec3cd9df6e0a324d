"""Law: `xenlike.h` is what the declarations say, and compiles beside Xen's own headers."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.abi.c_compiler import HEADERS, compile_and_run, need
from xenlike.abi import __main__ as command
from xenlike.abi import export, header


def test_is_not_stale():
    assert header.HEADER.read_text(encoding="utf-8") == header.generate(), "run `python -m xenlike.abi --write`"
    run = subprocess.run([sys.executable, "-m", "xenlike.abi", "--check"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_stale_one_is_noticed(tmp_path, monkeypatch, capsys):
    copy = tmp_path / "include" / "xenlike.h"
    monkeypatch.setattr(header, "HEADER", copy)
    assert command.main(["--check"]) == 1
    assert command.main(["--write"]) == 0
    assert command.main(["--check"]) == 0
    copy.write_text(copy.read_text("utf-8").replace("uint16_t peer", "uint32_t peer"), "utf-8")
    assert command.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err


def test_prints_the_header_and_where_it_is(capsys):
    assert command.main(["--c-header"]) == 0
    assert capsys.readouterr().out == header.generate()
    assert command.main(["--include-dir"]) == 0
    assert capsys.readouterr().out.strip() == str(header.HEADER.parent)


def test_its_layout_is_the_python_layout(tmp_path):
    """The header's static asserts hold, and the compiler sees the sizes that Python has."""
    ours = [
        layout
        for module in export.modules()
        for layout in export.layouts(module)
        if export.is_ours(layout.c_type) and layout.c_name in header.generate()
    ]
    lines = [f'printf("%s %zu\\n", "{layout.c_name}", sizeof({layout.c_tag}));' for layout in ours]
    source = "#include <stdio.h>\n#include <xenlike.h>\nint main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n"
    output = compile_and_run(source, tmp_path, f"-I{header.HEADER.parent}", "-Wpedantic")
    assert dict(line.split() for line in output.splitlines()) == {item.c_name: str(item.size) for item in ours}
    assert {"xenlike_hypercall", "xenlike_start_info", "echoif_request"} <= {item.c_name for item in ours}


def test_stands_beside_xens_headers(tmp_path):
    need("/usr/include/xen (Debian: libxen-dev)", HEADERS.is_dir())
    source = """
#include <stdint.h>
#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/grant_table.h>
#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/io/ring.h>
#include <xen/io/blkif.h>
#include <xen/io/xs_wire.h>
#include <xen/io/console.h>
#include <xenlike.h>
#include <stdio.h>
DEFINE_RING_TYPES(echoif, struct echoif_request, struct echoif_response);
_Static_assert(XENLIKE_HYPERVISOR_grant_table_op == __HYPERVISOR_grant_table_op, "");
_Static_assert(XENLIKE_HYPERVISOR_xenlike_op == __HYPERVISOR_arch_0, "");
_Static_assert(XENLIKE_DOMCTL_createdomain == XEN_DOMCTL_createdomain, "");
int main(void) { printf("%d", (int)__CONST_RING_SIZE(echoif, 4096)); return 0; }
"""
    output = compile_and_run(source, tmp_path, f"-I{header.HEADER.parent}", "-D__XEN_TOOLS__")
    assert output == str(export.everything()["__CONST_RING_SIZE(echoif,4096)"])


def test_is_also_c_plus_plus(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is missing, which nothing else needs")
    source = tmp_path / "program.cc"
    source.write_text("#include <xenlike.h>\nint main() { return 0; }\n", "utf-8")
    options = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    include = f"-I{header.HEADER.parent}"
    built = subprocess.run([compiler, *options, include, source], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
