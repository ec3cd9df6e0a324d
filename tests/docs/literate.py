"""Runs a page: writes the files that it shows, runs its commands in their order, and compares what they print.

    ```console          lines with `$ ` are run; what follows one is expected in its output, line by line, in this order
    ```python, c, toml  is written to the file that its first line names, `# path` or `/* path */`

A line `...` stands for any. Numbers and widths of columns may differ. Blocks without a language are for readers alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\s*$")
_FILE = re.compile(r"^(?:#|/\*|//) ([\w./-]+)(?: \*/)?$")
PATIENCE_S = 240
"""A hang guard for one command."""
AGAIN_S = 60
"""How long a question is asked again whose answer takes a moment to become true."""


@dataclass
class Step:
    """A file to write, or a command to run.

    Attributes:
        line: of the page.
        command: to run, or empty.
        expected: lines of its output.
        file: to write, or empty.
        text: its text.
    """

    line: int
    command: str = ""
    expected: list[str] = field(default_factory=list)
    file: str = ""
    text: str = ""


def steps_of(page: str) -> list[Step]:
    """Returns what a page has its reader do."""
    steps: list[Step] = []
    language: str | None = None
    for number, line in enumerate(page.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is not None:
            language, first = (fence[1] if language is None else None), True
            continue
        if language == "console":
            if line.startswith("$ "):
                steps.append(Step(number, command=line[2:]))
            elif line.strip():
                steps[-1].expected.append(line)
        elif language in ("python", "c", "toml"):
            named = _FILE.match(line) if first else None
            if first:
                assert named is not None, f"line {number}: the block does not say which file it is"
                steps.append(Step(number, file=named[1]))
            steps[-1].text += line + "\n"
            first = False
    return steps


def plain(text: str) -> str:
    """Returns a line without what differs from run to run."""
    text = re.sub(r"\d[\d.,]*", "#", text)
    return re.sub(r"[\s│┃━┼╇]+", " ", text).strip()


def missing(expected: list[str], output: str) -> str | None:
    """Returns the first line that is expected and not there, after those before it."""
    lines = iter([plain(line) for line in output.splitlines()])
    for line in expected:
        if line.strip() != "..." and not any(plain(line) in printed for printed in lines):
            return line
    return None


class Reader:
    """Somebody who does what a page says.

    Args:
        folder: where to begin.
        environment: of the commands.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment

    def follow(self, step: Step) -> None:
        """Takes one step.

        Raises:
            AssertionError: it did not come out as the page says.
        """
        if step.file:
            (self.folder / step.file).write_text(step.text)
            return
        if step.command.startswith("cd "):
            self.folder = Path(os.path.normpath(self.folder / step.command[3:]))
            return
        wrong = self._run(step)
        # Who looks too early looks again: a domain takes a moment to start, and its device to connect.
        given_up_s = time.monotonic() + AGAIN_S
        while wrong and step.command.startswith("xenlike why ") and time.monotonic() < given_up_s:
            wrong = self._run(step)
        assert not wrong, wrong

    def _run(self, step: Step) -> str:
        """Runs a command; returns what is wrong with how it ended or what it printed."""
        ran = subprocess.run(
            ["bash", "-c", step.command],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        where = f"line {step.line}: {step.command}\n{ran.stdout}"
        statuses = [line for line in step.expected if line.startswith("(exit status ")]
        if ran.returncode != (int(statuses[0].split()[2].rstrip(")")) if statuses else 0):
            return f"exit status {ran.returncode} of {where}"
        absent = missing([line for line in step.expected if line not in statuses], ran.stdout)
        return "" if absent is None else f"not printed: {absent!r}\n{where}"
