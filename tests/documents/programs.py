"""Programs in documents: what they are, what they print, and what a strict type checker says of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HERE = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MYPYPATH": str(REPOSITORY)}


def blocks(document: str, language: str) -> list[str]:
    """The text of every fenced block of a language."""
    text = (REPOSITORY / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(script: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program in its folder as a user would, with warnings as errors."""
    command_line = [sys.executable, "-W", "error", script.name]
    return subprocess.run(
        command_line, capture_output=True, text=True, check=False, env=HERE, timeout=60, cwd=script.parent
    )


def printed_by(script: Path) -> str:
    """What a program prints that has nothing to complain of."""
    ran = run(script)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def assert_types_are_strict(programs: Iterable[str], folder: Path) -> None:
    """Each program is one file."""
    for number, program in enumerate(programs):
        (folder / f"program{number}.py").write_text(program, "utf-8")
    options = ["--strict", "--no-incremental", "--config-file", os.devnull]
    files = [str(path) for path in sorted(folder.glob("*.py"))]
    assert files
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files], capture_output=True, text=True, check=False, env=HERE
    )
    assert ran.returncode == 0, ran.stdout
