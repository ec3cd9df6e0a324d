"""`python -m xenlike.abi`: prints what is declared, and makes or checks the C header."""

from __future__ import annotations

import argparse
import json
import sys

from xenlike.abi import export, header


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 1 when `--check` finds a stale header."""
    parser = argparse.ArgumentParser(prog="python -m xenlike.abi", description="Xen's ABI as xenlike declares it.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--json", action="store_true", help="print every size, offset and number by its C name")
    action.add_argument("--c-header", action="store_true", help="print the C header of xenlike's own protocols")
    action.add_argument("--write", action="store_true", help="write that header into the source tree")
    action.add_argument("--check", action="store_true", help="fail if the header in the tree is stale")
    action.add_argument("--include-dir", action="store_true", help="print the directory for the compiler's -I")
    given = parser.parse_args(arguments)
    if given.json:
        print(json.dumps(export.everything(), indent=1))
    elif given.c_header:
        print(header.generate(), end="")
    elif given.write:
        print(header.write())
    elif given.include_dir:
        print(header.HEADER.parent)
    elif header.is_stale():
        print(f"{header.HEADER} is stale: run `python -m xenlike.abi --write`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
