"""The `xenlike` command: one module for each group of subcommands.

Modules here import at the top only what every call needs; the rest comes when a command runs, so that `--help` and
shell completion answer at once.
"""

from __future__ import annotations


def main() -> None:
    """Runs the command line of this process, and exits with its status (see `xenlike.cli.status`)."""
    from xenlike.cli.app import app

    app(prog_name="xenlike")
