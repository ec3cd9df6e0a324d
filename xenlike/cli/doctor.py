"""`xenlike doctor`."""

from __future__ import annotations

import typer

from xenlike.cli.options import Json, print_json, stdout
from xenlike.cli.status import FAILED

_COLOURS = {"ok": "green", "limited": "yellow", "missing": "red"}


def doctor(json: Json = False) -> None:
    """Say what this host offers, what it lacks, and what each thing is for.

    Exits with 1 if something is missing without which no machine can start.
    """
    from xenlike.toolstack.doctor import examine, is_ready

    findings = examine()
    ready = is_ready(findings)
    if json:
        print_json({"ready": ready, "findings": findings})
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("", "state", "value", "what for"):
            table.add_column(title, style="dim" if title == "what for" else None)
        for finding in findings:
            colour = "red" if finding.required and finding.state == "missing" else _COLOURS[finding.state]
            table.add_row(finding.name, f"[{colour}]{finding.state}[/]", finding.value, finding.purpose)
        stdout().print(table)
        lacking = [finding.name for finding in findings if finding.required and finding.state == "missing"]
        typer.echo(
            f"\nThis host cannot run machines: {', '.join(lacking)}." if lacking else "\nThis host can run machines."
        )
    if not ready:
        raise typer.Exit(FAILED)
