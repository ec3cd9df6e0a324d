"""Builds the C core as one abi3 extension module, `xenlike._core._xl` (cffi, API mode).

`setup.py` names this file; `python setup.py build_ext --inplace` runs it. The C is in `*.c` and `*.h`
beside it, and every prototype is written once, in `xl_api.h`, for the C compiler and for cffi alike.

`XENLIKE_SANITIZE=address,undefined` in the environment makes a build that checks itself; it is run with
the sanitizer's library preloaded (`tests/core/test_sanitizers.py` shows how).
"""

import os
from pathlib import Path

from cffi import FFI

FOLDER = "xenlike/_core"  # relative to setup.py, as setuptools asks for
HERE = Path(FOLDER)
SOURCES = sorted(f"{FOLDER}/{path.name}" for path in HERE.glob("xl_*.c"))
HEADERS = sorted(f"{FOLDER}/{path.name}" for path in HERE.iterdir() if path.suffix in {".h", ".cdef", ".py"})

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",  # cffi's generated wrappers have some
    "-Wno-missing-field-initializers",
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=return-type",
    "-Werror=uninitialized",
    "-Werror=unused-result",
    "-Werror=vla",
]


def without_preprocessor(text: str) -> str:
    """Returns C text without its preprocessor lines, which cffi's parser does not know."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def builder() -> FFI:
    """Returns the cffi builder that setuptools asks for."""
    compile_args = ["-std=gnu11", "-O2", "-fvisibility=hidden", "-fno-strict-aliasing", *WARNINGS]
    link_args = []
    sanitizers = os.environ.get("XENLIKE_SANITIZE", "")
    if sanitizers:
        flags = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]
        compile_args += [*flags, "-O1"]
        link_args += flags
    made = FFI()
    for name in ("xl_types.cdef", "xl_api.h"):
        made.cdef(without_preprocessor((HERE / name).read_text(encoding="utf-8")))
    made.set_source(
        "xenlike._core._xl",
        '#include "xl_core.h"\n',
        sources=SOURCES,
        depends=HEADERS,
        include_dirs=[FOLDER],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    return made


ffi = builder()
